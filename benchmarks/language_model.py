"""How good is the decomposition of the shipped language model, and does it beat what could be had without training the parts?

Three seeds of the recipe, and a sweep of the pressure to be minimal for three ways of cutting up the same matrices under the same masks and losses: learned
subcomponents, the neurons (and head channels) as they are, and random directions in the place of the neurons. The last two leave their parts as they
start and learn only which of them an input needs. Each run is a run folder; a finished one is taken over, an interrupted one goes on.

Writes language_model.json, the tables between the marks of the pages, and the figure of the front.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT, provenance, write_between
from unbraid.decompose.front import Point, beats, compare_fronts
from unbraid.decompose.likeness import compare_all
from unbraid.decompose.load import load
from unbraid.decompose.plot_front import plot_front
from unbraid.targets.models.shipped import shipped_folder, shipped_training

PRESET = "vpd-lm-small"
COEFFICIENT = "losses.minimality.coefficient"
SWEEP = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
UNITS = '{"*.o_proj": input, "*.down_proj": input, "*": output}'
WAYS = {
    # 256 in the place of the 384 that the preset suggests for the MLP keeps a run near half an hour; most of them are alive, so more might be used.
    "learned": ('components={"*": 96, "*.up_proj": 256, "*.down_proj": 256}',),
    "neurons": ("components=suggested", f"initialisation={{kind: nonlinearity-aligned, units: {UNITS}}}"),
    "random directions": ("components=suggested", f"initialisation={{kind: random-rotation, units: {UNITS}}}"),
}
FROZEN = ("optimizer.factors.learning_rate=0", "warmup.steps=0", "losses.faithfulness=null")
PUBLISHED = {"ce_unmasked": 0.01, "ce_stoch_masked": 0.13, "ce_rounded_masked": 0.28, "kl_pgd_20": 1.0}
STOPPED = threading.Event()
KEYS = ("l0_total", "kl_stoch_masked", "kl_ci_masked", "kl_rounded_masked", *PUBLISHED, "ce_target", "faithfulness")


@dataclass(frozen=True)
class Run:
    """One run: its way of cutting up the model, its seed and its pressure; None is the recipe's own."""

    way: str
    seed: int
    coefficient: float | None

    @property
    def name(self) -> str:
        """Its folder."""
        pressure = "recipe" if self.coefficient is None else f"{self.coefficient:g}"
        return f"{self.way.replace(' ', '-')}-{pressure}-seed{self.seed}"

    def settings(self) -> list[str]:
        """Return what is laid over the preset."""
        pressure = [] if self.coefficient is None else [f"{COEFFICIENT}={self.coefficient:g}"]
        return [*WAYS[self.way], *(() if self.way == "learned" else FROZEN), *pressure]


def main() -> None:
    """Make the runs that are missing, and write what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="carroll")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=None, help="instead of the preset's; every schedule spans them")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "language-model")
    parser.add_argument("--tables-only", action="store_true", help="measure nothing; write the tables from the file that is there")
    parser.add_argument("--made-at", metavar="COMMIT", nargs="+", help="the commits whose code made the runs, where it is not this one")
    parser.add_argument("--ship", action="store_true", help="also put seed 0 of the recipe into the package, for unbraid.load")
    parser.add_argument("--as-is", action="store_true", help="measure nothing; write what is finished, and name what is missing")
    arguments = parser.parse_args()
    out = ROOT / "benchmarks" / "language_model.json"
    if not arguments.tables_only:
        runs = planned(arguments.seeds)
        if not arguments.as_is:
            with ThreadPoolExecutor(arguments.jobs) as pool:
                list(pool.map(lambda run: make(run, arguments.model, arguments.folder, arguments.steps), runs))
        rows = [row for run in runs if (row := read(run, arguments.folder)) is not None]
        missing = [run.name for run in runs if not (arguments.folder / run.name / "scorecard.json").exists()]
        tree = {**provenance(), "model": arguments.model, "preset": PRESET, "missing": missing, "runs": rows}
        tree |= {"commit": ", ".join(commit[:10] for commit in arguments.made_at)} if arguments.made_at else {}
        tree["seed_test"] = seed_test([arguments.folder / run.name for run in runs[: arguments.seeds] if run.name not in missing])
        out.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
        print(f"{len(rows)} runs; missing: {', '.join(missing) or 'none'}")
        if arguments.ship:
            ship(arguments.folder / runs[0].name, arguments.model)
    write_tables(json.loads(out.read_text(encoding="utf-8")))


def planned(seeds: int) -> list[Run]:
    """Return every run, the recipe's seeds first."""
    recipe = [Run("learned", seed, None) for seed in range(seeds)]
    return [*recipe, *(Run(way, 0, coefficient) for coefficient in SWEEP for way in WAYS)]


def make(run: Run, model: str, folder: Path, steps: int | None) -> None:
    """Make one run with the command that a person would type, or go on with it."""
    place = folder / run.name
    if STOPPED.is_set() or (place / "scorecard.json").exists():
        return
    command = [sys.executable, "-m", "unbraid", "decompose"]
    if (place / "config.yaml").exists():
        command += ["--resume", str(place)]
    else:
        command += [model, "--preset", PRESET, "--seed", str(run.seed), "--out", str(place)]
        command += [word for setting in run.settings() for word in ("--set", setting)]
        command += ["--steps", str(steps)] if steps else []
    place.mkdir(parents=True, exist_ok=True)
    with (folder / f"{run.name}.log").open("a", encoding="utf-8") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        code = subprocess.run([*command, "--no-report"], stdout=log, stderr=log, env=environment, check=False).returncode
    if code < 0 or code > 128:  # a signal: whoever sent it wants no other run to begin
        STOPPED.set()
    print(f"{run.name}: {'done' if code == 0 else f'stopped with {code}, see its log'}", flush=True)


def read(run: Run, folder: Path) -> dict[str, Any] | None:
    """Return what a finished run says of itself; None where it is not finished."""
    place = folder / run.name
    if not (place / "scorecard.json").exists():
        return None
    lines = {line["key"]: line for line in json.loads((place / "scorecard.json").read_text(encoding="utf-8"))["lines"]}
    wanted = [key for key in lines if key in KEYS or key.startswith("kl_pgd_")]
    cost = json.loads((place / "env.json").read_text(encoding="utf-8")).get("cost", {})
    return {
        "way": run.way,
        "seed": run.seed,
        "coefficient": run.coefficient,
        "cpu_seconds": cost.get("cpu_seconds"),
        "steps": cost.get("steps"),
        "lines": {key: {name: lines[key][name] for name in ("value", "passed", "nulls")} for key in wanted},
    }


def seed_test(folders: list[Path]) -> list[dict[str, Any]]:
    """Compare the parts of every two seeds."""
    return [pair.tree() for pair in compare_all([load(folder) for folder in folders])]


def ship(run: Path, model: str) -> None:
    """Put a run's product and its scorecard where `unbraid.load` looks for them."""
    place = shipped_folder() / model / "decomposition"
    place.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "model.safetensors", "manifest.json", "scorecard.json", "metrics.jsonl", "env.json"):
        shutil.copy(run / name, place / name)


def write_tables(tree: dict[str, Any]) -> None:
    """Write the tables and the figure."""
    page = ROOT / "docs" / "language-models.md"
    write_between(page, "curve", curve_table(tree["model"]))
    write_between(page, "seeds", seed_table(tree))
    write_between(page, "front", front_table(tree))
    write_between(ROOT / "README.md", "language-model", seed_table(tree))
    fronts = points(tree)
    if any(fronts.values()):
        drawn = plot_front({way: found for way, found in fronts.items() if found}, f"{tree['model']}: parts against behaviour")
        drawn.save(ROOT / "docs" / "figures", "language-model-front")


def curve_table(model: str) -> str:
    """Write how good each stage of the model's training is."""
    stages = shipped_training(model)
    rows = ["| tokens of training | " + " | ".join(f"{tokens:,.0f}" for tokens, _ in stages) + " |", "|---|" + "---|" * len(stages)]
    return "\n".join([*rows, "| held-out cross-entropy, nats per token | " + " | ".join(f"{value:.2f}" for _, value in stages) + " |"])


def seed_table(tree: dict[str, Any]) -> str:
    """Write one row per line of the scorecard, one column per seed of the recipe."""
    runs = [row for row in tree["runs"] if row["coefficient"] is None]
    if not runs:
        return "Not measured yet."
    titles = {
        "ce_unmasked": "cross-entropy above the model's own, nats: without Δ",
        "ce_stoch_masked": "… random ablation",
        "ce_rounded_masked": "… importances rounded at 0.1",
        "l0_total": "subcomponents that a position needs (L0)",
    }
    titles |= {
        key: f"KL to a fresh shared adversary of {key.removeprefix('kl_pgd_')} steps, nats" for key in runs[0]["lines"] if "pgd" in key
    }
    head = " | ".join(f"seed {row['seed']}" for row in runs)
    rows = [f"| line | bar | {head} |", "|---|---|" + "---|" * len(runs)]
    for key, title in titles.items():
        bar = f"≤ {PUBLISHED[key]:g}" if key in PUBLISHED else ""
        rows.append(f"| {title} | {bar} | " + " | ".join(f"{row['lines'][key]['value']['value']:.3f}" for row in runs) + " |")
    for pair in tree.get("seed_test", []):
        total, names = pair["total"], " and ".join(name.rpartition(" ")[2] for name in pair["runs"])
        titles_of = (("reads", "V"), ("writes", "U"), ("pieces", "V U"), ("chance", "V U by chance"))
        scores = ", ".join(f"{title} {total[key]:.2f}" for key, title in titles_of)
        rows.append(
            f"| largest cosine with a part of the other seed, mean over alive parts, seeds {names} | | {scores} |" + " |" * (len(runs) - 1)
        )
    cost = " | ".join(f"{row['cpu_seconds']:,.0f}" if row["cpu_seconds"] else "–" for row in runs)
    rows.append(f"| CPU-seconds, one thread | | {cost} |")
    return "\n".join([*rows, "", source(tree)])


def points(tree: dict[str, Any]) -> dict[str, list[Point]]:
    """Return each way's runs as parts against KL under random masks."""
    found: dict[str, list[Point]] = {way: [] for way in WAYS}
    for row in tree["runs"]:
        if row["coefficient"] is not None:
            value = {key: row["lines"][key]["value"]["value"] for key in ("l0_total", "kl_stoch_masked")}
            found[row["way"]].append(Point(value["l0_total"], value["kl_stoch_masked"], f"{row['coefficient']:g}"))
    return found


def front_table(tree: dict[str, Any]) -> str:
    """Write how many parts each way needs at each KL that two of them reach."""
    fronts = points(tree)
    rows = ["| compared with | KL under random masks, nats | parts, learned | parts, theirs |", "|---|---|---|---|"]
    verdicts: list[str] = []
    for way in list(WAYS)[1:]:
        for each in compare_fronts(fronts["learned"], fronts[way]):
            rows.append(f"| {way} | {each.lost:.3f} | {each.ours:.0f} | {each.theirs:.0f} |")
        verdicts.append(f"{way}: {'beaten at every KL' if beats(fronts['learned'], fronts[way]) else 'not beaten at every KL'}")
    steps = sorted({row["steps"] for row in tree["runs"] if row["coefficient"] is not None})
    length = f" Each run took {' or '.join(f'{count:,}' for count in steps)} steps." if steps else ""
    return "\n".join([*rows, "", f"{'; '.join(verdicts)}.{length} {source(tree)}"])


def source(tree: dict[str, Any]) -> str:
    """Say where the numbers come from."""
    environment = tree["environment"]
    count = len(tree["missing"])
    missing = f" Not measured yet: {count} of {count + len(tree['runs'])} runs (language_model.json names them)." if count else ""
    return (
        f"Held-out text of `{tree['model']}`, recipe `{tree['preset']}`. Measured {tree['time']} at commit {tree['commit'] if ',' in tree['commit'] else tree['commit'][:10]}, "
        f"torch {environment['versions']['torch']}, {environment['system']}.{missing}"
    )


if __name__ == "__main__":
    main()

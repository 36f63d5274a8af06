"""What does the instrument say of stable regions today? Every measurement of docs/stable-regions.md, made by the commands that a person would type.

Each is a folder; one that is there is taken over. Writes stable_regions.json and the tables between the marks of the page. SmolLM2 and glassllm are
measured where their folders, and for SmolLM2 a text, are given.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT, measured, provenance, write_between
from unbraid.decompose.subject import oracle
from unbraid.stability.explain.config import ExplainConfig
from unbraid.stability.explain.result import ExplainResult
from unbraid.stability.explain.verb import explain_subject
from unbraid.stability.path.result import PathResult
from unbraid.stability.path.training import TrainingResult
from unbraid.stability.radius.result import RadiusResult
from unbraid.stability.radius.summary import TIMES
from unbraid.stability.regions.result import RegionsResult
from unbraid.targets.toy import load_target

PAGE = ROOT / "docs" / "stable-regions.md"
DENOISER = ["radius", "denoiser", "--directions", "random,features,features-rotated"]
DENOISERS = {
    "": [],
    "-seed1": ["--set", "seed=1"],
    "-seed2": ["--set", "seed=2"],
    "-weights1": ["--set", "target.seed=1"],
    "-weights2": ["--set", "target.seed=2"],
    "-noisy": ["--inputs", "noisy"],
    "-noisy-seed1": ["--inputs", "noisy", "--set", "seed=1"],
    "-noisy-seed2": ["--inputs", "noisy", "--set", "seed=2"],
    "-sparser": ["--set", "target.density=0.1"],
    "-jumprelu": ["--set", "target.activation=jumprelu"],
    "-jumprelu-threshold": ["--set", "target.activation=jumprelu", "--set", "planes_at=threshold"],
    "-1024": ["--set", "target.n_features=1024", "--set", "target.neurons=256", "--set", "target.density=0.1"],
    "-2048": ["--set", "target.n_features=2048", "--set", "target.neurons=512", "--set", "target.density=0.05"],
}
"""Seeds of the measurement, other weights, with the noise, and other shapes of the toy; the last two are shapes of the published table."""
FEWER = [
    "--anchors",
    "20",
    "--rays",
    "8",
    "--set",
    "planes=10",
    "--set",
    "mixtures=[2]",
    "--set",
    "inradius_steps=0",
    "--set",
    "thickness_rays=0",
]
"""What a model of 135 million parameters affords in minutes."""
COMMANDS: dict[str, list[str]] = {
    "path-carroll": ["path", "carroll", "--site", "model.embed_tokens", "--context", "16"],
    "path-denoiser": ["path", "denoiser"],
    "path-superposed-blocks": ["path", "superposed-blocks"],
    "path-tms-40-10": ["path", "tms-40-10"],
    "training-carroll": ["training", "carroll", "--site", "model.embed_tokens", "--context", "16"],
    "radius-carroll": ["radius", "carroll", "--directions", "random,difference,pca,components:carroll"],
    **{f"radius-denoiser{name}": [*DENOISER, *options] for name, options in DENOISERS.items()},
    "explain-carroll": ["explain", "carroll", "--pairs", "20"],
    "explain-carroll-seed1": ["explain", "carroll", "--pairs", "20", "--seed", "1"],
    "regions-carroll": ["regions", "carroll", "--components", "carroll"],
    **{f"regions-carroll-seed{seed}": ["regions", "carroll", "--components", "carroll", "--seed", str(seed)] for seed in (1, 2, 3)},
}


def main() -> None:
    """Make the measurements that are missing, and write what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "stable-regions")
    parser.add_argument("--smollm2", type=Path, help="the folder of SmolLM2-135M")
    parser.add_argument("--text", type=Path, help="text for it")
    parser.add_argument("--glassllm", type=Path, help="the folder of glassllm")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--made-at", metavar="COMMIT", help="the commit whose code made the measurements, where it is not this one")
    parser.add_argument("--only", metavar="GLOB", default="*", help="measure these; take the others over from stable_regions.json")
    parser.add_argument("--as-is", action="store_true", help="measure nothing; write what is finished")
    arguments = parser.parse_args()
    commands = dict(COMMANDS)
    if arguments.glassllm:
        commands["path-glassllm"] = ["path", str(arguments.glassllm)]
    if arguments.smollm2:
        commands["path-smollm2-135m"] = ["path", str(arguments.smollm2), "--text", str(arguments.text), "--pairs", "200", "--site", "0"]
        commands["radius-smollm2-135m"] = ["radius", str(arguments.smollm2), "--text", str(arguments.text), "--site", "0", *FEWER]
        commands["radius-smollm2-135m-near"] = [*commands["radius-smollm2-135m"], "--directions", "random", "--set", "share=0.2"]
    if not arguments.as_is:
        for name, command in commands.items():
            if fnmatch(name, arguments.only):
                make(arguments.folder / name, command, arguments.threads)
        if fnmatch("explain-denoiser", arguments.only):
            make_toy(arguments.folder / "explain-denoiser")
    tree = {**provenance(), **gathered(arguments.folder, arguments.only)}
    tree |= {"commit": arguments.made_at} if arguments.made_at else {}
    kept = ROOT / "benchmarks" / "stable_regions.json"
    if arguments.only != "*":
        tree = taken_over(json.loads(kept.read_text(encoding="utf-8")), tree, arguments.only)
    kept.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    write_tables(tree, arguments.folder)


def make(place: Path, command: list[str], threads: str) -> None:
    """Run one command, and keep how long it took beside what it wrote."""
    if (place / "seconds.json").exists():
        return
    shutil.rmtree(place, ignore_errors=True)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "unbraid", "stability", *command, "--out", str(place), "--json"],
        env=environment,
        check=False,
        stdout=subprocess.DEVNULL,
    )
    if done.returncode == 0:
        said = [word if not Path(word).is_absolute() else Path(word).name for word in command]
        cost = {"seconds": time.perf_counter() - start, "threads": int(threads), "command": said}
        (place / "seconds.json").write_text(json.dumps(cost), encoding="utf-8")
    print(f"{place.name}: {time.perf_counter() - start:.0f} s, code {done.returncode}", flush=True)


def make_toy(place: Path) -> None:
    """Ask which planted pieces make the denoiser's curves sharp; a toy's truth is no run, so that there is no command for it."""
    if (place / "seconds.json").exists():
        return
    target = load_target("denoiser")
    assert target.truth is not None
    start = time.perf_counter()
    result = explain_subject(oracle(target, target.truth), target, ExplainConfig(pairs=40))
    result.save_pretrained(place)
    cost = {"seconds": time.perf_counter() - start, "threads": 1, "command": ["explain", "the planted pieces of the denoiser"]}
    (place / "seconds.json").write_text(json.dumps(cost), encoding="utf-8")


def taken_over(before: dict[str, Any], tree: dict[str, Any], only: str) -> dict[str, Any]:
    """Return what was measured before with some measurements made again, each of which says when and from which commit."""
    made = {key: tree[key] for key in ("commit", "uncommitted_changes", "time", "environment")}
    rest = {name: one for name, one in before["measurements"].items() if not fnmatch(name, only)}
    again = {name: {**one, "made": made} for name, one in tree["measurements"].items()}
    return {**before, "measurements": dict(sorted({**rest, **again}.items()))}


def gathered(folder: Path, only: str = "*") -> dict[str, Any]:
    """Return what every finished measurement says of itself."""
    found: dict[str, Any] = {}
    kinds = {"path": PathResult, "training": TrainingResult, "radius": RadiusResult, "explain": ExplainResult, "regions": RegionsResult}
    for place in sorted(folder.glob("*")):
        if (place / "seconds.json").exists() and fnmatch(place.name, only):
            result = kinds[place.name.split("-")[0]].from_pretrained(place)
            facts = result.tree()
            if isinstance(result, RadiusResult):
                facts = {"target": result.target, "where": result.where, "units": dict(result.units), **result.facts()}
                facts["untrained"] = None if result.control is None else result.control.facts()
            if isinstance(result, PathResult) and (blocks := [name for name in result.populations if name.startswith("block ")]):
                straight = result.width(blocks[-1], "final")
                facts["last_site_read_there"] = None if straight is None else {**vars(straight)}
            found[place.name] = {**json.loads((place / "seconds.json").read_text(encoding="utf-8")), "result": facts}
    return {"measurements": found}


def write_tables(tree: dict[str, Any], folder: Path) -> None:
    """Write every table of the page, and copy its figures."""
    found = tree["measurements"]
    write_between(PAGE, "paths", path_table({name: one for name, one in found.items() if name.startswith("path-")}) + source(tree))
    if "training-carroll" in found:
        write_between(PAGE, "training", training_table(found["training-carroll"]["result"]) + source(tree))
    radii = {name: one for name, one in found.items() if name.startswith("radius-") and not name.startswith("radius-denoiser")}
    write_between(PAGE, "radii", radius_table(radii) + source(tree, radii))
    planted = {name: one for name, one in found.items() if name.startswith("radius-denoiser")}
    write_between(PAGE, "denoiser", denoiser_table(planted) + source(tree, planted))
    write_between(PAGE, "shares", share_table({name: one for name, one in found.items() if name.startswith("explain-")}) + source(tree))
    on_carroll = {name: one for name, one in found.items() if name.startswith("explain-carroll")}
    if on_carroll:
        write_between(PAGE, "switches", fact_table(on_carroll) + source(tree))
    write_between(PAGE, "regions", region_table({name: one for name, one in found.items() if name.startswith("regions-")}) + source(tree))
    (ROOT / "docs" / "figures").mkdir(exist_ok=True)
    for name, figure in (("training-carroll", "training"), ("path-smollm2-135m", "curves"), ("explain-carroll", "shares")):
        for suffix in ("svg", "json"):
            if (folder / name / f"{figure}.{suffix}").is_file():
                shutil.copy(folder / name / f"{figure}.{suffix}", ROOT / "docs" / "figures" / f"stable-{name}.{suffix}")


def path_table(found: dict[str, Any]) -> str:
    """One row per model: the width, and the width under each control that speaks about why."""
    names = ("model", "untrained", "covariance", "frozen mlp", "frozen attention", "frozen norm")
    rows = [
        "| model, site | pairs | " + " | ".join(names) + " | last site | last site, read there | lenient plateaus | seconds (threads) |",
        "|---" * (len(names) + 6) + "|",
    ]
    for one in found.values():
        result = one["result"]
        by_name = {row["condition"]: row for row in result["rows"]}
        last = [name for name in by_name if name.startswith("block ")][-1:]
        cells = [estimate(by_name[name]["width"]) if name in by_name else "–" for name in (*names, *(last or ["none"]))]
        cells.append(estimate(result.get("last_site_read_there"), 3))
        own = by_name["model"]
        cost = "–" if one["seconds"] is None else f"{one['seconds']:.0f} ({one['threads']})"
        said = f"{result['target']}, {result['place']}"
        rows.append(f"| {said} | {own['pairs']} | " + " | ".join(cells) + f" | {own['lenient'] / own['pairs']:.0%} | {cost} |")
    return "\n".join(rows)


def training_table(result: dict[str, Any]) -> str:
    """One row per checkpoint."""
    rows = ["| checkpoint | width, median of the same pairs |", "|---|---|"]
    rows += [f"| {row['checkpoint']} | {estimate(row['width'], 3)} (n = {row['defined']}) |" for row in result["rows"]]
    return "\n".join([*rows, "", result["verdict"]])


def radius_table(found: dict[str, Any]) -> str:
    """One row per family of directions, and the untrained model's below."""
    rows = [
        "| model | threshold | directions | censored | median radius | over the null's | progress half way | plateaus | exponent p |",
        "|---" * 9 + "|",
    ]
    for one in found.values():
        result = one["result"]
        untrained = (result.get("untrained") or {}).get("radii", [])
        for row in [*result["radii"], *({**row, "family": f"{row['family']}, untrained"} for row in untrained)]:
            plane = result.get("planes", {}).get(row["family"], {}) if row["threshold"] == result["radii"][0]["threshold"] else {}
            plateaus = "–" if not row["plateaus"] else "{value:.0%} [{low:.0%}, {high:.0%}]".format(**row["plateaus"])
            rows.append(
                f"| {result['target']} | {row['threshold']} | {row['family']} | {row['censored']} of {row['rays']} | "
                f"{estimate(row['median'])} | {estimate(row[TIMES])} | {estimate(row['halfway'])} | {plateaus} | {estimate(plane.get('p'))} |"
            )
    return "\n".join(rows)


def denoiser_table(found: dict[str, Any]) -> str:
    """One row per run and family of directions: the exponent, and the radii at both thresholds."""
    columns = ("censored", "median radius", "over the null's")
    rows = [
        "| denoiser | directions | exponent p | "
        + " | ".join(f"{unit}: {column}" for unit in ("half of one feature", "half of two answers' distance") for column in columns)
        + " |",
        "|---" * 9 + "|",
    ]
    for name in ("radius-denoiser" + name for name in DENOISERS):
        if name not in found:
            continue
        result = found[name]["result"]
        said = ", ".join([result["target"], result["where"].partition(", ")[2], *(["seed " + name[-1]] if "-seed" in name else [])])
        said += ", p at the radii's threshold" if name.endswith("-threshold") else ""
        for family in dict.fromkeys(row["family"] for row in result["radii"]):
            by_threshold = {row["threshold"]: row for row in result["radii"] if row["family"] == family}
            cells = [
                f"{row['censored']} of {row['rays']} | {estimate(row['median'])} | {estimate(row[TIMES])}" for row in by_threshold.values()
            ]
            rows.append(f"| {said} | {family} | {estimate(result['planes'][family]['p'])} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def share_table(found: dict[str, Any]) -> str:
    """One row per part of the model whose share was measured."""
    rows = ["| pairs of | part | share of the sharpness | random parts, as many |", "|---|---|---|---|"]
    for name, one in found.items():
        result = one["result"]
        for row in result["shares"]:
            rows.append(f"| {name.removeprefix('explain-')} | {row['name']} | {estimate(row['share'])} | {estimate(row['size'])} |")
        for row in result["fair"]:
            rows.append(
                f"| {name.removeprefix('explain-')} | {row['name']}, over all orders of removal | {estimate(row['share'])} | {estimate(row['size'])} |"
            )
        for kind, left in result["residuals"].items():
            rows.append(f"| {name.removeprefix('explain-')} | what the shares of {kind} leave of 1 | {estimate(left)} | |")
    return "\n".join(rows)


def fact_table(found: dict[str, Any]) -> str:
    """One row per question about when parts switch and whether the active ones are enough, one pair of columns per run."""
    runs = [one["result"] for one in found.values()]
    names = [name.removeprefix("explain-") for name in found]
    rows = ["| question | beside | " + " | ".join(f"{name} | its null" for name in names) + " |", "|---|---" + "|---|---" * len(runs) + "|"]
    for key, first in runs[0]["facts"].items():
        cells = [f"{estimate(run['facts'][key]['value'])} | {estimate(run['facts'][key]['null'])}" for run in runs]
        rows.append(f"| {first['question']} | {first['against'] or '–'} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def region_table(found: dict[str, Any]) -> str:
    """One row per context: how flat paths are beside the untrained model's, and what else sorts the anchors alike."""
    others = ("importance", "gates", "density", "last token", "prediction")
    rows = [
        "| context | regions | near an end's answer, share of a path | untrained | paths with two plateaus | "
        + " | ".join(f"ARI with {name}" for name in others)
        + " |",
        "|---" * (5 + len(others)) + "|",
    ]
    for name, one in found.items():
        numbers, agreement = one["result"]["numbers"], one["result"]["agreement"]
        own = numbers["model"]
        cells = [estimate((agreement.get(other) or {}).get("ari")) for other in others]
        flats = f"{estimate(own['flat'], 3)} | {estimate(numbers['untrained']['flat'], 3)}"
        rows.append(
            f"| {name.removeprefix('regions-')} | {own['regions']:.0f} | {flats} | {own['plateaus']['value']:.0%} of {own['plateaus']['n']} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(rows)


def estimate(value: dict[str, Any] | None, digits: int = 2) -> str:
    """Write a number with its interval."""
    if not value or value.get("value") is None:
        return "undefined" if value is not None else "–"
    if value["low"] is None:
        return f"{value['value']:.{digits}f} (n = {value['n']})"
    return f"{value['value']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def source(tree: dict[str, Any], found: dict[str, Any] | None = None) -> str:
    """Say where the numbers come from: all of them together, or those that were made again."""
    made = {one["made"]["commit"]: one["made"] for one in (found or {}).values() if "made" in one}
    each = [measured(one) for one in made.values() or [tree]]
    return "\n\nMedians with 95 % intervals over pairs or anchors. " + " ".join(each)


if __name__ == "__main__":
    main()

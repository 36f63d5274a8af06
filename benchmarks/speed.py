"""What does a step cost, beside the same maths written plainly, and what a whole run? Both steps are timed in turns in one process per toy.

Writes speed.json, and from it the README's table; a measurement of some toys only is printed and changes no file. The whole run is
that of seed 0 under runs/verify, which is made if `make verify` has not made it from the same code; with --runs-from-verify it is the
median of recovery.json, whatever code that was measured with.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT, provenance, write_between
from unbraid.core.devices import keep_freed_memory, peak_memory_mb, set_waiting_policy, use_threads
from unbraid.verify.verb import VerifyConfig, verify

TOYS = {"tms-5-2": 200, "tms-5-2-id": 200, "tms-40-10": 60, "tms-40-10-id": 60, "residual-mlp-1": 30}


def main() -> None:
    """Measure every toy and write the file and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(TOYS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "speed.json")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="the file whose table is rewritten")
    parser.add_argument(
        "--step-only", action="store_true", help="time one toy's step in this process and print it (used by the command itself)"
    )
    parser.add_argument("--runs-from-verify", action="store_true", help="take the whole runs from recovery.json instead of making them")
    parser.add_argument("--table-only", action="store_true", help="measure nothing; write the table from the file that is there")
    arguments = parser.parse_args()
    if arguments.step_only:
        set_waiting_policy()
        keep_freed_memory()
        use_threads(1)
        print(json.dumps(measure(arguments.names[0], TOYS[arguments.names[0]], arguments.rounds)))
        return
    if not arguments.table_only:
        runs = verified_runs if arguments.runs_from_verify else whole_run
        results = {name: {**step_of(name, arguments.rounds), **runs(name)} for name in arguments.names}
        if set(results) != set(TOYS):
            print(json.dumps(results, indent=2))
            return
        arguments.out.write_text(json.dumps({**provenance(), "threads": 1, "results": results}, indent=2) + "\n", encoding="utf-8")
    write_between(arguments.readme, "speed", table(json.loads(arguments.out.read_text(encoding="utf-8"))))
    print(f"The numbers are in {arguments.out}, the table in {arguments.readme}.")


def step_of(name: str, rounds: int) -> dict[str, Any]:
    """Measure one toy's step in a process of its own, so that its memory is its own too."""
    command = [sys.executable, "-m", "benchmarks.speed", name, "--rounds", str(rounds), "--step-only"]
    return json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)


def whole_run(name: str) -> dict[str, Any]:
    """Return what a whole run of seed 0 cost, from the start of its process to its scorecard."""
    run = verify([name], VerifyConfig(seeds=1, controls=False), ROOT / "runs" / "verify").records[0]
    return {"run_cpu_seconds": run["cpu_seconds"], "run_peak_memory_mb": run["peak_memory_mb"], "run_passed": run["passed"]}


def verified_runs(name: str) -> dict[str, Any]:
    """Return what whole runs cost when `make verify` was last run, with the commit that it measured."""
    tree = json.loads((ROOT / "benchmarks" / "recovery.json").read_text(encoding="utf-8"))
    entry = next(row for row in tree["toys"] if row["title"] == name)
    return {
        "run_cpu_seconds": entry["cpu_seconds"],
        "run_peak_memory_mb": entry["peak_memory_mb"],
        "run_passed": entry["found"] == entry["seeds"],
        "run_commit": tree["commit"],
    }


def table(tree: dict[str, Any]) -> str:
    """Write the README's table."""
    rows = [
        "| toy | engine, ms per step | plain, ms per step | ratio | whole run, CPU-seconds | whole run, peak MB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, entry in tree["results"].items():
        engine, plain = (entry[f"{key}_ms_per_step"] for key in ("engine", "plain"))
        whole = f"{entry['run_cpu_seconds']:.0f}{'' if entry['run_passed'] else ' (not found)'}"
        rows.append(f"| {name} | {engine:.2f} | {plain:.2f} | {entry['ratio']:.2f} | {whole} | {entry['run_peak_memory_mb']:.0f} |")
    rounds = sorted({entry["rounds"] for entry in tree["results"].values()})
    environment = tree["environment"]
    state = " with uncommitted changes" if tree["uncommitted_changes"] else ""
    source = (
        f"CPU time, median of {' or '.join(str(n) for n in rounds)} rounds in which both were timed in turns; the ratio, "
        "engine over plain, is the median of the "
        "rounds' ratios. A whole run is by the command line, from the start of its process to the scorecard. "
        f"Measured {tree['time']} at commit {(tree['commit'] or 'unknown')[:10]}{state}, Python {environment['python']}, "
        f"torch {environment['versions']['torch']}, threads: {tree['threads']}, {environment['system']}."
    )
    return "\n".join([*rows, "", source])


def measure(name: str, steps: int, rounds: int) -> dict[str, float]:
    """Time the engine's and the plain step in turns; return the medians in milliseconds of CPU, and their ratio."""
    from benchmarks.plain import PlainTraining
    from unbraid.decompose.loop import Watch, train
    from unbraid.decompose.preset import resolve
    from unbraid.decompose.training import prepare
    from unbraid.targets.toy import load_target

    target = load_target(name)
    config = resolve(name, overrides=["warmup.steps=0", "prune=null", "starts=null"])
    short = config.model_copy(update={"steps": steps})
    training, plain = prepare(target, short), PlainTraining(target, short)
    watch = Watch(lambda step, metrics: None, lambda state: None, lambda: False)

    def engine() -> None:
        training.step = 0
        train(training, target, short, watch)

    def plainly() -> None:
        for index in range(steps):
            plain.step(index)

    times: dict[str, list[float]] = {"engine": [], "plain": []}
    for _ in range(rounds + 1):
        for key, run in (("engine", engine), ("plain", plainly)):
            start = time.process_time()
            run()
            times[key].append((time.process_time() - start) / steps * 1e3)
    engine_ms, plain_ms = (statistics.median(times[key][1:]) for key in ("engine", "plain"))
    ratios = [a / b for a, b in zip(times["engine"][1:], times["plain"][1:], strict=True)]
    return {
        "engine_ms_per_step": round(engine_ms, 3),
        "plain_ms_per_step": round(plain_ms, 3),
        "ratio": round(statistics.median(ratios), 3),
        "rounds": rounds,
        "steps_per_round": steps,
        "peak_memory_mb": round(peak_memory_mb(), 1),
    }


if __name__ == "__main__":
    main()

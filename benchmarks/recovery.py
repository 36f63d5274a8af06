"""Is the planted truth found, at every seed? Decomposes each toy by its shipped recipe at seeds 0-4 and writes recovery.json and the README's table.

Interrupt it and run it again: finished runs of the same code are taken over, and an unfinished one goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.controls import stopped_early
from benchmarks.runs import ROOT, TOYS, all_runs, provenance, write_between

BUDGET_CPU_SECONDS = {"tms-5-2": 30, "tms-5-2-id": 60, "tms-40-10": 250, "tms-40-10-id": 400, "residual-mlp-1": 1500}


def main() -> None:
    """Run what is missing and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(TOYS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "verify")
    arguments = parser.parse_args()
    results = all_runs(tuple(arguments.names), range(arguments.seeds), arguments.folder, arguments.jobs)
    names = [name for name in TOYS if name in arguments.names]
    summary = {name: summarise(name, [r for r in results if r["target"] == name]) for name in names}
    for name in names:
        summary[name]["controls"] |= {"stopped at 5 % of its steps": stopped_early(name, 0.05)}
    tree = {**provenance(), "summary": summary, "runs": results}
    (ROOT / "benchmarks" / "recovery.json").write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    write_between(ROOT / "README.md", "recovery", table(tree))
    print("Wrote benchmarks/recovery.json and the table in README.md.")


def summarise(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Put one toy's seeds together: how many passed, medians, the range of each key line, and which lines the nulls fail."""
    seconds = [run["cpu_seconds"] for run in runs]
    keys = [key for key in ("identity_error", "dense_error", "mmcs", "ml2r", "stoch_masked", "pgd_20") if key in runs[0]["values"]]
    return {
        "seeds": [run["seed"] for run in runs],
        "passed": sum(run["passed"] for run in runs),
        "cpu_seconds_median": statistics.median(seconds),
        "cpu_seconds": seconds,
        "cpu_seconds_budget": BUDGET_CPU_SECONDS.get(name),
        "peak_memory_mb": max(run["peak_memory_mb"] for run in runs),
        "values": {key: [run["values"][key] for run in runs] for key in keys},
        "oracle": {key: runs[0]["oracle"][key] for key in keys if key in runs[0]["oracle"]},
        "controls": {null: failing_lines(runs[0], null) for null in ("untrained", "shuffled", "zero")},
    }


def failing_lines(run: dict[str, Any], null: str) -> list[str]:
    """Return the lines whose bar a null does not meet."""
    failing: list[str] = []
    for key, text in run["bars"].items():
        value = run["nulls"][key].get(null)
        if value is not None and not _meets(value, text):
            failing.append(key)
    return failing


def _meets(value: float, bar: str) -> bool:
    if bar.startswith("≤"):
        return value <= float(bar[1:])
    if bar.startswith("≥"):
        return value >= float(bar[1:])
    low, _, high = bar.partition(" – ")
    return float(low) <= value <= float(high or low)


def table(tree: dict[str, Any]) -> str:
    """Write the README's table."""
    rows = [
        "| toy | found | identity error | dense error | MMCS | ML2R | lost to a 20-step adversary (truth itself) | CPU-seconds, median (budget) | peak MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in tree["summary"].items():
        values = entry["values"]
        worst_ml2r = max(values["ml2r"], key=lambda value: abs(value - 1))
        dense = f"{max(values['dense_error']):.0f}" if "dense_error" in values else "–"
        cells = [
            name,
            f"{entry['passed']} of {len(entry['seeds'])} seeds",
            f"{max(values['identity_error']):.0f}",
            dense,
            f"{min(values['mmcs']):.3f}",
            f"{worst_ml2r:.3f}",
            f"{max(values['pgd_20']):.3f} ({entry['oracle']['pgd_20']:.3f})",
            f"{entry['cpu_seconds_median']:.0f} ({entry['cpu_seconds_budget']})",
            f"{entry['peak_memory_mb']:.0f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    controls = [
        f"- {name}: "
        + "; ".join(
            f"{control} fails {len(lines)} ({', '.join(lines[:4])}{' …' if len(lines) > 4 else ''})"
            for control, lines in entry["controls"].items()
        )
        for name, entry in tree["summary"].items()
    ]
    versions = tree["environment"]["versions"]
    source = f"Worst of the seeds in each column. Measured {tree['time']} at commit {tree['commit'][:10]}, torch {versions['torch']}, one thread, {tree['environment']['system']}."
    return "\n".join([*rows, "", source, "", "Controls, and the scorecard lines that each fails (seed 0):", "", *controls])


if __name__ == "__main__":
    main()

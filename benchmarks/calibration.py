"""Where must the open bars stand? Scores the recipes at seeds 5-9 beside the truth and the nulls.

The bars on reconstruction are factors of what the planted truth loses. A factor is right when every calibration run lies clearly under it
and every null clearly over it; this writes both distances to calibration.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.runs import FIRST_TOYS, ROOT, provenance
from unbraid.verify.verb import VerifyConfig, verify

FACTORED = ("stoch_masked", "pgd_20")
OPEN = ("piece_cosine", "co_active_error", "decided", "unmasked", "pgd_ratio", "faithfulness")


def main() -> None:
    """Run seeds 5-9 and write what they say about the bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(FIRST_TOYS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "calibration")
    arguments = parser.parse_args()
    config = VerifyConfig(seeds=5, first_seed=5, controls=False, jobs=arguments.jobs)
    runs = [run_of(record) for record in verify(arguments.names, config, arguments.folder).records]
    found = [run for run in runs if run["values"]["identity_error"] <= 2 and run["values"].get("dense_error", 0) == 0]
    tree = {**provenance(), "seeds": list(range(5, 10)), "found": len(found), "of": len(runs), "lines": lines(found), "runs": runs}
    (ROOT / "benchmarks" / "calibration.json").write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(tree["lines"], indent=2))


def run_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record's values, oracle and nulls by line."""
    lines = record["lines"]
    return {
        "target": record["case"]["toy"],
        "seed": record["case"]["seed"],
        "passed": record["passed"],
        "failed_lines": record["failed_lines"],
        "cpu_seconds": record["cpu_seconds"],
        "values": {key: line["value"] for key, line in lines.items()},
        "oracle": {key: line["oracle"] for key, line in lines.items() if line["oracle"] is not None},
        "nulls": {key: line["nulls"] for key, line in lines.items()},
    }


def lines(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return for each open line the range over the runs that found the truth, and the range over each null."""
    result: dict[str, Any] = {}
    for key in FACTORED:
        # Where the truth itself loses nothing there is no factor, and the floor of the bar decides.
        lossy = [run for run in runs if run["oracle"][key] > 1e-3]
        result[f"{key} / truth"] = {
            "found": _range([run["values"][key] / run["oracle"][key] for run in lossy]),
            **{null: _range([run["nulls"][key][null] / run["oracle"][key] for run in lossy]) for null in ("untrained", "shuffled", "zero")},
        }
    for key in FACTORED:
        result[key] = {
            "found": _range([run["values"][key] for run in runs]),
            **{null: _range([run["nulls"][key][null] for run in runs]) for null in ("untrained", "shuffled", "zero")},
        }
    for key in OPEN:
        result[key] = {
            "found": _range([run["values"][key] for run in runs]),
            **{
                null: _range([run["nulls"][key][null] for run in runs if null in run["nulls"][key]])
                for null in ("untrained", "shuffled", "zero")
            },
        }
    sites = sorted({key for run in runs for key in run["values"] if key.startswith("l0/")})
    for key in sites:
        having = [run for run in runs if key in run["values"]]
        result[f"{key} / truth"] = {"found": _range([run["values"][key] / run["oracle"][key] for run in having])}
    return result


def _range(values: list[float]) -> list[float]:
    return [float(f"{min(values):.3g}"), float(f"{max(values):.3g}")] if values else []


if __name__ == "__main__":
    main()

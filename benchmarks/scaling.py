"""How does a decomposition of glassllm, all 28 matrices of it, come closer with more steps? The curve towards convergence that a CPU can pay for.

The same command with several numbers of steps; every schedule spans each of them. A finished run is taken over. Writes scaling.json and the table
between the marks of docs/language-models.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT, decompose_into, measured, provenance, scored, side_by_side, write_between

KEYS = {
    "ce_unmasked": "cross-entropy above the model's own, nats: without Δ",
    "ce_stoch_masked": "… random ablation",
    "ce_rounded_masked": "… importances rounded",
    "kl_pgd_20": "KL to a fresh shared adversary of 20 steps",
    "l0_total": "subcomponents that a position needs (L0)",
}


def main() -> None:
    """Make the runs that are missing, and write what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="glassllm")
    parser.add_argument("--steps", type=int, nargs="+", default=[40, 160, 640])
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "scaling")
    parser.add_argument("--made-at", metavar="COMMIT", help="the commit whose code made the runs, where it is not this one")
    parser.add_argument("--as-is", action="store_true", help="measure nothing; write what is finished")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for steps in arguments.steps:
        place = arguments.folder / f"scale-{steps}"
        if not arguments.as_is and not (place / "scorecard.json").exists():
            window = ["--window", str(arguments.window)]
            decompose_into(place, [arguments.model, "--preset", "vpd-lm-small", "--steps", str(steps), *window, "--seed", "0"])
        if (place / "scorecard.json").exists():
            rows.append({"steps": steps, **scored(place, KEYS)})
    tree = {**provenance(), "model": Path(arguments.model).name, "window": arguments.window, "rows": rows}
    tree |= {"commit": arguments.made_at} if arguments.made_at else {}
    (ROOT / "benchmarks" / "scaling.json").write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    write_between(ROOT / "docs" / "language-models.md", "scaling", table(tree))


def table(tree: dict[str, Any]) -> str:
    """Write one column per budget."""
    rows = tree["rows"]
    lines = side_by_side({f"{row['steps']:,} steps": [row] for row in rows}, KEYS)
    cost = "| CPU-seconds, one thread | " + " | ".join(f"{row['cpu_seconds']:,.0f}" for row in rows) + " |"
    about = f"Held-out part of the text that `{tree['model']}` wrote, windows of {tree['window']}, recipe `vpd-lm-small`, seed 0."
    return "\n".join([*lines, cost, "", f"{about} {measured(tree)}"])


if __name__ == "__main__":
    main()

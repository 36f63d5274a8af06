"""What does a CPU say of SmolLM2-135M in twenty minutes? One MLP matrix and one attention block, each decomposed by one command.

A finished run is taken over. Writes first_look.json and the table between the marks of docs/language-models.md.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT, decompose_into, measured, provenance, scored, side_by_side, write_between

SITES = ("model.layers.12.mlp.down_proj", "model.layers.12.self_attn.*")
PRESET, WINDOW = "vpd-lm-cpu", 64
KEYS = {
    "ce_unmasked": "cross-entropy above the model's own, nats: without Δ",
    "ce_stoch_masked": "… random ablation",
    "ce_rounded_masked": "… importances rounded",
    "ce_zero_masked": "… everything ablated",
    "kl_pgd_20": "KL to a fresh shared adversary of 20 steps",
    "l0_total": "subcomponents that a position needs (L0)",
    "faithfulness": "Δ as a share of the weights",
}


def main() -> None:
    """Make the runs that are missing, and write what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the folder of SmolLM2-135M")
    parser.add_argument("--text", type=Path, required=True, help="text for it")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "first-look")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for index, sites in enumerate(SITES):
        place = arguments.folder / f"sites-{index}"
        if not (place / "wall.json").exists():
            start = time.perf_counter()
            words = [str(arguments.model), "--sites", sites, "--text", str(arguments.text), "--preset", PRESET, "--window", str(WINDOW)]
            decompose_into(place, words)
            (place / "wall.json").write_text(json.dumps(time.perf_counter() - start), encoding="utf-8")
        wall = json.loads((place / "wall.json").read_text(encoding="utf-8"))
        rows.append({"sites": sites, "wall_seconds": wall, **scored(place, KEYS)})
    tree = {**provenance(), "model": arguments.model.name, "preset": PRESET, "window": WINDOW, "rows": rows}
    (ROOT / "benchmarks" / "first_look.json").write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    write_between(ROOT / "docs" / "language-models.md", "first-look", table(tree))


def table(tree: dict[str, Any]) -> str:
    """Write one column per choice of sites."""
    rows = tree["rows"]
    lines = side_by_side({f"`{row['sites']}`": [row] for row in rows}, KEYS)
    cost = "| minutes in all, one thread | " + " | ".join(f"{row['wall_seconds'] / 60:.1f}" for row in rows) + " |"
    return "\n".join(
        [*lines, cost, "", f"`{tree['model']}`, recipe `{tree['preset']}`, windows of {tree['window']}, seed 0. {measured(tree)}"]
    )


if __name__ == "__main__":
    main()

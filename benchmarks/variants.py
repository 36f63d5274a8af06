"""Does a setting help on the shipped language model? Variants of its recipe at two seeds, each a short run of its own.

The runs are twenty times shorter than the recipe, so they tell what a setting changes early on, not where a run ends. A finished run is taken over, an
interrupted one goes on. Writes variants.json and the tables between the marks of docs/language-models.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT, decompose_into, measured, provenance, scored, side_by_side, write_between

MODEL, PRESET, STEPS, SEEDS = "carroll", "vpd-lm-small", 300, (0, 1)
ADVERSARY = "losses.persistent-adversarial"
KEYS = {
    "kl_pgd_20": "KL to a fresh shared adversary of 20 steps, nats",
    "kl_pgd_320": "… of 320 steps",
    "kl_stoch_masked": "KL under random ablation, nats",
    "l0_total": "subcomponents that a position needs (L0)",
}
GROUPS = {
    "pool": {
        f"pool {pool}, rate {rate}": (f"{ADVERSARY}.scope=bc", f"{ADVERSARY}.pool={pool}", f"{ADVERSARY}.learning_rate={rate}")
        for rate in (0.01, 0.02)
        for pool in (1, 4)
    },
    "precision": {"`precision: fp32`": (), "`precision: high`": ("precision=high",)},
}


def main() -> None:
    """Make the runs that are missing, and write what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "variants")
    parser.add_argument("--as-is", action="store_true", help="measure nothing; write what is finished")
    parser.add_argument("--made-at", metavar="COMMIT", help="the commit whose code made the runs, where it is not this one")
    arguments = parser.parse_args()
    tree: dict[str, Any] = {**provenance(), "model": MODEL, "preset": PRESET, "steps": STEPS, "seeds": SEEDS, "groups": {}}
    tree |= {"commit": arguments.made_at} if arguments.made_at else {}
    for group, variants in GROUPS.items():
        found = tree["groups"][group] = dict[str, list[dict[str, Any]]]()
        for index, (name, settings) in enumerate(variants.items()):
            places = [arguments.folder / f"{group}-{index}-seed{seed}" for seed in SEEDS]
            for seed, place in zip(SEEDS, places, strict=True):
                if not arguments.as_is and not (place / "scorecard.json").exists():
                    decompose_into(place, words_of(settings, seed))
            found[name] = [scored(place, KEYS) for place in places if (place / "scorecard.json").exists()]
    (ROOT / "benchmarks" / "variants.json").write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    for group in GROUPS:
        write_between(ROOT / "docs" / "language-models.md", group, table(tree, group))


def words_of(settings: tuple[str, ...], seed: int) -> list[str]:
    """Return what follows the command's name."""
    words = [MODEL, "--preset", PRESET, "--steps", str(STEPS), "--seed", str(seed)]
    return [*words, *(word for setting in settings for word in ("--set", setting))]


def table(tree: dict[str, Any], group: str) -> str:
    """Write one column per variant."""
    variants = tree["groups"][group]
    costs = (", ".join(f"{run['cpu_seconds']:.0f}" for run in runs) for runs in variants.values())
    about = f"`{MODEL}`, `{PRESET}`, {STEPS} steps, seeds {', '.join(map(str, tree['seeds']))} in each cell, one thread."
    return "\n".join([*side_by_side(variants, KEYS), "| CPU-seconds | " + " | ".join(costs) + " |", "", f"{about} {measured(tree)}"])


if __name__ == "__main__":
    main()

"""What does a path cost when everything before the exchanged activation is run once, beside running the whole prompt for every point?

The model has the shape of a 135M-parameter Llama with drawn weights, since a path costs the same. The whole prompt is run for all 51 points in one batch,
and point by point as scripts do; the answers are the same, which is checked. Writes path-engine.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT, provenance, write_between
from unbraid.core.devices import keep_freed_memory, set_waiting_policy, use_threads

SHAPE = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
POINTS = 51


def main() -> None:
    """Measure prompts of several lengths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contexts", type=int, nargs="+", default=[10, 20, 40])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "path-engine.json")
    arguments = parser.parse_args()
    set_waiting_policy()
    keep_freed_memory()
    use_threads(arguments.threads)
    rows = [measure(context, arguments.rounds) for context in arguments.contexts]
    tree = {**provenance(), "threads": arguments.threads, "points": POINTS, "rounds": arguments.rounds, "shape": SHAPE, "rows": rows}
    arguments.out.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    if arguments.out.parent == ROOT / "benchmarks":
        write_between(ROOT / "README.md", "path-engine", table(tree))
    print(json.dumps(rows, indent=2))


def table(tree: dict[str, Any]) -> str:
    """Write one row per length of prompt."""
    environment = tree["environment"]
    rows = [
        "| tokens of the prompt | prefix once, CPU-seconds | whole prompt for all points together | times faster | whole prompt point by point | times faster |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    rows += [
        f"| {row['context']} | {row['prefix_once_seconds']:.2f} | {row['whole_prompt_seconds']:.2f} | {row['times_faster']:.1f} | "
        f"{row['one_by_one_seconds']:.2f} | {row['times_faster_than_one_by_one']:.1f} |"
        for row in tree["rows"]
    ]
    told = (
        f"Median of {tree['rounds']} rounds in turns, {tree['threads']} thread. Measured {tree['time']} at commit {tree['commit'][:10]}, "
    )
    return "\n".join([*rows, "", f"{told}torch {environment['versions']['torch']}, {environment['system']}."])


def measure(context: int, rounds: int) -> dict[str, Any]:
    """Time both ways in turns on one prompt."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from unbraid.stability.engine.carrier import Carrier
    from unbraid.stability.engine.places import default_place

    torch.manual_seed(0)
    module = LlamaForCausalLM(LlamaConfig(**SHAPE, attn_implementation="eager")).eval().requires_grad_(False)
    prompt, place = torch.randint(0, SHAPE["vocab_size"], (context,)), default_place(module)  # type: ignore[arg-type]
    points = torch.randn(POINTS, 576)

    def once() -> torch.Tensor:
        return Carrier(module, prompt, place).read(points)["logits"]  # with the prefix, which every path pays once

    def whole() -> torch.Tensor:
        return Carrier(module, prompt, place, prefix=False).read(points)["logits"]

    def one_by_one() -> torch.Tensor:
        return Carrier(module, prompt, place, at_once=1, prefix=False).read(points)["logits"]

    apart = float((once() - whole()).norm() / whole().norm())
    own: dict[str, list[float]] = {"once": [], "whole": [], "one_by_one": []}
    for _ in range(rounds):
        for name, way in (("once", once), ("whole", whole), ("one_by_one", one_by_one)):
            own[name].append(_seconds(way))
    return {
        "context": context,
        "prefix_once_seconds": round(statistics.median(own["once"]), 3),
        "whole_prompt_seconds": round(statistics.median(own["whole"]), 3),
        "one_by_one_seconds": round(statistics.median(own["one_by_one"]), 3),
        "times_faster": round(statistics.median(b / a for a, b in zip(own["once"], own["whole"], strict=True)), 2),
        "times_faster_than_one_by_one": round(statistics.median(b / a for a, b in zip(own["once"], own["one_by_one"], strict=True)), 2),
        "relative_difference": apart,
    }


def _seconds(way: Callable[[], object]) -> float:
    start = time.process_time()
    way()
    return time.process_time() - start


if __name__ == "__main__":
    main()

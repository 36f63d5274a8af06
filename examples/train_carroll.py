"""Train `carroll`, the small language model that unbraid ships taken apart: 0.32 M parameters, and eight checkpoints on the way.

Its text is written by `glassllm`, a model of Lewis Carroll's books (MIT licence): sampled at temperature 0.8, so that there is as much of it as wanted and
nothing is learned by heart. The tokenizer is glassllm's as well.

    unbraid models pull glassllm
    python examples/train_carroll.py write models/glassllm carroll           # carroll/documents.jsonl, carroll/text
    python examples/train_carroll.py train models/glassllm carroll           # carroll/step-0 … carroll/step-10000
    python examples/train_carroll.py ship models/glassllm carroll            # … into the package, earlier stages in half precision

The parts are reproducible from their seeds on one kind of machine.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import ArceeConfig, ArceeForCausalLM

from unbraid.core.seeds import Streams
from unbraid.targets.models.load import load_model, load_tokenizer
from unbraid.targets.models.shipped import shipped_folder
from unbraid.targets.text.build import TextBuild, build_text
from unbraid.targets.text.sample import sample_text
from unbraid.targets.text.windows import TextWindows

WINDOW = 64
TEMPERATURE = 0.8  # at 1 the teacher misspells every fifth word
CHECKPOINTS = (0, 10, 32, 100, 320, 1000, 3200, 10_000)  # evenly spaced on a logarithmic scale, after the random initialisation


def main() -> None:
    """Write the text or train on it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["write", "train", "ship"])
    parser.add_argument("teacher", help="the folder of glassllm")
    parser.add_argument("out", type=Path)
    parser.add_argument("--documents", type=int, default=24_576)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.part == "write":
        write(arguments.teacher, arguments.out, arguments.documents, arguments.seed)
    elif arguments.part == "train":
        train(arguments.teacher, arguments.out, arguments.batch_size, arguments.seed)
    else:
        ship(arguments.out)


def write(teacher: str, out: Path, documents: int, seed: int) -> None:
    """Let the teacher write documents as long as its context, and build them into windows."""
    sample_text(
        teacher, out / "documents.jsonl", documents, TEMPERATURE, seed, report=lambda done: print(f"{done:,} documents", flush=True)
    )
    build_text(out / "documents.jsonl", load_tokenizer(teacher), out / "text", TextBuild(window=WINDOW, held_out=0.02))


def student(vocabulary_size: int, seed: int) -> ArceeForCausalLM:
    """Return the untrained model: two blocks of rotary attention and a plain GELU MLP, RMS norms, no biases, tied embeddings."""
    torch.manual_seed(seed)
    config = ArceeConfig(
        vocab_size=vocabulary_size,
        hidden_size=96,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        hidden_act="gelu",
        max_position_embeddings=WINDOW,
        tie_word_embeddings=True,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
        use_cache=False,
    )
    model = ArceeForCausalLM(config)
    model.set_attn_implementation("eager")
    return model


def train(teacher: str, out: Path, batch_size: int, seed: int) -> None:
    """Train by the cross-entropy of the next token, and keep the checkpoints, each with its held-out cross-entropy."""
    tokenizer = load_tokenizer(teacher)
    data, held_out = TextWindows(out / "text"), TextWindows(out / "text", split="held-out")
    model = student(len(tokenizer), seed)
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], betas=(0.9, 0.95), fused=True
    )
    order, steps = Streams(seed)["data"], CHECKPOINTS[-1]
    curve: list[dict[str, float]] = []
    for step in range(steps + 1):
        if step in CHECKPOINTS:
            curve.append({"step": step, "tokens": step * batch_size * WINDOW, "cross_entropy": cross_entropy_on(model, held_out)})
            model.save_pretrained(out / f"step-{step}")
            tokenizer.save_pretrained(out / f"step-{step}")
            (out / "curve.json").write_text(json.dumps(curve, indent=2) + "\n", encoding="utf-8")
            print(curve[-1], flush=True)
        if step == steps:
            return
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, (step + 1) / 300) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        loss = cross_entropy(model, data.batch(step, batch_size, order))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def ship(out: Path) -> None:
    """Put the model, its earlier stages, its text and its training curve where the package looks for them."""
    place = shipped_folder() / "carroll"
    for step in CHECKPOINTS:
        last = step == CHECKPOINTS[-1]
        folder = place / ("model" if last else f"step-{step}")
        model: Any = load_model(out / f"step-{step}")
        (model if last else model.half()).save_pretrained(folder)
        load_tokenizer(out / f"step-{step}").save_pretrained(folder)
    shutil.copytree(out / "text", place / "text", dirs_exist_ok=True)
    shutil.copy(out / "curve.json", place / "curve.json")


def cross_entropy(model: Any, tokens: Tensor) -> Tensor:
    """Return the mean cross-entropy of the next token, in nats."""
    return F.cross_entropy(model(input_ids=tokens).logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


@torch.no_grad()
def cross_entropy_on(model: Any, data: TextWindows, windows: int = 1024) -> float:
    """Return the cross-entropy on held-out windows, the same ones for every model."""
    rows = torch.arange(min(windows, data.count))
    return sum(float(cross_entropy(model, data.at(part))) * len(part) for part in rows.split(128)) / len(rows)


if __name__ == "__main__":
    main()

"""What does a language model read when its own text cannot be had? Text that it writes itself, as much of it as wanted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from unbraid.core.errors import UserError
from unbraid.core.storage import write_atomically
from unbraid.targets.models.load import load_model, load_tokenizer

Report = Callable[[int], None]


def sample_text(
    model: str | Path,
    out: Path,
    documents: int,
    temperature: float = 1.0,
    seed: int = 0,
    at_once: int = 512,
    report: Report | None = None,
) -> Path:
    """Write documents that a model samples after its first token to a JSONL file, one a line under `text`, and return the file.

    Each is as long as the model's context, or ends where the model ends it. Their distribution is the model's own, so its cross-entropy on them is its
    entropy; they hold what it knows and nothing that it does not.

    Args:
        model: See `load_model`; its tokenizer lies beside it and names the token that begins a text.
        out: The file to write; it is there whole or not at all.
        documents: How many.
        temperature: Divides the logits; below 1 is less varied and better spelled.
        seed: Decides the text, on one kind of machine.
        at_once: How many are written side by side; another number gives other text.
        report: Told after each lot how many are written.

    Raises:
        UserError: A number is not allowed, the tokenizer has no token that begins a text, or the model cannot be read.
    """
    if documents < 1 or temperature <= 0:
        raise UserError(f"{documents} documents at temperature {temperature} were asked for.", "Both are above 0.")
    tokenizer: Any = load_tokenizer(model)
    if tokenizer.bos_token_id is None:
        raise UserError(f"The tokenizer of {str(model)!r} names no token that begins a text.", "Give text of your own: --text")
    module: Any = load_model(model)
    length = min(getattr(module.config, "max_position_embeddings", 1024), 1024) - 1

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8") as file, torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            for done in range(0, documents, at_once):
                first = torch.full((min(at_once, documents - done), 1), tokenizer.bos_token_id)
                rows = module.generate(
                    first,
                    attention_mask=torch.ones_like(first),
                    max_new_tokens=length,
                    do_sample=True,
                    temperature=temperature,
                    top_k=0,
                    use_cache=True,
                    pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
                )
                file.writelines(json.dumps({"text": tokenizer.decode(row, skip_special_tokens=True)}) + "\n" for row in rows)
                if report is not None:
                    report(done + len(rows))

    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, write)
    return out

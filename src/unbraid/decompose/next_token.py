"""What does ablation cost a language model in the unit that it was trained in? Cross-entropy of the next token, in nats."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from unbraid.targets.data import Batch


def tokens_in(batch: Batch, logits: Float[Tensor, "*lead vocabulary"]) -> Int[Tensor, "batch pos"] | None:
    """Return the tokens that a model has read, where its output is one distribution for each of them; None for other models."""
    tokens = batch if isinstance(batch, Tensor) else batch.get("input_ids") if isinstance(batch, dict) else None
    if tokens is None or tokens.dtype != torch.int64 or tokens.ndim != 2 or logits.shape[:-1] != tokens.shape or tokens.shape[1] < 2:
        return None
    return tokens


def cross_entropy(logits: Float[Tensor, "batch pos vocabulary"], tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, ""]:
    """Return the mean negative log-probability of each next token, in nats; the last position has none."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())

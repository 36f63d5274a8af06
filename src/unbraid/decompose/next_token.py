"""What does ablation cost a language model in the unit that it was trained in? Cross-entropy of the next token, in nats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

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


def compute_recovered(curve: Sequence[tuple[float, float]], above: float) -> float:
    """Return the share of its training after which the model was as good as its ablated self is: 1 for no loss, 0 for worse than untrained.

    Source: "Interpreting Language Model Parameters" (2026), pre-training compute recovered; here along the model's own training, between stages on a
    logarithmic scale of compute and a linear one of cross-entropy.

    Args:
        curve: (tokens, cross-entropy) of stages of the training, first ones first.
        above: Nats above the cross-entropy of the last stage.
    """
    total, best = curve[-1]
    wanted = best + max(above, 0.0)
    for (before, worse), (after, better) in pairwise(curve):
        if better <= wanted <= worse and worse > better:
            share = (worse - wanted) / (worse - better)
            # There is no logarithm of the untrained stage; within the first stretch the scale is linear.
            tokens = share * after if before == 0 else math.exp(math.log(before) + share * math.log(after / before))
            return tokens / total
    return 1.0 if wanted <= best else 0.0

"""Which frequencies does a model of addition modulo p use? Its neurons and answers as waves over all pairs of inputs.

A wave of frequency k turns by `2π k / p` per unit. Neurons of such a model follow waves of both inputs and their products
at one frequency each, and its logits are waves of the sum (Nanda et al. 2023, "Progress Measures for Grokking").
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def waves(p: int) -> Float[Tensor, "frequencies p 2"]:
    """Return cosine and sine at every frequency 1 … (p - 1) / 2, each of length 1 over the p values."""
    k = torch.arange(1, (p - 1) // 2 + 1, dtype=torch.float64)
    angle = 2 * math.pi / p * k[:, None] * torch.arange(p, dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin()], dim=-1).mul(math.sqrt(2 / p)).float()


def coefficients(values: Float[Tensor, "p p n"]) -> Float[Tensor, "frequencies 8 n"]:
    """Return each column's coefficients over all pairs (a, b), frequency by frequency.

    A frequency has eight functions of length 1: cosine and sine of a, those of b, and the four products; all are orthogonal.
    """
    p = values.shape[0]
    centred = values - values.mean(dim=(0, 1))
    basis, level = waves(p), torch.full((p,), 1 / math.sqrt(p))
    of_a = torch.einsum("kaw,b,abn->kwn", basis, level, centred)
    of_b = torch.einsum("a,kbw,abn->kwn", level, basis, centred)
    half = torch.einsum("kbw,abn->kawn", basis, centred)
    both = torch.einsum("kav,kawn->kvwn", basis, half).flatten(1, 2)
    return torch.cat([of_a, of_b, both], dim=1)


def variance_shares(values: Float[Tensor, "p p n"]) -> Float[Tensor, "frequencies n"]:
    """Return how much of the variance of each column over all pairs (a, b) each frequency explains."""
    total = (values - values.mean(dim=(0, 1))).square().sum(dim=(0, 1))
    return coefficients(values).square().sum(dim=1) / total.clamp(min=1e-20)


def embedding_shares(embedding: Float[Tensor, "p d"]) -> Float[Tensor, " frequencies"]:
    """Return how much of the embedding's variance over the numbers each frequency explains."""
    centred = embedding - embedding.mean(0)
    return torch.einsum("kaw,ad->kwd", waves(len(embedding)), centred).square().sum(dim=(1, 2)) / centred.square().sum()


def of_sum(logits: Float[Tensor, "p p out"], frequencies: list[int]) -> Float[Tensor, "p p out"]:
    """Return the part of the logits that is a wave of `a + b` at some of the frequencies (1 is the slowest)."""
    p = logits.shape[0]
    number = torch.arange(p)
    total = (number[:, None] + number).remainder(p)
    chosen = waves(p)[torch.tensor(frequencies) - 1][:, total] / math.sqrt(p)  # [k, a, b, 2], of length 1 over the pairs
    return torch.einsum("kabw,kwo->abo", chosen, torch.einsum("kabw,abo->kwo", chosen, logits))

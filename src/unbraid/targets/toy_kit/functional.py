"""Whom does a neuron serve? Labels by intervention, for trained toys whose weights nobody planted.

A group of inputs is resampled from other examples while the rest stays; what changes shows who reads it. None of these numbers
alone certifies modules: neurons can be perfectly specialised in a model whose outputs depend on several groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

MIXED, IDLE = -1, -2
"""Labels of neurons that serve several groups, none of them clearly, and of neurons that change nothing."""


def resampled(
    inputs: Float[Tensor, "batch n_features"], columns: Sequence[int], generator: torch.Generator
) -> Float[Tensor, "batch n_features"]:
    """Return the inputs with some columns taken from other examples, together, so that their own distribution stays."""
    changed = inputs.clone()
    order = torch.randperm(len(inputs), generator=generator)
    changed[:, list(columns)] = inputs[order][:, list(columns)]
    return changed


def input_effects(
    measured: Callable[[Tensor], Tensor], inputs: Float[Tensor, "batch n_features"], groups: Sequence[Sequence[int]], seed: int = 0
) -> Float[Tensor, "groups n"]:
    """Return how much each group of inputs moves each measured number: its mean squared change when the group is resampled.

    Args:
        measured: `inputs -> [batch, n]`, for example a layer's activations or the outputs.
        inputs: Examples from the data.
        groups: The columns of each group.
        seed: Decides which examples the values come from.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        clean = measured(inputs)
        return torch.stack([(measured(resampled(inputs, group, generator)) - clean).square().mean(0) for group in groups])


def labels_of(effects: Float[Tensor, "groups n"], clear: float = 0.8, idle: float = 1e-4) -> Int[Tensor, " n"]:
    """Return the group that each neuron serves: the one with at least `clear` of all effects on it, else `MIXED`.

    A neuron with less than `idle` of the effects on all neurons is `IDLE`.
    """
    total = effects.sum(0)
    share, label = (effects / total.clamp(min=torch.finfo(effects.dtype).tiny)).max(dim=0)
    label = torch.where(share >= clear, label, MIXED)
    return torch.where(total > idle * total.sum(), label, IDLE)


def specialisation(effects: Float[Tensor, "groups n"]) -> float:
    """Return the share of each neuron's effects that falls to its foremost group, as a mean weighted by the effects: 1 is one group each."""
    return float(effects.max(dim=0).values.sum() / effects.sum())


def cross_talk(T: Float[Tensor, "groups groups"]) -> float:
    """Return X = 1 - tr(T) / ΣT: the share of all effects that reach another group's outputs."""
    return float(1 - T.trace() / T.sum())


def group_means(values: Float[Tensor, "rows n"], groups: Sequence[Sequence[int]]) -> Float[Tensor, "rows groups"]:
    """Return the mean over each group's columns."""
    return torch.stack([values[:, list(group)].mean(1) for group in groups], dim=1)


def module_names(labels: Int[Tensor, " n"], name: str, mixed: str = "mixed") -> tuple[str, ...]:
    """Return each label as a module's name."""
    return tuple(mixed if label == MIXED else f"{name} {label}" for label in labels.tolist())

"""Does each group serve its own module only? Groups are ablated one at a time, and modules' inputs changed one at a time.

Both sides are needed: a network can write each output with its own parts while those parts listen to other modules' inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from unbraid.components.probes import Probes
from unbraid.decompose.masks import Mask, constant_masks
from unbraid.decompose.model import Clean, DecomposedModel
from unbraid.targets.behaviour import Behaviour

Group = Mapping[str, tuple[int, ...]]
"""Site → the subcomponents of a group there."""


@dataclass(frozen=True)
class CrossTalk:
    """What each group does to each module.

    Attributes:
        groups: The groups of the rows.
        modules: The planted modules of the columns.
        matrix: T[k, l] ≥ 0, the effect of row k on column l.
        pairs: Which row belongs to which column, one to one, so that the sum of their effects is greatest.
        share: X = 1 - Σ_pairs T / Σ T: the share of all effects that go elsewhere. 0 is modular.
        margin: The least, over the columns, of their own row's effect minus the greatest other one; negative where a stranger matters more.
    """

    groups: tuple[str, ...]
    modules: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]
    pairs: tuple[tuple[int, int], ...]
    share: float
    margin: float


def cross_talk(matrix: Float[Tensor, "groups modules"], groups: Sequence[str], modules: Sequence[str]) -> CrossTalk:
    """Match rows to columns and say how much of the effects lies off the matched pairs; without any effect all of it does."""
    T = matrix.double().clamp(min=0).numpy()
    rows, columns = linear_sum_assignment(T, maximize=True)
    total = float(T.sum())
    share = 1 - float(T[rows, columns].sum()) / total if total > 0 else 1.0
    margins = [0.0] * (T.shape[1] - len(columns))
    for row, column in zip(rows, columns, strict=True):
        others = np.delete(T[:, column], row)
        margins.append(float(T[row, column] - others.max(initial=0.0)))
    return CrossTalk(
        tuple(groups),
        tuple(modules),
        tuple(tuple(line) for line in T.tolist()),
        tuple(zip(rows.tolist(), columns.tolist(), strict=True)),
        share,
        min(margins, default=0.0),
    )


def ablation(model: DecomposedModel, clean: Clean, group: Group) -> dict[str, Mask]:
    """Return the masks that take a group out and leave all else, Δ included."""
    masks: dict[str, Mask] = {}
    for path, members in group.items():
        x = clean.sites[path].x
        kept = x.new_ones(*x.shape[:-1], model.C[path])
        kept[..., list(members)] = 0
        masks[path] = Mask(kept, x.new_ones(x.shape[:-1]))
    return masks


def nothing_left(model: DecomposedModel, clean: Clean) -> Tensor:
    """Return the output when every part is ablated, Δ included."""
    like = {path: clean.sites[path].x.new_zeros(*clean.sites[path].x.shape[:-1], C) for path, C in model.C.items()}
    return model.masked(clean, constant_masks(like, 0.0, delta=None))


def per_input(behaviour: Behaviour, clean: Tensor, other: Tensor) -> Float[Tensor, " batch"]:
    """Return the distance for each input, averaged over positions."""
    return behaviour.distance(clean, other).flatten(1).mean(1) if clean.dim() > 2 else behaviour.distance(clean, other)


@torch.no_grad()
def output_side(model: DecomposedModel, behaviour: Behaviour, groups: Sequence[Group], probes: Probes) -> Float[Tensor, "groups modules"]:
    """Return T[k, l]: the share of the behaviour that is lost when group k is ablated, on inputs that need module l alone."""
    inputs, owner = probes.stacked()
    clean = model.clean(inputs)
    scale = by_owner(per_input(behaviour, clean.output, nothing_left(model, clean)), owner, probes)
    rows = [
        by_owner(per_input(behaviour, clean.output, model.masked(clean, ablation(model, clean, group))), owner, probes) for group in groups
    ]
    return torch.stack(rows) / scale.clamp(min=1e-12) if rows else torch.zeros(0, len(probes.modules))


def by_owner(values: Float[Tensor, " rows"], owner: Tensor, probes: Probes) -> Float[Tensor, " modules"]:
    """Average over the inputs of each module."""
    return torch.stack([values[owner == module].mean() for module in probes.modules])


@torch.no_grad()
def input_side(
    model: DecomposedModel,
    groups: Sequence[Group],
    columns: Mapping[int, tuple[int, ...]],
    inputs: Tensor,
    examples: Mapping[int, Tensor],
    generator: torch.Generator,
) -> Float[Tensor, "groups modules"]:
    """Return T[k, l]: of all that changes when the inputs of module l become those of an example that needs it, the share in group k.

    What a group adds to the output is the output less the output without it; its change is squared and averaged. Every column sums to 1.

    Args:
        model: The decomposed model.
        groups: Their rows, k.
        columns: Module → the input features that it reads, l.
        inputs: Fresh inputs, as they come.
        examples: Module → inputs that need it.
        generator: Draws which example's features are put in.
    """
    clean = model.clean(inputs)
    resampled: list[Clean] = []
    for module, features in columns.items():
        source = examples[module]
        changed = inputs.clone()
        changed[:, list(features)] = source[torch.randint(len(source), (len(inputs),), generator=generator)][:, list(features)]
        resampled.append(model.clean(changed))
    T = torch.zeros(len(groups), len(columns))
    for k, group in enumerate(groups):
        own = clean.output - model.masked(clean, ablation(model, clean, group))
        for l, other in enumerate(resampled):
            there = other.output - model.masked(other, ablation(model, other, group))
            T[k, l] = (there - own).square().mean()
    return T / T.sum(0).clamp(min=1e-30)

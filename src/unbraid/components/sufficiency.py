"""Is a group enough for its module, and needed for it? Behaviour with only the group left, and with only the group gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unbraid.components.cross_talk import Group, ablation, nothing_left
from unbraid.components.probes import Probes
from unbraid.decompose.adversary import as_sources, projected_ascent, random_sources
from unbraid.decompose.masks import Mask, Masks, Source, draw_sources, masks_from
from unbraid.decompose.model import Clean, DecomposedModel
from unbraid.targets.behaviour import Behaviour

ADVERSARY_STEPS, ADVERSARY_SIZE = 20, 0.1


@dataclass(frozen=True)
class GroupWorth:
    """What a group is worth to its module, on inputs that need this module alone; all are shares of the behaviour.

    Attributes:
        module: The planted module.
        group: The group that was found for it.
        sufficiency: What is kept with the group alone: all other subcomponents and Δ ablated, groups of the background kept.
        necessity: What is lost without it, all else kept.
        sufficiency_stochastic: What is kept when the others and Δ are ablated at random.
        necessity_stochastic: What is lost without it when the others and Δ are ablated at random.
        sufficiency_pgd_20: What is kept when a fresh adversary of 20 steps chooses the others' ablations, one choice for all inputs.
    """

    module: str
    group: int
    sufficiency: float
    necessity: float
    sufficiency_stochastic: float
    necessity_stochastic: float
    sufficiency_pgd_20: float


def group_worth(
    model: DecomposedModel,
    behaviour: Behaviour,
    groups: Mapping[int, tuple[int, Group]],
    background: Group,
    probes: Probes,
    generator: torch.Generator,
) -> tuple[GroupWorth, ...]:
    """Measure the groups of the modules, of a sample of them where there are many.

    Args:
        model: The decomposed model.
        behaviour: How far two outputs are apart.
        groups: Module index → the number and the members of the group that was found for it.
        background: What is kept beside any group: subcomponents of modules that are always on.
        probes: Inputs that need one module alone.
        generator: Draws the random ablations and where the adversary starts.
    """
    return tuple(
        _worth(model, behaviour, probes.names[module], *groups[module], background, probes.inputs[module], generator)
        for module in probes.sample
        if module in groups
    )


def _worth(
    model: DecomposedModel,
    behaviour: Behaviour,
    name: str,
    number: int,
    group: Group,
    background: Group,
    inputs: Tensor,
    generator: torch.Generator,
) -> GroupWorth:
    clean = model.clean(inputs)

    def distance(masks: Masks) -> Tensor:
        return behaviour.between(clean.output, model.masked(clean, masks))

    with torch.no_grad():
        kept, gone = _spread(model, clean, _union(group, background)), _spread(model, clean, group)
        scale = float(behaviour.between(clean.output, nothing_left(model, clean)).clamp(min=1e-12))
        alone = {path: Mask(g) for path, g in kept.items()}
        random = masks_from(kept, draw_sources(kept, generator))
        others = masks_from(kept, draw_sources(kept, generator))
        without = {path: Mask(mask.component * (1 - gone[path]), mask.delta) for path, mask in others.items()}
        values = [distance(alone), distance(ablation(model, clean, group)), distance(random), distance(without)]

    def objective(values: dict[str, Tensor]) -> Tensor:
        sources: dict[str, Source] = as_sources(values, kept)
        return distance(masks_from(kept, sources))

    worst = projected_ascent(objective, random_sources(kept, "c", generator), ADVERSARY_STEPS, ADVERSARY_SIZE)
    with torch.no_grad():
        values.append(objective(worst))
    alone_lost, lost, random_lost, without_lost, worst_lost = (float(value) / scale for value in values)
    return GroupWorth(name, number, 1 - alone_lost, lost, 1 - random_lost, without_lost, 1 - worst_lost)


def _union(group: Group, background: Group) -> Group:
    paths = dict.fromkeys([*group, *background])
    return {path: tuple(dict.fromkeys([*group.get(path, ()), *background.get(path, ())])) for path in paths}


def _spread(model: DecomposedModel, clean: Clean, group: Group) -> dict[str, Tensor]:
    """Return 1 for the members of a group and 0 for all others, at every position: they are kept as if their importance was 1."""
    spread: dict[str, Tensor] = {}
    for path, C in model.C.items():
        spread[path] = clean.sites[path].x.new_zeros(*clean.sites[path].x.shape[:-1], C)
        spread[path][..., list(group.get(path, ()))] = 1
    return spread

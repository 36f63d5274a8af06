"""What does it mean to ablate subcomponents? Masks between importance and one, set by sources, on a routed part of the inputs.

With importance g and source r in [0, 1] the mask is `m = g + (1 - g) r` (Bushnaq et al. 2025, eq. 7): r = 1 keeps a
subcomponent, r = 0 ablates it as far as its importance allows. The Δ component has importance 0, so its mask is its source.
Every draw of masks, by chance or by an adversary, is a choice of sources; leaving a site as it is in the target ("not
routed") is the choice r = 1 everywhere, because Δ makes the sum of all parts exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unbraid.core.seeds import random_words
from unbraid.decompose.columns import grouped, split_columns
from unbraid.decompose.fused import interpolate, unit_interval

Routing = Literal["all", "layerwise", "subset"]
Sampling = Literal["continuous", "binomial"]


@dataclass(frozen=True, slots=True)
class Mask:
    """How much of each part of one site is kept.

    Attributes:
        component: Mask per subcomponent, [..., C].
        delta: Mask of the Δ component, [...]; None leaves Δ out.
        routed: Where the masks apply, [...]; elsewhere the site is as in the target. None is everywhere.
    """

    component: Float[Tensor, "*lead C"]
    delta: Float[Tensor, "*lead"] | None = None
    routed: Bool[Tensor, "*lead"] | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The free choice behind a mask: r per subcomponent [..., C] and per Δ component [...], each in [0, 1]; `component` broadcasts."""

    component: Float[Tensor, "*#lead C"]
    delta: Float[Tensor, "*lead"]


_FEW = 8  # up to so many sites, ranks are counted rather than sorted

Masks = Mapping[str, Mask]
Sources = Mapping[str, Source]
Importance = Mapping[str, Tensor]


def masks_from(importance: Importance, sources: Sources, delta: bool = True) -> dict[str, Mask]:
    """Turn sources into masks; without Δ, its source is ignored."""
    masks: dict[str, Mask] = {}
    for path, source in sources.items():
        masks[path] = Mask(interpolate(importance[path], source.component), source.delta if delta else None)
    return masks


def draw_sources(importance: Importance, generator: torch.Generator, sampling: Sampling = "continuous") -> dict[str, Source]:
    """Draw an independent source for every subcomponent, Δ component and position: uniform, or 0 or 1 with equal chance."""
    sources: dict[str, Source] = {}
    for paths in grouped(importance):
        # One draw for all sites that see the same positions: first all their subcomponents, then all their Δ.
        first = importance[paths[0]]
        widths = [importance[path].shape[-1] for path in paths]
        total = sum(widths)
        r = uniform((*first.shape[:-1], total + len(paths)), generator)
        if sampling == "binomial":
            r.round_()
        columns = split_columns(r[..., :total], paths, widths)
        for index, path in enumerate(paths):
            sources[path] = Source(columns[path], r[..., total + index])
    return {path: sources[path] for path in importance}


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw numbers uniform on [0, 1], float32; on the CPU in steps of 1 / 65535, at a fraction of the cost of `torch.rand`."""
    if generator.device.type != "cpu":
        return torch.rand(shape, generator=generator, device=generator.device)
    return unit_interval(random_words(math.prod(shape), generator)).view(shape)


def draw_subset(paths: list[str], lead: torch.Size, generator: torch.Generator, device: torch.device) -> dict[str, Bool[Tensor, "*lead"]]:
    """Route each position through a random subset of the sites: its size k is uniform on 1..L, then every k-subset is equally likely.

    Source: "Interpreting Language Model Parameters" (2026), subset routing.
    """
    n = len(paths)
    sizes = torch.randint(1, n + 1, lead, generator=generator, device=device)
    if n == 1:
        return {paths[0]: torch.ones(lead, dtype=torch.bool, device=device)}
    u = torch.rand(n, *lead, generator=generator, device=device)
    # The rank of each of a few numbers is how many are below it, which is quicker to count than to sort.
    ranks = (u[:, None] > u).sum(1) if n <= _FEW else u.argsort(dim=0).argsort(dim=0)
    return {path: ranks[index] < sizes for index, path in enumerate(paths)}


def route(masks: Masks, routed: Mapping[str, Bool[Tensor, "*lead"]]) -> dict[str, Mask]:
    """Limit masks to the routed positions.

    With Δ this sets both masks to one elsewhere, which is the target itself and needs no second product; without Δ the site
    computes its dense output too and chooses per position.
    """
    limited: dict[str, Mask] = {}
    for path, mask in masks.items():
        here = routed[path]
        if mask.delta is None:
            limited[path] = Mask(mask.component, None, here)
        else:
            limited[path] = Mask(torch.where(here[..., None], mask.component, 1.0), torch.where(here, mask.delta, 1.0))
    return limited


def route_sources(sources: Sources, routed: Mapping[str, Bool[Tensor, "*lead"]]) -> dict[str, Source]:
    """Do what `route` does, on the sources: r = 1 is "as in the target" when Δ is on, and costs no gradient."""
    limited: dict[str, Source] = {}
    for path, source in sources.items():
        elsewhere = (~routed[path]).to(source.delta.dtype)
        limited[path] = Source(torch.maximum(source.component, elsewhere[..., None]), torch.maximum(source.delta, elsewhere))
    return limited


def constant_masks(importance: Importance, value: float, delta: float | None) -> dict[str, Mask]:
    """Give every subcomponent the same mask; `delta` None leaves Δ out."""
    return {
        path: Mask(torch.full_like(g, value), None if delta is None else torch.full_like(g[..., 0], delta))
        for path, g in importance.items()
    }

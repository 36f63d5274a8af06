"""What does it mean to ablate subcomponents? Masks between importance and one, set by sources, on a routed part of the inputs.

With importance g and source r in [0, 1] the mask is `m = g + (1 - g) r` (Bushnaq et al. 2025, eq. 7): r = 1 keeps a
subcomponent, r = 0 ablates it as far as its importance allows. The Δ component has importance 0, so its mask is its source.
Every draw of masks, by chance or by an adversary, is a choice of sources; leaving a site as it is in the target ("not
routed") is the choice r = 1 everywhere, because Δ makes the sum of all parts exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unbraid.core.ranks import Share
from unbraid.core.seeds import random_words
from unbraid.decompose.columns import grouped, is_large, split_columns
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
class Between:
    """A mask of a large site that is made only where it is used: between importance and one, as its source says; Δ is on.

    Attributes:
        importance: g, [..., C].
        source: r, which may stand for several positions.
        delta: Mask of the Δ component, [...].
        routed: Where the masks apply, [...]; elsewhere the site is as in the target. None is everywhere.
        both: Source and Δ's mask side by side, [..., C + 1], where they are parts of one tensor.
    """

    importance: Float[Tensor, "*lead C"]
    source: Float[Tensor, "*#lead C"]
    delta: Float[Tensor, "*lead"]
    routed: Bool[Tensor, "*lead"] | None = None
    both: Float[Tensor, "*lead total"] | None = None

    @property
    def component(self) -> Float[Tensor, "*lead C"]:
        """The mask per subcomponent where it applies."""
        return interpolate(self.importance, self.source)


@dataclass(frozen=True, slots=True)
class Source:
    """The free choice behind a mask: r per subcomponent [..., C] and per Δ component [...], each in [0, 1]; `component` broadcasts.

    Where both are parts of one tensor [..., C + 1], as an adversary's are, `both` is that tensor: its gradient needs no putting together.
    """

    component: Float[Tensor, "*#lead C"]
    delta: Float[Tensor, "*lead"]
    both: Float[Tensor, "*lead total"] | None = None


_FEW = 8  # up to so many sites, ranks are counted rather than sorted

Masks = Mapping[str, Mask | Between]
Sources = Mapping[str, Source]
Importance = Mapping[str, Tensor]


def masks_from(
    importance: Importance, sources: Sources, delta: bool = True, routed: Mapping[str, Bool[Tensor, "*lead"]] | None = None
) -> dict[str, Mask | Between]:
    """Turn sources into masks where `routed` says, or everywhere; without Δ, its source is ignored."""
    masks: dict[str, Mask | Between] = {}
    for path, source in sources.items():
        g, here = importance[path], None if routed is None else routed[path]
        if delta and g.dim() > 2 and is_large(g):
            masks[path] = Between(g, source.component, source.delta, here, source.both)
        elif delta:
            limited = source if here is None else route_source(source, here)
            masks[path] = Mask(interpolate(g, limited.component), limited.delta)
        else:
            masks[path] = Mask(interpolate(g, source.component), None, here)
    return masks


def draw_sources(
    importance: Importance, generator: torch.Generator, sampling: Sampling = "continuous", share: Share | None = None
) -> dict[str, Source]:
    """Draw an independent source for every subcomponent, Δ component and position: uniform, or 0 or 1 with equal chance."""
    sources: dict[str, Source] = {}
    for paths in grouped(importance, share):
        # One draw for all sites that see the same positions: first all their subcomponents, then all their Δ.
        first = importance[paths[0]]
        widths = [importance[path].shape[-1] for path in paths]
        total = sum(widths)
        r = own_rows(lambda shape: uniform(shape, generator), (*first.shape[:-1], total + len(paths)), share)
        if sampling == "binomial":
            r.round_()
        columns = split_columns(r[..., :total], paths, widths)
        for index, path in enumerate(paths):
            sources[path] = Source(columns[path], r[..., total + index])
    return {path: sources[path] for path in importance}


def own_rows(draw: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...], share: Share | None, axis: int = 0) -> Tensor:
    """Draw a tensor of a shape; a rank that has a share of the batch draws for all and keeps its own rows."""
    return draw(shape) if share is None else share.draw(draw, shape, axis)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw numbers uniform on [0, 1], float32; on the CPU in steps of 1 / 65535, at a fraction of the cost of `torch.rand`."""
    if generator.device.type != "cpu":
        return torch.rand(shape, generator=generator, device=generator.device)
    return unit_interval(random_words(math.prod(shape), generator)).view(shape)


def draw_subset(
    paths: list[str], lead: torch.Size, generator: torch.Generator, device: torch.device, share: Share | None = None
) -> dict[str, Bool[Tensor, "*lead"]]:
    """Route each position through a random subset of the sites: its size k is uniform on 1..L, then every k-subset is equally likely.

    Source: "Interpreting Language Model Parameters" (2026), subset routing.
    """
    n = len(paths)
    sizes = own_rows(lambda shape: torch.randint(1, n + 1, shape, generator=generator, device=device), tuple(lead), share)
    if n == 1:
        return {paths[0]: torch.ones(lead, dtype=torch.bool, device=device)}
    u = own_rows(lambda shape: torch.rand(shape, generator=generator, device=device), (n, *lead), share, axis=1)
    # The rank of each of a few numbers is how many are below it, which is quicker to count than to sort.
    ranks = (u[:, None] > u).sum(1) if n <= _FEW else u.argsort(dim=0).argsort(dim=0)
    return {path: ranks[index] < sizes for index, path in enumerate(paths)}


def route_source(source: Source, routed: Bool[Tensor, "*lead"]) -> Source:
    """Limit a source to the routed positions: r = 1 is "as in the target" when Δ is on, and costs no second product and no gradient."""
    elsewhere = (~routed).to(source.delta.dtype)
    return Source(torch.maximum(source.component, elsewhere[..., None]), torch.maximum(source.delta, elsewhere))


def route_subsets(importance: Importance, generator: torch.Generator, share: Share | None = None) -> dict[str, Bool[Tensor, "*lead"]]:
    """Draw subsets of the sites as `draw_subset` does, one per position where all sites see the same positions.

    Elsewhere, as in a convolutional network, one is drawn for each index of the leading axes that the sites have in common: per input.
    """
    leads = [g.shape[:-1] for g in importance.values()]
    common = leads[0]
    for lead in leads[1:]:
        agree = [a == b for a, b in zip(common, lead, strict=False)]
        common = common[: agree.index(False) if False in agree else len(agree)]
    drawn = draw_subset(list(importance), common, generator, next(iter(importance.values())).device, share)
    rest = {path: (1,) * (len(lead) - len(common)) for path, lead in zip(importance, leads, strict=True)}
    return {path: drawn[path].view(*common, *rest[path]).expand(lead) for path, lead in zip(importance, leads, strict=True)}


def constant_masks(importance: Importance, value: float, delta: float | None) -> dict[str, Mask]:
    """Give every subcomponent the same mask; `delta` None leaves Δ out."""
    return {
        path: Mask(torch.full_like(g, value), None if delta is None else torch.full_like(g[..., 0], delta))
        for path, g in importance.items()
    }

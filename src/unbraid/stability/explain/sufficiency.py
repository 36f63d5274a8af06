"""Are the parts that are active in a region enough for it? The curve with only those of the left region, of the right one, or of each in its own."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

KeptKind = Literal["own", "switched", "left", "right", "random"]
KINDS: tuple[KeptKind, ...] = get_args(KeptKind)
"""What is kept: at each point its own active set; the left end's before the middle and the right end's after it; one of them everywhere;
and, switched alike, random parts of the same number and sites."""


def kept_sets(
    active: Bool[Tensor, "n parts"], t: Float[Tensor, " n"], middle: float, random_sets: tuple[Tensor, Tensor]
) -> dict[KeptKind, Float[Tensor, "n parts"]]:
    """Return which parts are kept at each point under each kind.

    Args:
        active: Which parts are active at each point.
        t: Where the points are.
        middle: Where the left region ends and the right one begins: t50, or the path's middle where that is undefined.
        random_sets: For the left and the right end, random parts instead of the active ones.
    """
    left, right = active[0].expand_as(active), active[-1].expand_as(active)
    after = (t > middle)[:, None]
    chance_left, chance_right = (chosen.expand_as(active) for chosen in random_sets)
    return {
        "own": active.float(),
        "switched": torch.where(after, right, left).float(),
        "left": left.float(),
        "right": right.float(),
        "random": torch.where(after, chance_right, chance_left).float(),
    }

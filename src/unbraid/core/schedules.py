"""How does a quantity change over a run? Pure functions of the share of the run that is done, so that shorter runs compress them."""

from __future__ import annotations

import math


def linear(progress: float, start: float, end: float, until: float = 1.0) -> float:
    """Go from `start` to `end` while `progress` goes from 0 to `until`, then stay."""
    return start + (end - start) * min(1.0, progress / until)


def geometric(progress: float, begin: float, end: float, final_share: float) -> float:
    """Stay at 1 until `begin`, fall by a constant ratio per step to `final_share` at `end`, then stay."""
    if progress <= begin:
        return 1.0
    return final_share ** min(1.0, (progress - begin) / (end - begin))


def cosine(progress: float, final_share: float = 0.0, warmup_share: float = 0.0) -> float:
    """Return the learning rate's factor: linear from 0 to 1 over `warmup_share`, then half a cosine down to `final_share`."""
    if progress < warmup_share:
        return progress / warmup_share
    rest = (progress - warmup_share) / (1 - warmup_share) if warmup_share < 1 else 1.0
    return final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, rest)))

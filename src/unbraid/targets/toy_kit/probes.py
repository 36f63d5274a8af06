"""Which inputs ask a decomposition what it found? One feature at a time, and several at once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

PROBE_VALUE = 0.75


def one_hot_probes(n_features: int, value: float = PROBE_VALUE) -> Float[Tensor, "n_features n_features"]:
    """Return one input per feature, with that feature at `value` (Bushnaq et al. 2025 use 0.75)."""
    return value * torch.eye(n_features)


def co_active_probes(
    n_features: int, count: int = 200, most: int = 3, value: float = PROBE_VALUE, seed: int = 0
) -> Float[Tensor, "count n_features"]:
    """Return `count` inputs with 2 to `most` distinct random features at `value`; one-hot probes never test such inputs."""
    generator = torch.Generator().manual_seed(seed)
    ranks = torch.rand(count, n_features, generator=generator).argsort(dim=1).argsort(dim=1)
    sizes = torch.randint(2, min(most, n_features) + 1, (count, 1), generator=generator)
    return value * (ranks < sizes).float()

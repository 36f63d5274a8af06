"""What do activations look like that only share mean and covariance with real ones?"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def drawn_alike(real: Float[Tensor, "m d"], count: int, generator: torch.Generator) -> Float[Tensor, "count d"]:
    """Draw from the Gaussian with the mean and covariance of real activations, as far as they span the space.

    A draw is a random combination of the centred activations themselves, so that no covariance is formed or inverted.
    """
    mean = real.mean(0)
    weights = torch.randn(count, len(real), generator=generator, dtype=real.dtype) / max(len(real) - 1, 1) ** 0.5
    return mean + weights @ (real - mean)

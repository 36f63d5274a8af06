"""How do unbounded logits become importances in [0, 1], with gradients that can still revive and still shrink?

Two hard sigmoids share the forward pass `clamp(z, 0, 1)`, with slope α = 0.01 outside (Bushnaq et al. 2025, section 2.3, as revised):
`lower` goes into masks: below 0 it lets through α of a gradient that would raise z, so a dead subcomponent can come back.
`upper` goes into minimality: above 1 it is `1 + α (z - 1)`, so a saturated importance can still be pulled down.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

SLOPE = 0.01
_JUST_OVER_ONE = 1 + 2.0**-23  # the kernel leaves its bounds out, and z = 1 belongs inside


class _LeakyHard(torch.autograd.Function):
    # Torch's own fused backward kernels do the choosing by sign, several times faster than `where` on the CPU.
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(z)
        lower = z.clamp(0, 1)
        return lower, torch.add(lower, (z - 1).clamp_(min=0), alpha=SLOPE)

    @staticmethod
    def backward(ctx: Any, grad_lower: Tensor, grad_upper: Tensor) -> Tensor:  # type: ignore[override]
        (z,) = ctx.saved_tensors
        inside = torch.ops.aten.hardtanh_backward(grad_lower + grad_upper, z, 0.0, _JUST_OVER_ONE)
        rising = grad_lower.clamp(max=0)
        below = rising - torch.ops.aten.threshold_backward(rising, z, 0.0)
        above = torch.ops.aten.threshold_backward(grad_upper, z, 1.0)
        return inside.add_(below.add_(above), alpha=SLOPE)


def leaky_hard(z: Float[Tensor, "*lead C"]) -> tuple[Float[Tensor, "*lead C"], Float[Tensor, "*lead C"]]:
    """Return `(lower, upper)`: the importance for masks in [0, 1], and the one for minimality, which may exceed 1."""
    return _LeakyHard.apply(z)

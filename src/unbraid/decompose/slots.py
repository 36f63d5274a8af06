"""What stands in the model where a decomposed module stood? A slot, in which a fused matrix may have several sites side by side."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unbraid.targets.models.fused import View


class Slot(nn.Module):
    """Passes its input on, and has a weight that is not a number.

    A model that uses the weight besides calling the module, as in `F.linear(x, embed.weight)`, would be masked in part only. Here it computes NaN,
    and the twin's comparison with the target finds it.

    Args:
        inner: What computes the output.
        shape: The shape of the weight that stood here.
    """

    def __init__(self, inner: nn.Module, shape: torch.Size) -> None:
        super().__init__()
        self.inner = inner
        self._shape = shape

    @property
    def weight(self) -> Tensor:
        """NaN in the shape, type and place of the module's own weight."""
        like = next(buffer for buffer in self.inner.buffers() if buffer.is_floating_point())
        return like.new_full((), math.nan).expand(self._shape)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of what stands here."""
        return self.inner(x)


class Parts(nn.Module):
    """A fused matrix of which some parts are sites: each gives its own outputs, and the rest stays as in the target.

    Args:
        weight: The whole matrix.
        bias: The whole bias, or None.
    """

    order: Tensor

    def __init__(self, weight: Float[Tensor, "d_in d_out"], bias: Float[Tensor, " d_out"] | None) -> None:
        super().__init__()
        self.sites = nn.ModuleList()
        self.rest: nn.Module | None = None
        self._whole, self._views = (weight, bias), list[View]()
        self.register_buffer("order", torch.empty(0, dtype=torch.int64), persistent=False)

    def columns(self, view: View) -> tuple[Float[Tensor, "d_in width"], Float[Tensor, " width"] | None]:
        """Return a part's own matrix and bias."""
        weight, bias = self._whole
        return view.of(weight), None if bias is None else view.of(bias)

    def put(self, view: View, site: nn.Module) -> None:
        """Let a site compute this part."""
        weight, bias = self._whole
        self.sites.append(site)
        self._views.append(view)
        taken = [output for known in self._views for output in known.outputs()]
        left = sorted(set(range(weight.shape[1])) - set(taken))
        self.rest = _frozen_linear(weight[:, left], None if bias is None else bias[left]) if left else None
        self.order = torch.tensor([*taken, *left], device=weight.device).argsort()

    def forward(self, x: Float[Tensor, "*lead d_in"]) -> Float[Tensor, "*lead d_out"]:
        """Return all outputs, in the matrix's own order."""
        pieces = [site(x) for site in self.sites]
        if self.rest is not None:
            pieces.append(self.rest(x))
        return torch.cat(pieces, dim=-1).index_select(-1, self.order)


def _frozen_linear(weight: Float[Tensor, "d_in d_out"], bias: Float[Tensor, " d_out"] | None) -> nn.Linear:
    linear = nn.Linear(*weight.shape, bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.T, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias, requires_grad=False)
    return linear

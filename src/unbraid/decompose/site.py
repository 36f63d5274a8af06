"""How does one weight matrix run with some of its parts ablated? A wrapper that takes the matrix's place in the model.

The matrix M [d_in, d_out] is written as `M = V U + Δ`. With masks m for the C subcomponents and m_Δ for Δ the output is

    y = (x V ⊙ m) U + m_Δ (x Δ) + b  =  (x V ⊙ (m - m_Δ)) U + m_Δ (x M) + b,

and the second form is the one computed: it never forms Δ, sends no gradient through a d_in × d_out product, and shares `x M`
with the target's own forward pass wherever the site's input is the same tensor as there. Where the module is no linear map, `x M` is what
its `Reading` makes of it: looked-up rows, or a convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.decompose.columns import is_large, same
from unbraid.decompose.fused import excess
from unbraid.decompose.masked_product import masked_product
from unbraid.decompose.masks import Between, Mask
from unbraid.decompose.norm import fits_norm, formula_of, rms_norm
from unbraid.decompose.precision import is_high
from unbraid.decompose.products import times
from unbraid.decompose.reading import Reading
from unbraid.decompose.whole_site import fits, whole_site

NO_MASKS: Mapping[str, Mask | Between] = {}


class Kept:
    """A tensor that is kept for later, and whether somebody has changed it in place since."""

    __slots__ = ("tensor", "version")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.version = tensor, tensor._version

    @property
    def unchanged(self) -> bool:
        """Whether the tensor still holds what it held."""
        return self.tensor._version == self.version

    def is_(self, other: Tensor) -> bool:
        """Whether `other` is this very tensor, unchanged; or a large one that holds the same.

        Comparing costs little beside the work that is saved, but is in vain where a mask came before, which a gradient shows.
        """
        if not self.unchanged:
            return False
        if other is self.tensor:
            return True
        if other.requires_grad or not torch.is_grad_enabled() or not is_large(other) or not other.is_floating_point():
            return False
        if other.shape != self.tensor.shape or other.dtype != self.tensor.dtype:
            return False
        return other.device.type == "meta" or same(other, self.tensor)


class CleanSite:
    """What one site saw and gave in the target's own forward pass; `x V` is added when somebody first asks for it."""

    __slots__ = ("activation", "dense", "input", "output", "x")

    def __init__(self, given: Tensor, x: Tensor, dense: Tensor, output: Tensor) -> None:
        self.input, self.dense, self.output = Kept(given), Kept(dense), Kept(output)
        self.x = x  # what the site read as the importance function sees it, one row per position, [..., d_seen]
        self.activation: Tensor | None = None


@dataclass
class Pass:
    """What the sites of one model share during a forward pass: the masks in force, the clean pass they may reuse, whether V and U
    are fixed, so that no gradient of theirs is computed, and whether passes share `x V`."""

    masks: Mapping[str, Mask | Between] = field(default_factory=lambda: NO_MASKS)
    clean: dict[str, CleanSite] = field(default_factory=dict[str, CleanSite])
    recording: bool = False
    fixed: bool = False
    shares: bool = True


class Factors(nn.Module):
    """The rank-one subcomponents of one matrix: read directions V and write directions U.

    Args:
        d_in: Width that is read.
        d_out: Width that is written.
        C: Number of subcomponents.
    """

    kept: Tensor

    def __init__(self, d_in: int, d_out: int, C: int) -> None:
        super().__init__()
        self.V = nn.Parameter(torch.empty(d_in, C))
        self.U = nn.Parameter(torch.empty(C, d_out))
        self.register_buffer("kept", torch.ones(C))  # 0 for subcomponents that were pruned

    def views(self) -> tuple[Float[Tensor, "d_in C"], Float[Tensor, "C d_out"]]:
        """Return V and U."""
        return self.V, self.U


class TransposedFactors(nn.Module):
    """The same subcomponents seen from a tied, transposed matrix: one parameter, two views."""

    def __init__(self, owner: Factors) -> None:
        super().__init__()
        self._owner = (owner,)  # in a tuple, so that the parameters are registered once, with their owner

    @property
    def owner(self) -> Factors:
        """The factors that this is a view of."""
        return self._owner[0]

    def views(self) -> tuple[Float[Tensor, "d_in C"], Float[Tensor, "C d_out"]]:
        """Return the owner's factors with their roles exchanged."""
        V, U = self.owner.views()
        return U.mT, V.mT

    @property
    def kept(self) -> Float[Tensor, " C"]:
        """The owner's: 0 for subcomponents that were pruned."""
        return self.owner.kept


class DecomposedSite(nn.Module):
    """Stands where the target's matrix stood, and computes only what the masks in force ask for.

    Args:
        path: The site's name.
        weight: The frozen matrix M, `y = x @ M + bias`.
        bias: Always on, never masked.
        factors: The matrix's subcomponents.
        shared: The pass that all sites of the model share.
        reading: How the module uses its matrix; as a linear map by default.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        path: str,
        weight: Float[Tensor, "d_in d_out"],
        bias: Float[Tensor, " d_out"] | None,
        factors: Factors | TransposedFactors,
        shared: Pass,
        reading: Reading | None = None,
    ) -> None:
        super().__init__()
        self.path = path
        self.reading = reading or Reading()
        self.copies_input = False
        self.factors = factors
        self.shared = shared
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the matrix's output under the masks in force; without a mask for this site, the target's own output."""
        shared, reading = self.shared, self.reading
        clean = shared.clean.get(self.path)
        if shared.recording or clean is None or not clean.input.is_(x):
            clean = None
        mask = shared.masks.get(self.path)
        if mask is None:
            return clean.output.tensor if clean is not None and clean.output.unchanged else self._as_target(x)
        V, U = (factor.detach() if shared.fixed else factor for factor in self.factors.views())
        h = None if clean is None else self._activation(clean)
        if isinstance(mask, Between):
            if h is None and reading.is_linear and fits(x, mask, V, U, self.weight, self.bias):
                return whole_site(x, mask, V, U, self.weight, self.bias)
            h, dense = reading.products(x, V, self.weight) if h is None else (h, self._dense(x, clean))
            return reading.written(masked_product(h, mask, U, dense, self.bias))
        h = reading.times(x, V) if h is None else h
        if mask.delta is None:
            y = self._biased((h * mask.component) @ U)
            if mask.routed is not None:
                y = torch.where(mask.routed[..., None], y, self._biased(self._dense(x, clean)))
            return reading.written(y)
        kept = mask.delta[..., None]
        return reading.written(self._biased(torch.addcmul(excess(h, mask.component, kept) @ U, kept, self._dense(x, clean))))

    def _dense(self, x: Tensor, clean: CleanSite | None) -> Float[Tensor, "*lead d_out"]:
        return clean.dense.tensor if clean is not None and clean.dense.unchanged else self.reading.times(x, self.weight)

    def _activation(self, clean: CleanSite) -> Tensor:
        known = self.activation(clean) if self.shared.shares else self.reading.times(clean.input.tensor, self.factors.views()[0])
        return known.detach() if self.shared.fixed else known

    def _as_target(self, x: Tensor) -> Tensor:
        dense = self.reading.times(x, self.weight)
        output = self.reading.written(self._biased(dense))
        if self.shared.recording:
            if self.path in self.shared.clean:
                raise UserError(
                    f"The site {self.path!r} is called more than once in a forward pass, so that one importance would have to serve several inputs.",
                    "Leave it out of the sites, or give each call a module of its own; modules that share a weight may be sites.",
                )
            # A model that changes a site's input in place afterwards (`stream += mlp(stream)`) leaves nothing of it but a copy.
            given = x.clone() if self.copies_input else x
            self.shared.clean[self.path] = CleanSite(given, self.reading.seen(given, dense), dense, output)
        return output

    def _biased(self, y: Tensor) -> Tensor:
        return y if self.bias is None else y + self.bias

    def activation(self, clean: CleanSite) -> Float[Tensor, "*lead C"]:
        """Return `x V` of the target's own pass, computed once however many masked passes use it."""
        if clean.activation is None:
            clean.activation = self.reading.times(clean.input.tensor, self.factors.views()[0])
        return clean.activation

    @property
    def width_seen(self) -> int:
        """The width of what the importance function sees of this site."""
        return self.reading.width_seen(self.weight)

    def delta(self) -> Float[Tensor, "d_in d_out"]:
        """Return Δ, what the sum of the subcomponents leaves of the matrix."""
        V, U = self.factors.views()
        return self.weight - V @ U


class Remembered(nn.Module):
    """A part of the model without sites, which gives its clean output again when it is given its clean input again.

    Only modules that `is_pure` knows are wrapped; the input must be the same tensor object, unchanged.
    """

    def __init__(self, inner: nn.Module, shared: Pass) -> None:
        super().__init__()
        self.inner = inner
        self.shared = shared
        self._clean: tuple[dict[str, CleanSite], Kept, Kept] | None = None

    def __getattr__(self, name: str) -> Any:
        """Look up in the inner module what only it has, since models read such things (`norm.eps`, `embed.weight`)."""
        inner = self.__dict__.get("_modules", {}).get("inner")
        return super().__getattr__(name) if inner is None or name == "inner" else getattr(inner, name)

    def forward(self, x: Tensor) -> Tensor:
        """Return the inner module's output, from memory where it is known."""
        known = self._clean
        if not self.shared.recording:
            if known is not None and known[0] is self.shared.clean and known[1].is_(x) and known[2].unchanged:
                return known[2].tensor
            return self._computed(x)
        output = self._computed(x)
        self._clean = (self.shared.clean, Kept(x), Kept(output))
        return output

    def _computed(self, x: Tensor) -> Tensor:
        norm = formula_of(self.inner)
        if norm is not None and fits_norm(x, norm[0]):
            return rms_norm(x, *norm)
        return times(x, self.inner.weight.mT, self.inner.bias) if is_high() and type(self.inner) is nn.Linear else self.inner(x)

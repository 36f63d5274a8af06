"""What is planted in a toy? Oracle rank-one pieces per site, which of them an input needs, and probes that ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unbraid.core.errors import UserError


@dataclass(frozen=True)
class SiteTruth:
    """The planted mechanisms of one site.

    Attributes:
        V: Oracle read directions, one column per piece.
        U: Oracle write directions, one row per piece; `V @ U` does what the site's matrix does on the data.
        pattern: "per_feature": piece i belongs to feature i. "always_on": every piece is needed on every active input, in any
            basis of the same subspace. "sparse": a piece is needed wherever `on` says so, which no single feature decides.
        on: `inputs [batch, …] -> [batch, (pos,) pieces]`: the oracle's importance, 1 where the piece is needed.
        needed: The same, stricter: 1 where the piece must be important, 0 where it must not, NaN where the truth does not say.
        read_basis: Columns span what the data lets the site read; pieces are compared after projection onto them.
        compare: Which side of a piece names its feature: pieces of one feature share a row of the projected matrix ("read")
            or a column of it ("write").
        modules: The planted module of each piece, by name; a module may have pieces at several sites. Empty where none is planted.
        any_basis: Within a module only the subspace is planted, not the pieces: any basis of it is as good.
    """

    V: Float[Tensor, "d_in pieces"]
    U: Float[Tensor, "pieces d_out"]
    pattern: Literal["per_feature", "always_on", "sparse"]
    on: Callable[[Tensor], Float[Tensor, "batch pieces"]]
    needed: Callable[[Tensor], Float[Tensor, "batch pieces"]]
    read_basis: Float[Tensor, "d_in n_read"] | None = None
    compare: Literal["read", "write"] = "read"
    modules: tuple[str, ...] = ()
    any_basis: bool = False

    @property
    def rank(self) -> int:
        """How many rank-one pieces the truth has."""
        return self.U.shape[0]


@dataclass(frozen=True)
class Truth:
    """The planted mechanisms of a toy.

    Attributes:
        sites: Truth per site path.
        one_hot: Probe inputs with one feature on, in the order of the features; None where inputs are not made of features.
        co_active: Probe inputs with several features on.
        identity_error_bar: How many wrong entries over all `per_feature` sites still count as found.
        tolerance: Importance above 1 - tolerance counts as on, below tolerance as off.
        unresolvable: Sets of modules that the data always needs together. Nothing that looks at when parts are needed can tell
            them apart, so a score does not punish merging them.
        module_inputs: Module → the input features that it reads, for toys where that is known.
        bars: Scorecard line → (low, high) where a toy asks for something else than the default; (None, None) is for reading only.
    """

    sites: dict[str, SiteTruth]
    one_hot: Float[Tensor, "n_features n_features"] | None = None
    co_active: Float[Tensor, "probes n_features"] | None = None
    identity_error_bar: int = 0
    tolerance: float = 0.1
    unresolvable: tuple[frozenset[str], ...] = ()
    module_inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    bars: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict[str, tuple[float | None, float | None]])

    def importance(self, inputs: Tensor) -> dict[str, Float[Tensor, "*lead pieces"]]:
        """Return the oracle's importance of every piece on every input."""
        return {path: site.on(inputs) for path, site in self.sites.items()}

    @property
    def probes(self) -> tuple[Float[Tensor, "n_features n_features"], Float[Tensor, "probes n_features"]]:
        """The one-hot and the co-active probes.

        Raises:
            UserError: There are none, though a site's pieces belong to features.
        """
        if self.one_hot is None or self.co_active is None:
            raise UserError(
                "A site's truth has the pattern 'per_feature', but there are no probes.",
                'Give Truth(one_hot=…, co_active=…), or use the pattern "sparse".',
            )
        return self.one_hot, self.co_active

    @property
    def module_names(self) -> list[str]:
        """The planted modules, in the order in which the sites first name them."""
        return list(dict.fromkeys(name for site in self.sites.values() for name in site.modules))

    def resolvable(self, module: str) -> str:
        """Return what a module is called where modules that the data cannot tell apart have one name."""
        for merged in self.unresolvable:
            if module in merged:
                return " + ".join(sorted(merged))
        return module


def feature_on(inputs: Float[Tensor, "batch n_features"]) -> Float[Tensor, "batch n_features"]:
    """A piece that is needed exactly when its feature is on."""
    return (inputs != 0).to(inputs.dtype)


def any_on(rank: int) -> Callable[[Tensor], Tensor]:
    """A map of this rank, all of which every input with a feature on needs."""
    return lambda inputs: (inputs != 0).any(-1, keepdim=True).to(inputs.dtype).expand(-1, rank)


def answered(module: nn.Module, clearly: float = 0.5) -> Callable[[Tensor], Tensor]:
    """A piece that is needed exactly when the model answers its feature.

    In superposition a layer that reads the hidden vector cannot tell which features made it: two features can sum to a third
    one's direction, and the target itself then answers the third. Answers between 0 and `clearly` say nothing, since ablating
    a weak one costs little.
    """

    def needed(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            answer = module(inputs)
        return torch.where(answer > clearly, 1.0, torch.where(answer == 0, 0.0, torch.nan))

    return needed

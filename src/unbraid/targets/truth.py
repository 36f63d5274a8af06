"""What is planted in a toy? Oracle rank-one pieces per site, which of them an input needs, and probes that ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class SiteTruth:
    """The planted mechanisms of one site.

    Attributes:
        V: Oracle read directions, one column per piece.
        U: Oracle write directions, one row per piece; `V @ U` does what the site's matrix does on the data.
        pattern: "per_feature": piece i is needed when feature i is on. "always_on": every piece is needed on every active
            input, in any basis of the same subspace.
        read_basis: Columns span what the data lets the site read; pieces are compared after projection onto them.
        compare: Which side of a piece names its feature: pieces of one feature share a row of the projected matrix ("read")
            or a column of it ("write").
    """

    V: Float[Tensor, "d_in pieces"]
    U: Float[Tensor, "pieces d_out"]
    pattern: Literal["per_feature", "always_on"]
    read_basis: Float[Tensor, "d_in n_read"] | None = None
    compare: Literal["read", "write"] = "read"

    @property
    def rank(self) -> int:
        """How many rank-one pieces the truth has."""
        return self.U.shape[0]


@dataclass(frozen=True)
class Truth:
    """The planted mechanisms of a toy.

    Attributes:
        sites: Truth per site path.
        active: `inputs [batch, n_features] -> [batch, n_features]`, which features are on.
        one_hot: Probe inputs with one feature on, in the order of the features.
        co_active: Probe inputs with several features on.
        identity_error_bar: How many wrong entries over all `per_feature` sites still count as found.
        tolerance: Importance above 1 - tolerance counts as on, below tolerance as off.
    """

    sites: dict[str, SiteTruth]
    active: Callable[[Tensor], Bool[Tensor, "batch n_features"]]
    one_hot: Float[Tensor, "n_features n_features"]
    co_active: Float[Tensor, "probes n_features"]
    identity_error_bar: int = 0
    tolerance: float = 0.1

    def importance(self, inputs: Float[Tensor, "batch n_features"]) -> dict[str, Float[Tensor, "batch pieces"]]:
        """Return the oracle's importance of every piece on every input: 1 where it is needed, 0 elsewhere."""
        on = self.active(inputs).to(inputs.dtype)
        result: dict[str, Tensor] = {}
        for path, site in self.sites.items():
            result[path] = on if site.pattern == "per_feature" else on.new_ones(on.shape[0], site.rank)
        return result

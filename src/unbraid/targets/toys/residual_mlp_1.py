"""Residual MLP with one layer: 100 features computed by 50 neurons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from unbraid.targets.residual_mlp import ResidualMLP
from unbraid.targets.toy import toys


@toys.register
class ResidualMLP1(ResidualMLP):
    """100 features, 50 neurons, a stream of width 1,000, one layer."""

    kind: Literal["residual-mlp-1"] = "residual-mlp-1"
    n_features: int = 100
    d_model: int = 1000
    d_mlp: int = 50
    n_layers: int = 1

    summary: ClassVar[str] = (
        "100 sparse features computed by 50 neurons: 100 reading pieces, one writing map of rank 50 that every input needs"
    )
    lesson: ClassVar[str] = "a layer can compute more features than it has neurons; neurons are not its parts"
    sites: ClassVar[tuple[str, ...]] = ("blocks.*.mlp_*",)
    recipe: ClassVar[Mapping[str, Any]] = {}

"""Residual MLP with two layers: features computed across layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from unbraid.targets.toy import Features, toys
from unbraid.targets.toy_kit.residual_mlp import ResidualMLP, deep_recipe


@toys.register
class ResidualMLP2(ResidualMLP):
    """40 features, 16 neurons in each of two layers, a stream of width 400."""

    kind: Literal["residual-mlp-2"] = "residual-mlp-2"
    n_features: Features = 40
    d_model: PositiveInt = 400
    d_mlp: PositiveInt = 16
    n_layers: PositiveInt = 2

    summary: ClassVar[str] = (
        "40 sparse features, each computed by both layers of 16 neurons: 40 reading pieces and one full writing map per layer"
    )
    lesson: ClassVar[str] = "one mechanism can be spread over layers; its pieces belong together although no single matrix holds it"
    sites: ClassVar[tuple[str, ...]] = ("blocks.*.mlp_*",)
    published: ClassVar[Mapping[str, Any]] = {
        "target": {"n_features": 100, "d_model": 1000, "d_mlp": 25},
        "components": {"*.mlp_in": 300, "*.mlp_out": 50},
    }
    recipe: ClassVar[Mapping[str, Any]] = deep_recipe(
        steps=6500, components=(120, 32), layers=2, first=6.5e-6, later=8e-6, out=2.6e-5, prune_below=0.15
    )

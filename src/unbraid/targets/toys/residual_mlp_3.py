"""Residual MLP with three layers: features computed across layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from unbraid.targets.toy import Features, toys
from unbraid.targets.toy_kit.residual_mlp import ResidualMLP, deep_recipe


@toys.register
class ResidualMLP3(ResidualMLP):
    """48 features, 13 neurons in each of three layers, a stream of width 480."""

    kind: Literal["residual-mlp-3"] = "residual-mlp-3"
    # Of the instances 0 to 7 this one writes its features in the least similar directions, .90 at most. In instance 0 three pairs are more
    # alike, up to .95, and each tends to become one piece: 5 wrong entries in the last layer at the worst seed.
    seed: NonNegativeInt = 2
    n_features: Features = 48
    d_model: PositiveInt = 480
    d_mlp: PositiveInt = 13
    n_layers: PositiveInt = 3

    summary: ClassVar[str] = (
        "48 sparse features, each computed by all three layers of 13 neurons: 48 reading pieces and one full writing map per layer"
    )
    lesson: ClassVar[str] = "a layer reads what earlier layers wrote, so a feature's direction is another one in each layer"
    sites: ClassVar[tuple[str, ...]] = ("blocks.*.mlp_*",)
    # Trained longer, features settle in one or two of the layers; here each still needs all three.
    training_steps: ClassVar[int] = 500
    published: ClassVar[Mapping[str, Any]] = {
        "target": {"n_features": 102, "d_model": 1000, "d_mlp": 17},
        "components": {"*.mlp_in": 306, "*.mlp_out": 34},
    }
    recipe: ClassVar[Mapping[str, Any]] = deep_recipe(
        steps=6000, components=(144, 26), layers=3, first=5e-6, later=6e-6, out=1.8e-5, prune_below=0.12
    )

"""Residual MLP with three layers: features computed across layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from unbraid.targets.residual_mlp import ResidualMLP
from unbraid.targets.toy import Features, toys


@toys.register
class ResidualMLP3(ResidualMLP):
    """48 features, 13 neurons in each of three layers, a stream of width 480."""

    kind: Literal["residual-mlp-3"] = "residual-mlp-3"
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
    published: ClassVar[Mapping[str, int]] = {"n_features": 102, "d_model": 1000, "d_mlp": 17}
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 6000,
        "batch_size": 1024,
        "components": {"*.mlp_in": 144, "*.mlp_out": 26},
        "warmup": {"steps": 200, "learning_rate": 0.01, "weight_decay": 0.1},
        "importance": {
            "kind": "per-site",
            "sites": {"*.mlp_in": {"kind": "component-readout"}, "*.mlp_out": {"kind": "layerwise-mlp", "hidden": 2}},
        },
        "losses": {
            "stochastic": {"routing": "subset", "coefficient": 2.0},
            "faithfulness": {"coefficient": 1e-3, "relative": True},
            # Little pressure at first, or features with like directions share a piece; then much, or one feature has two pieces;
            # none late. The first layer's pieces matter least and bear less of it.
            "minimality": {
                "coefficient": 5e-6,
                "sites": "blocks.0.mlp_in",
                "normalized": True,
                "anneal_until": 0.55,
                "decay": {"begin": 0.08, "end": 0.3, "final_share": 5.0},
            },
            "minimality-later": {
                "kind": "minimality",
                "coefficient": 6e-6,
                "sites": ["blocks.1.mlp_in", "blocks.2.mlp_in"],
                "normalized": True,
                "anneal_until": 0.55,
                "decay": {"begin": 0.08, "end": 0.3, "final_share": 5.0},
            },
            "minimality-out": {
                "kind": "minimality",
                "coefficient": 1.8e-5,
                "sites": "*.mlp_out",
                "normalized": True,
                "frequency": None,
                "gamma_end": 0.03,
                "anneal_until": 0.75,
                "decay": {"begin": 0.48, "end": 0.7, "final_share": 0.06},
            },
        },
        "prune": {"at": 0.6, "below": 0.12},
        "optimizer": {
            "factors": {"learning_rate": 2e-3, "final_share": 0.1},
            "importance": {"learning_rate": 2e-3, "final_share": 0.1},
            "epsilon": 1e-11,
        },
    }

"""Residual MLP with two layers: features computed across layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from unbraid.targets.residual_mlp import ResidualMLP
from unbraid.targets.toy import Features, toys


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
    published: ClassVar[Mapping[str, int]] = {"n_features": 100, "d_model": 1000, "d_mlp": 25}
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 6500,
        "batch_size": 1024,
        "components": {"*.mlp_in": 120, "*.mlp_out": 32},
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
                "coefficient": 6.5e-6,
                "sites": "blocks.0.mlp_in",
                "normalized": True,
                "anneal_until": 0.55,
                "decay": {"begin": 0.08, "end": 0.3, "final_share": 5.0},
            },
            "minimality-later": {
                "kind": "minimality",
                "coefficient": 8e-6,
                "sites": "blocks.1.mlp_in",
                "normalized": True,
                "anneal_until": 0.55,
                "decay": {"begin": 0.08, "end": 0.3, "final_share": 5.0},
            },
            # The gate of two units cannot shut a column for single features; γ is small in the end, so that what is on is let be
            # and what is left over is shut.
            "minimality-out": {
                "kind": "minimality",
                "coefficient": 2.6e-5,
                "sites": "*.mlp_out",
                "normalized": True,
                "frequency": None,
                "gamma_end": 0.03,
                "anneal_until": 0.75,
                "decay": {"begin": 0.48, "end": 0.7, "final_share": 0.06},
            },
        },
        "prune": {"at": 0.6, "below": 0.15},
        "optimizer": {
            "factors": {"learning_rate": 2e-3, "final_share": 0.1},
            "importance": {"learning_rate": 2e-3, "final_share": 0.1},
            "epsilon": 1e-11,
        },
    }

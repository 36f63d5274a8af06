"""Residual MLP with one layer: 100 features computed by 50 neurons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from unbraid.targets.toy import Features, toys
from unbraid.targets.toy_kit.residual_mlp import ResidualMLP


@toys.register
class ResidualMLP1(ResidualMLP):
    """100 features, 50 neurons, a stream of width 1,000, one layer."""

    kind: Literal["residual-mlp-1"] = "residual-mlp-1"
    n_features: Features = 100
    d_model: PositiveInt = 1000
    d_mlp: PositiveInt = 50
    n_layers: PositiveInt = 1

    summary: ClassVar[str] = (
        "100 sparse features computed by 50 neurons: 100 reading pieces, one writing map of rank 50 that every input needs"
    )
    lesson: ClassVar[str] = "a layer can compute more features than it has neurons; neurons are not its parts"
    sites: ClassVar[tuple[str, ...]] = ("blocks.*.mlp_*",)
    identity_error_bar: ClassVar[int] = 2
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 5000,
        "batch_size": 1024,
        "components": {"*.mlp_in": 150, "*.mlp_out": 100},
        "warmup": {"steps": 200, "learning_rate": 0.01, "weight_decay": 0.1},
        "importance": {
            "kind": "per-site",
            "sites": {"*.mlp_in": {"kind": "component-readout"}, "*.mlp_out": {"kind": "layerwise-mlp", "hidden": 8}},
        },
        "losses": {
            "stochastic": {"routing": "subset", "coefficient": 2.0},
            "faithfulness": {"coefficient": 1e-3, "relative": True},
            "minimality": {"coefficient": 2e-5, "sites": "*.mlp_in", "normalized": True},
            "minimality-out": {
                "kind": "minimality",
                "coefficient": 4e-6,
                "sites": "*.mlp_out",
                "normalized": True,
                "frequency": None,
                "gamma_end": 1.0,
                "decay": {"begin": 0.48, "end": 0.7, "final_share": 0.15},
            },
        },
        "optimizer": {
            "factors": {"learning_rate": 2e-3, "final_share": 0.1},
            "importance": {"learning_rate": 2e-3, "final_share": 0.1},
            "epsilon": 1e-11,
        },
    }

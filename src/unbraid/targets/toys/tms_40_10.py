"""TMS 40→10."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from unbraid.targets.toy import Features, toys
from unbraid.targets.toy_kit.tms import TMS


@toys.register
class TMS4010(TMS):
    """40 features in 10 dimensions."""

    kind: Literal["tms-40-10"] = "tms-40-10"
    n_features: Features = 40
    d_hidden: PositiveInt = 10
    identity: bool = False

    summary: ClassVar[str] = "40 sparse features in 10 dimensions: 40 rank-one pieces per layer"
    lesson: ClassVar[str] = "features lie in superposition: more directions than dimensions, one piece each"
    sites: ClassVar[tuple[str, ...]] = ("linear1", "linear2")
    identity_error_bar: ClassVar[int] = 2
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 4000,
        "starts": {"count": 2, "until": 0.6},
        "prune": {"at": 0.7, "below": 0.05},
        "batch_size": 1024,
        "components": 240,
        "importance": {"kind": "layerwise-mlp", "hidden": 96},
        "losses": {
            "stochastic": {"routing": "subset"},
            "minimality": {"coefficient": 6e-5},
        },
        "optimizer": {"factors": {"learning_rate": 3e-3}, "importance": {"learning_rate": 3e-3}},
    }

"""TMS 5→2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from unbraid.targets.toy import Features, toys
from unbraid.targets.toy_kit.tms import TMS


@toys.register
class TMS52(TMS):
    """5 features in 2 dimensions."""

    kind: Literal["tms-5-2"] = "tms-5-2"
    n_features: Features = 5
    d_hidden: PositiveInt = 2
    identity: bool = False

    summary: ClassVar[str] = "5 sparse features in 2 dimensions: 5 rank-one pieces per layer"
    lesson: ClassVar[str] = "features lie in superposition: more directions than dimensions, one piece each"
    sites: ClassVar[tuple[str, ...]] = ("linear1", "linear2")
    identity_error_bar: ClassVar[int] = 0
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 3000,
        "starts": {"count": 2, "until": 0.5},
        "batch_size": 1024,
        "components": 80,
        "importance": {"kind": "layerwise-mlp", "hidden": 64},
        "prune": {"at": 0.7, "below": 0.05},
        "losses": {
            "stochastic": {"routing": "subset"},
            "minimality": {"coefficient": 8e-4},
        },
        "optimizer": {"factors": {"learning_rate": 3e-3}, "importance": {"learning_rate": 3e-3}},
    }

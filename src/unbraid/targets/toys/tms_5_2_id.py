"""TMS 5→2 with a frozen identity hidden layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from unbraid.targets.toy import Features, toys
from unbraid.targets.toy_kit.tms import TMS


@toys.register
class TMS52ID(TMS):
    """5 features in 2 dimensions with a frozen identity hidden layer."""

    kind: Literal["tms-5-2-id"] = "tms-5-2-id"
    n_features: Features = 5
    d_hidden: PositiveInt = 2
    identity: bool = True

    summary: ClassVar[str] = "5 sparse features in 2 dimensions: 5 rank-one pieces per layer, and a rank-2 identity that every input needs"
    lesson: ClassVar[str] = "a map that merely moves information has full rank and is always on; it must not be split by feature"
    sites: ClassVar[tuple[str, ...]] = ("linear1", "hidden", "linear2")
    identity_error_bar: ClassVar[int] = 0
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 3000,
        "starts": {"count": 3, "until": 0.5},
        "batch_size": 1024,
        "components": {"linear*": 80, "hidden": 20},
        "importance": {"kind": "layerwise-mlp", "hidden": 64},
        "prune": {"at": 0.7, "below": 0.05},
        "losses": {
            "stochastic": {"routing": "subset"},
            "minimality": {"coefficient": 8e-4, "sites": "linear*"},
            "minimality-hidden": {"kind": "minimality", "coefficient": 1.6e-5, "sites": "hidden", "frequency": None, "gamma_end": 1.0},
            "simplicity": {"coefficient": 5e-4, "p": 0.5, "sites": "hidden", "decay": {"begin": 0.7, "end": 0.75, "final_share": 1e-3}},
        },
        "optimizer": {"factors": {"learning_rate": 3e-3}, "importance": {"learning_rate": 3e-3}},
    }

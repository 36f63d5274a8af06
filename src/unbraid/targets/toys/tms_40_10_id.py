"""TMS 40→10 with a frozen identity hidden layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from unbraid.targets.toy import Features, toys
from unbraid.targets.toy_kit.tms import TMS


@toys.register
class TMS4010ID(TMS):
    """40 features in 10 dimensions with a frozen identity hidden layer."""

    kind: Literal["tms-40-10-id"] = "tms-40-10-id"
    n_features: Features = 40
    d_hidden: PositiveInt = 10
    identity: bool = True

    summary: ClassVar[str] = (
        "40 sparse features in 10 dimensions: 40 rank-one pieces per layer, and a rank-10 identity that every input needs"
    )
    lesson: ClassVar[str] = "a map that merely moves information has full rank and is always on; it must not be split by feature"
    sites: ClassVar[tuple[str, ...]] = ("linear1", "hidden", "linear2")
    identity_error_bar: ClassVar[int] = 2
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 4000,
        "starts": {"count": 2, "until": 0.6},
        "prune": {"at": 0.7, "below": 0.05},
        "batch_size": 1024,
        "components": {"linear*": 240, "hidden": 40},
        "importance": {
            "kind": "per-site",
            "sites": {"linear*": {"kind": "layerwise-mlp", "hidden": 96}, "hidden": {"kind": "layerwise-mlp", "hidden": 64}},
        },
        "losses": {
            "stochastic": {"routing": "subset"},
            "minimality": {"coefficient": 6e-5, "sites": "linear*"},
            "minimality-hidden": {"kind": "minimality", "coefficient": 2e-6, "sites": "hidden", "frequency": None, "gamma_end": 1.0},
            "simplicity": {"coefficient": 1e-4, "p": 0.5, "sites": "hidden", "decay": {"begin": 0.7, "end": 0.75, "final_share": 1e-3}},
        },
        "optimizer": {"factors": {"learning_rate": 3e-3}, "importance": {"learning_rate": 3e-3}},
    }

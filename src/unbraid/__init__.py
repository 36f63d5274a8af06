"""unbraid takes trained neural networks apart and proves that the parts are real.

The public names are below; importing the package does not import torch until one of them is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unbraid.components.config import GroupingConfig as GroupingConfig
    from unbraid.components.result import Modules as Modules
    from unbraid.components.verb import group as group
    from unbraid.core.errors import UserError as UserError
    from unbraid.decompose.config import DecomposeConfig as DecomposeConfig
    from unbraid.decompose.load import load as load
    from unbraid.decompose.masks import Mask as Mask
    from unbraid.decompose.preset import preset as preset
    from unbraid.decompose.result import Decomposition as Decomposition
    from unbraid.decompose.scorecard import Scorecard as Scorecard
    from unbraid.decompose.verb import decompose as decompose
    from unbraid.targets.models.load import load_model as load_model
    from unbraid.targets.models.load import load_tokenizer as load_tokenizer
    from unbraid.targets.target import Target as Target
    from unbraid.targets.toy import load_target as load_target
    from unbraid.verify.result import Verification as Verification
    from unbraid.verify.verb import VerifyConfig as VerifyConfig
    from unbraid.verify.verb import verify as verify

__version__ = "0.1.0"

_HOMES = {
    "DecomposeConfig": "unbraid.decompose.config",
    "Decomposition": "unbraid.decompose.result",
    "GroupingConfig": "unbraid.components.config",
    "Mask": "unbraid.decompose.masks",
    "Modules": "unbraid.components.result",
    "Scorecard": "unbraid.decompose.scorecard",
    "Target": "unbraid.targets.target",
    "UserError": "unbraid.core.errors",
    "Verification": "unbraid.verify.result",
    "VerifyConfig": "unbraid.verify.verb",
    "group": "unbraid.components.verb",
    "load": "unbraid.decompose.load",
    "load_model": "unbraid.targets.models.load",
    "load_target": "unbraid.targets.toy",
    "load_tokenizer": "unbraid.targets.models.load",
    "preset": "unbraid.decompose.preset",
}

__all__ = [
    "DecomposeConfig",
    "Decomposition",
    "GroupingConfig",
    "Mask",
    "Modules",
    "Scorecard",
    "Target",
    "UserError",
    "Verification",
    "VerifyConfig",
    "decompose",
    "group",
    "load",
    "load_model",
    "load_target",
    "load_tokenizer",
    "preset",
    "verify",
]


_ROOMS = {"decompose", "verify"}  # packages that are called like functions


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return import_module(f"unbraid.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'unbraid' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

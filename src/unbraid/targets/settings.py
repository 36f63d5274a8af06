"""From which settings is a target built? Those of a toy, or of a language model on disk; a run folder holds either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unbraid.core.errors import UserError
from unbraid.targets.models.language_model import KIND, LanguageModel
from unbraid.targets.toy import Toy, toys

TargetSettings = Toy | LanguageModel


def target_settings(tree: Mapping[str, Any], where: str = "target") -> TargetSettings:
    """Return the settings that a mapping with `kind` stands for.

    Raises:
        UserError: The kind is unknown, or a setting is not allowed.
    """
    if "kind" not in tree:
        raise UserError(f"{where}: the target has no kind.", f"Give the name of a toy, or {KIND}.")
    kind = str(tree["kind"])
    return LanguageModel.parse(tree, where) if kind == KIND else toys.get(kind).parse(tree, where)

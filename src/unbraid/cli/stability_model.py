"""Which model is a question about stability asked of? A toy by its name, a language model by its folder or name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unbraid.cli.language_model import language_model

if TYPE_CHECKING:
    from unbraid.targets.target import Target


def model_named(name: str, text: Path | None, window: int | None) -> Target:
    """Return the target of that name, with its text.

    Raises:
        UserError: There is none, or a language model has no text.
    """
    settings = language_model(name, None, text, window)
    if settings is None:
        from unbraid.targets.toy import load_target

        return load_target(name)
    from unbraid.targets.models.language_model import LanguageModel

    return LanguageModel.parse(settings).target()

"""Which model is asked about, on the command line of `unbraid stability`? A language model with its text, or a toy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unbraid.cli.language_model import language_model

if TYPE_CHECKING:
    from unbraid.targets.target import Target

Model = Annotated[
    str,
    typer.Argument(
        help="A folder or hub id, the name of a pulled or shipped model (carroll, carroll/step-0), or a toy.",
        metavar="MODEL",
        show_default=False,
    ),
]
TextOption = Annotated[
    Path | None,
    typer.Option(
        "--text",
        help="Text, or what unbraid text build made; prompts are taken from what is held out of it.",
        metavar="FILE_OR_FOLDER",
        show_default=False,
    ),
]
Out = Annotated[Path | None, typer.Option(help="Keep the curves and pictures in this folder.", metavar="DIR", show_default=False)]


def named_target(model: str, text: Path | None, context: int) -> Target:
    """Return the target that was named, whose text is read in windows of one prompt each.

    Raises:
        UserError: There is none of that name, or its text is missing or too short.
    """
    settings = language_model(model, None, text, None, names_sites=False)
    if settings is None:
        from unbraid.targets.toy import load_target

        return load_target(model)
    from unbraid.targets.models.language_model import LanguageModel

    return LanguageModel.parse({**settings, "window": max(context, 2)}).target()

"""Which model is asked about, on the command line of `unbraid stability`? A language model with its text, or a toy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unbraid.cli.language_model import language_model
from unbraid.core.errors import UserError

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


def named_target(model: str, text: Path | None, context: int, knobs: Mapping[str, Any] | None = None) -> Target:
    """Return the target that was named, whose text is read in windows of one prompt each; a toy at knobs of its own is called by them, too.

    Raises:
        UserError: There is none of that name, or its text is missing or too short.
    """
    settings = language_model(model, None, text, None, names_sites=False)
    if settings is None:
        from unbraid.targets.toy import find_toy

        toy = find_toy(model)
        if not knobs:
            return toy.target()
        target = type(toy).parse({**toy.tree(), **knobs}, f"target {model!r}").target()
        target.name = f"{model} ({', '.join(f'{name}={value}' for name, value in knobs.items())})"
        return target
    if knobs:
        raise UserError(f"{model!r} is no toy, and has no knob {next(iter(knobs))!r}.", "Leave out --set target.…")
    from unbraid.targets.models.language_model import LanguageModel

    return LanguageModel.parse({**settings, "window": max(context, 2)}).target()

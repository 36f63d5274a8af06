"""How is a language model named on the command line? By its folder or name, with --sites and --text beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from unbraid.core.errors import UserError, unknown

WINDOW = 128


def language_model(target: str | None, sites: list[str] | None, text: Path | None, window: int | None) -> dict[str, Any] | None:
    """Return the settings of the language model that was named, or None where a toy was.

    Raises:
        UserError: Something is missing that a language model needs, or was given beside a toy, or the name is neither's.
    """
    from unbraid.targets.models.language_model import KIND
    from unbraid.targets.toy import toys

    given = [name for name, value in (("--sites", sites), ("--text", text), ("--window", window)) if value]
    if target is None or target in toys.kinds():
        if given:
            what = "no target was named" if target is None else f"{target!r} is a toy, whose sites and inputs are known"
            raise UserError(f"{given[0]} is for language models, and {what}.", f"Leave {given[0]} out, or name a model on disk.")
        return None
    from unbraid.targets.models.catalogue import MODELS

    if not given and "/" not in target and target not in MODELS and not Path(target).exists():
        raise unknown("target", target, [*toys.kinds(), *MODELS], "unbraid targets list and unbraid models list")
    from unbraid.targets.models.load import load_tokenizer
    from unbraid.targets.models.reference import resolve
    from unbraid.targets.text.cached import tokens_of

    folder = resolve(target)
    if not sites:
        raise UserError(
            "Which matrices of the model?", f'Name them, for example --sites "*.mlp.*". They are listed by: unbraid sites {target}'
        )
    if text is None:
        raise UserError("A language model needs text to read.", "Give --text FILE_OR_FOLDER")
    tokens = tokens_of(text, load_tokenizer(folder), window or WINDOW, lambda documents, size: None)
    if tokens != text:
        typer.echo(f"Tokens: {tokens}", err=True)
    # Whole paths: a run is scored and gone on with from any folder.
    return {"kind": KIND, "model": str(folder.resolve()), "sites": sites, "text": str(tokens.resolve()), "window": window}

"""How is a language model named on the command line? By its folder or name, with --sites and --text beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import typer

from unbraid.cli.progress import reading, watched
from unbraid.core.errors import UserError, unknown

WINDOW = 128


def language_model(
    target: str | None, sites: list[str] | None, text: Path | None, window: int | None, names_sites: bool = True
) -> dict[str, Any] | None:
    """Return the settings of the language model that was named, or None where a toy was; without `names_sites`, the sites play no part.

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
    from unbraid.targets.models.reference import MODELS_FOLDER, resolve
    from unbraid.targets.models.shipped import shipped_model, shipped_names, shipped_text

    known = [*MODELS, *shipped_names()]
    there = "/" in target or target in known or any(folder.exists() for folder in (Path(target), MODELS_FOLDER / target))
    if not given and not there:
        raise unknown("target", target, [*toys.kinds(), *known], "unbraid targets list and unbraid models list")
    from unbraid.targets.models.load import model_on_paper
    from unbraid.targets.models.site_table import block_matrices

    folder = resolve(target)
    paper = model_on_paper(folder)
    if not sites:
        sites = block_matrices(paper)
        if names_sites:
            _say(f"Sites: all {len(sites)} matrices between the embedding and the unembedding.")
    longest = getattr(paper.config, "max_position_embeddings", WINDOW)
    # Whole paths, or names of what comes with the package: a run is scored and gone on with from any folder.
    is_shipped = folder == shipped_model(target)
    if text is None and is_shipped and shipped_text(target) is not None:
        words = target
    else:
        tokens = _tokens(target, folder, text, window or min(WINDOW, int(cast(int, longest))))
        words = str(tokens.resolve())
        if tokens != text:
            _say(f"Tokens: {tokens}")
    return {"kind": KIND, "model": target if is_shipped else str(folder.resolve()), "sites": sites, "text": words, "window": window}


def _tokens(target: str, folder: Path, text: Path | None, window: int) -> Path:
    """Return the tokens of the text that was given; of what a known model writes itself where its own text cannot be had."""
    from unbraid.core.storage import cache_folder
    from unbraid.targets.models.catalogue import MODELS
    from unbraid.targets.models.load import load_tokenizer
    from unbraid.targets.text.cached import tokens_of
    from unbraid.targets.text.sample import sample_text

    known = MODELS.get(Path(target).name)
    if text is None:
        if known is None or not known.writes:
            raise UserError("A language model needs text to read.", "Give --text FILE_OR_FOLDER")
        text = cache_folder("text") / f"{known.name}-{known.sha256[:12]}-writes-{known.writes}.jsonl"
        _say(f"Text: what {known.name} writes itself, {known.writes:,} documents, kept in {text}")
        if not text.is_file():
            with watched("writing …") as update:
                sample_text(folder, text, known.writes, report=lambda done: update(f"{done:,} of {known.writes:,} documents"))
    with watched("reading …") as update:
        return tokens_of(text, load_tokenizer(folder), window, reading(update))


def _say(text: str) -> None:
    """Tell on stderr what was chosen, once however many ranks there are."""
    from unbraid.core.ranks import current

    if current().first:
        typer.echo(text, err=True)

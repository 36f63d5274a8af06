"""`unbraid compare`: do runs with other seeds, or another C, have the same parts?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unbraid.cli.options import Json, Plugins, start
from unbraid.core.errors import UserError


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Two or more run folders, or names of shipped decompositions.", metavar="RUN RUN …", show_default=False),
    ],
    plugins: Plugins = None,
    json_: Json = False,
) -> None:
    """Put the alive subcomponents of two runs beside each other: how many, and how alike.

    \b
    unbraid compare runs/carroll-seed0-1 runs/carroll-seed1-1     the seed test
    unbraid compare runs/with-256 runs/with-512                   the capacity test

    A score of 1 means that each has its twin in the other run; "by chance" is what runs without anything in common would have.
    """
    if len(runs) < 2:
        raise UserError("One run was given.", "Give two or more, to be compared.")
    start(plugins)
    from rich.console import Console

    from unbraid.decompose.likeness import compare_all
    from unbraid.decompose.load import load

    found = compare_all([load(run) for run in runs])
    if json_:
        typer.echo(json.dumps({"pairs": [pair.tree() for pair in found]}))
        return
    for pair in found:
        Console().print(pair.summary())

"""`unbraid score`: how far may a run be trusted? Measured again from its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unbraid.cli.options import Json, Plugins, start
from unbraid.cli.outcome import show_outcome, with_plugins


def score(
    run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN", show_default=False)],
    strict: Annotated[bool, typer.Option("--strict", metavar="", help="Exit with 1 when a line misses its bar.")] = False,
    plugins: Plugins = None,
    no_report: Annotated[bool, typer.Option("--no-report", metavar="", help="Write the scorecard, but no report.")] = False,
    json_: Json = False,
) -> None:
    """Measure a run's scorecard again, and write its scorecard and report anew.

    \b
    unbraid score runs/tms-5-2-seed0-1
    """
    start(plugins)
    from unbraid.decompose.result import Decomposition

    result = Decomposition.from_pretrained(run)
    passed = show_outcome(result, run, not no_report, json_, with_plugins("unbraid score", run, plugins))
    if strict and not passed:
        raise typer.Exit(1)

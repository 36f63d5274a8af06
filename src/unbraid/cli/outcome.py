"""What does a person see when a decomposition is there? The scorecard, where the report is, and what to run next."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from unbraid.cli.progress import watched

if TYPE_CHECKING:
    from rich.console import Console

    from unbraid.components.scorecard import Judged
    from unbraid.decompose.result import Decomposition


def with_plugins(command: str, folder: Path, plugins: Sequence[Path] | None) -> str:
    """Write a command about a run, with the plugins that it needs, as it can be pasted."""
    return " ".join([command, shlex.quote(str(folder)), *(f"--plugins {shlex.quote(str(path))}" for path in plugins or [])])


def show_outcome(result: Decomposition, folder: Path, report: bool, as_json: bool, again: str) -> bool:
    """Measure the scorecard, write it and the report into the run folder, and print; return whether every line passes.

    Args:
        result: The decomposition.
        folder: Its run folder.
        report: Whether to write the report, or the scorecard alone.
        as_json: Print one JSON object.
        again: The command that measures again, named on the last line.
    """
    from unbraid.components.scorecard import judge

    try:
        with watched("Measuring the scorecard …"):
            judged = judge(result)
            card = judged.scorecard
        with watched("Writing the report …" if report else "Writing the scorecard …"):
            page = _write(result, folder, judged, report)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted while measuring; the run is whole. Measure it with: {again}", err=True)
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps({**card.tree(), "folder": str(folder), "report": None if page is None else str(page)}))
        return card.passed
    from unbraid.decompose.scorecard import WIDE

    console = _console(WIDE)
    console.print(card.summary(console.width))
    where = f"Report: {page}. Open it in a browser" if page else f"Run folder: {folder}. Its scorecard.json holds every number"
    typer.echo(f"{where}; measure again with: {again}")
    return card.passed


def _console(width: int) -> Console:
    """Return a console on stdout: as wide as the terminal, or as wide as the table where nobody set a width."""
    from rich.console import Console

    return Console() if Console().is_terminal or "COLUMNS" in os.environ else Console(width=width)


def _write(result: Decomposition, folder: Path, judged: Judged, report: bool) -> Path | None:
    """Write the report, which brings the scorecard, or the scorecard alone."""
    from unbraid.core.storage import disk_errors, write_json

    with disk_errors(folder, "The decomposition itself is whole."):
        if not report:
            write_json(folder / "scorecard.json", judged.scorecard.tree())
            return None
        from unbraid.report.write import write_report

        return write_report(folder, result, judged)

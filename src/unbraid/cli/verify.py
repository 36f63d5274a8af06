"""`unbraid verify`: is the planted truth found, at every seed, on every toy? Resumable, one run folder per case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from unbraid.cli.options import Json, Plugins, Set, start


def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Toys; all if none is named.", metavar="[NAME]…", show_default=False)] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Seeds per toy, from 0. Default: each toy's own number.", metavar="N", min=1, show_default=False)
    ] = None,
    first_seed: Annotated[int, typer.Option(help="The first seed; recipes were tuned on those from 0.", metavar="N", min=0)] = 0,
    jobs: Annotated[int, typer.Option(help="Cases at a time, one process and one thread each.", metavar="N", min=1)] = 1,
    phases: Annotated[bool, typer.Option("--phases", metavar="", help="Also run the cells of the phase diagrams.")] = False,
    no_controls: Annotated[bool, typer.Option("--no-controls", metavar="", help="Leave the negative controls out.")] = False,
    out: Annotated[Path, typer.Option(help="Where the run folders and the result go.", metavar="DIR")] = Path("runs/verify"),
    set_: Set = None,
    plugins: Plugins = None,
    json_: Json = False,
) -> None:
    """Decompose toys at several seeds, score them against their planted truth, and tabulate what was found.

    \b
    unbraid verify tms-5-2 compiled-blocks --seeds 2
    unbraid verify compiled-blocks --phases

    Interrupted, it does on the next call only what is missing. With nothing named it takes hours.
    """
    start(plugins)
    from unbraid.decompose.verb import Stopped
    from unbraid.verify.verb import VerifyConfig, verify

    config = VerifyConfig(
        seeds=seeds, first_seed=first_seed, controls=not no_controls, phases=phases, jobs=jobs, overrides=tuple(set_ or ())
    )
    try:
        result = verify(names or (), config, out, report=None if json_ else _say, plugins=plugins or ())
    except Stopped as stop:
        typer.echo("Stopped; what is done is kept, and runs under way save their state. Type the same command to go on.", err=True)
        raise typer.Exit(128 + (stop.signal or 2)) from None
    if json_:
        typer.echo(json.dumps(result.tree()))
        return
    from unbraid.report.verification import write_verification

    page = write_verification(out, result)
    result.show()
    for row in result.controls:
        verdict = "fails as it should" if row["fails_as_it_should"] else "PASSES, WHICH IT MUST NOT"
        typer.echo(f"control {row['toy']}, {row['control']}: {verdict} ({', '.join(row['noticed'] or row['failed']) or 'no line'})")
    typer.echo(f"Report: {page}. Every number: {out / 'verification.json'}. One case: unbraid score {out}/CASE")


def _say(record: dict[str, Any], done: int, count: int) -> None:
    """Say on stderr how far it is and how the last case came out."""
    case = record["case"]
    title = " ".join(str(part) for part in (case["toy"], case["variant"], case["control"]) if part)
    verdict = "every line passes" if record["passed"] else f"misses {', '.join(record['failed_lines'][:5])}"
    typer.echo(f"[{done}/{count}] {title} seed {case['seed']}: {verdict} ({record['cpu_seconds']:.0f} CPU-s)", err=True)

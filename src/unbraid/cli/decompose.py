"""`unbraid decompose`: take a target apart in a run folder that can be stopped, resumed, scored and read."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unbraid.cli.options import ConfigFile, Json, Plugins, Preset, Set, start
from unbraid.cli.outcome import show_outcome, with_plugins
from unbraid.cli.progress import live
from unbraid.core.errors import UserError

if TYPE_CHECKING:
    from unbraid.core.config import Tree
    from unbraid.decompose.result import Decomposition


def decompose(
    target: Annotated[
        str | None,
        typer.Argument(help="What to take apart: a toy (unbraid targets list), or a language model on disk.", show_default=False),
    ] = None,
    sites: Annotated[
        list[str] | None,
        typer.Option(
            help="Which matrices of a language model: a glob over their paths. Repeatable; see unbraid sites MODEL. Default: all of its blocks.",
            metavar="GLOB",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(help="What a language model reads: text, or what unbraid text build made.", metavar="PATH", show_default=False),
    ] = None,
    window: Annotated[int | None, typer.Option(help="Tokens per window of text.", metavar="N", show_default=False, min=2)] = None,
    seed: Annotated[int | None, typer.Option(help="Decides everything that is random.", metavar="N", show_default=False)] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps; every schedule spans them.", metavar="N", show_default=False)] = None,
    preset: Preset = None,
    published_size: Annotated[
        bool,
        typer.Option("--published-size", metavar="", help="Take a toy at the size of its paper; it is trained first, and a GPU helps."),
    ] = False,
    config: ConfigFile = None,
    set_: Set = None,
    weights: Annotated[
        Path | None, typer.Option(help="The target's weights, instead of the bundled ones.", metavar="FILE.safetensors", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder. Default: a new one, runs/TARGET-seedN-1.", metavar="DIR", show_default=False)
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this run, by its own settings.", metavar="RUN", show_default=False)
    ] = None,
    plugins: Plugins = None,
    no_report: Annotated[bool, typer.Option("--no-report", metavar="", help="Write the scorecard, but no report.")] = False,
    json_: Json = False,
) -> None:
    """Take a target apart, score the result against planted truth and nulls, and write a report.

    \b
    unbraid decompose tms-5-2
    unbraid decompose tms-5-2 --seed 3 --set losses.minimality.coefficient=1e-3
    unbraid decompose --resume runs/tms-5-2-seed3-1
    unbraid decompose models/smollm2-135m --sites "model.layers.12.mlp.down_proj" --text corpus/ --steps 200

    Ctrl-C or SIGTERM saves the state and says how to go on.

    \b
    torchrun --nproc-per-node 4 -m unbraid decompose …     # the same, shared by 4 processes
    """
    given = {
        "TARGET": target,
        "--sites": sites,
        "--text": text,
        "--window": window,
        "--seed": seed,
        "--steps": steps,
        "--preset": preset,
        "--published-size": published_size or None,
        "--config": config,
        "--set": set_,
        "--weights": weights,
        "--out": out,
    }
    others = [name for name, value in given.items() if value not in (None, [])]
    if resume is not None and others:
        raise UserError(f"--resume goes on by the run's own settings, so {others[0]} cannot be given beside it.", f"Leave {others[0]} out.")
    start(plugins)
    from unbraid.core.ranks import join
    from unbraid.decompose.verb import Stopped

    ranks = join()
    try:
        if resume is not None:
            folder, result = resume, _resume(resume)
        else:
            overrides = [*(set_ or []), *_numbers(seed=seed, steps=steps)]
            toy, file = _named(target, sites, text, window, published_size, config)
            folder, result = _begin(toy, preset, file, overrides, weights, out)
    except Stopped as stop:
        again = with_plugins("unbraid decompose --resume", stop.folder or Path(), plugins)
        if ranks.first:
            typer.echo(f"Stopped at step {stop.step}; the state is saved. Go on with: {again}", err=True)
        raise typer.Exit(128 + (stop.signal or 2)) from None
    if ranks.first:
        show_outcome(result, folder, not no_report, json_, with_plugins("unbraid score", folder, plugins))


def _named(
    target: str | None, sites: list[str] | None, text: Path | None, window: int | None, published_size: bool, config: Path | None
) -> tuple[str | None, Tree]:
    """Return the toy that was named, if one was, and the settings that lie over its recipe: those of a file, of a language model, of a published size."""
    from unbraid.cli.language_model import language_model
    from unbraid.core.config import merge, read_yaml
    from unbraid.core.ranks import current
    from unbraid.decompose.distributed import told_what_is_saved

    file = {} if config is None else read_yaml(config)
    with told_what_is_saved(None), current().in_turn():  # the text is tokenised once
        model = language_model(target, sites, text, window)
    if model is not None:
        target, file = None, merge({"target": model}, file)
    return target, merge(_published(target), file) if published_size else file


def _begin(
    target: str | None,
    preset: str | None,
    file: Tree,
    overrides: list[str],
    weights: Path | None,
    out: Path | None,
) -> tuple[Path, Decomposition]:
    """Resolve the settings, and run them in a new folder."""
    from unbraid.core.ranks import current
    from unbraid.decompose import verb
    from unbraid.decompose.distributed import told_what_is_saved
    from unbraid.decompose.preset import resolve
    from unbraid.targets.settings import target_settings

    ranks, settings = current(), resolve(target, preset, file, overrides)
    with told_what_is_saved(None):
        with ranks.in_turn():  # a toy at knobs of its own is trained once
            studied = target_settings(settings.target or {}).target(weights)
        folder = out or Path(ranks.agreed(str(_free_folder(f"{studied.name}-seed{settings.seed}"))))
    with live(str(folder)) if ranks.first else nullcontext() as report:
        return folder, verb.decompose(studied, settings, folder, report=report)


def _published(target: str | None) -> dict[str, Any]:
    """Return the settings of the size at which a toy was published."""
    from unbraid.targets.toy import find_toy, toys

    known = sorted(kind for kind in toys.kinds() if toys.get(kind).published)
    if target is None:
        raise UserError("--published-size needs a target's name.", f"Name one of: {', '.join(known)}")
    settings = dict(find_toy(target).published)
    if not settings:
        raise UserError(f"The target {target!r} has no other published size than its own.", f"Those that do: {', '.join(known)}")
    return settings


def _resume(folder: Path) -> Decomposition:
    """Go on with a run, or read a finished one back."""
    from unbraid.core.ranks import current
    from unbraid.decompose import verb

    ranks = current()
    if verb.is_finished(folder) and ranks.first:
        typer.echo(f"The run {str(folder)!r} is finished; its scorecard follows.", err=True)
    with live(str(folder)) if ranks.first else nullcontext() as report:
        return verb.resume_run(folder, report=report)


def _free_folder(stem: str) -> Path:
    """Return the first of runs/STEM-1, runs/STEM-2, … that is not there."""
    number = 1
    while (folder := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return folder


def _numbers(**values: int | None) -> list[str]:
    return [f"{name}={value}" for name, value in values.items() if value is not None]

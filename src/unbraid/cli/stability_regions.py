"""`unbraid stability regions`: which activations does a model treat as one, and what else sorts them alike?"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from unbraid.cli.options import Json, Plugins, start
from unbraid.cli.stability_target import Model, Out, TextOption, named_target


def regions(
    model: Model,
    anchors: Annotated[int, typer.Option(help="How many activations: last tokens of one context, or inputs.", metavar="N", min=4)] = 300,
    tokens: Annotated[str, typer.Option(help="Which last tokens: likely, or text.", metavar="WHICH")] = "likely",
    carrier: Annotated[
        str | None,
        typer.Option(help="The context, whose last token is replaced; left out, it is drawn.", metavar="TEXT", show_default=False),
    ] = None,
    context: Annotated[int, typer.Option(help="Tokens of a context that is drawn.", metavar="N", min=2)] = 16,
    site: Annotated[
        str | None, typer.Option(help="A block's number or a module's path; the first block.", metavar="SITE", show_default=False)
    ] = None,
    read: Annotated[str, typer.Option(help="logits, final, distribution, or a module's path.", metavar="READ")] = "logits",
    tau: Annotated[float, typer.Option(help="How far an answer may move, of the median gap.", metavar="SHARE")] = 0.5,
    grid: Annotated[int, typer.Option(help="Points along a path.", metavar="N", min=5)] = 51,
    components: Annotated[
        str | None,
        typer.Option(help="A run, or a shipped decomposition, to compare with.", metavar="RUN", show_default=False),
    ] = None,
    no_controls: Annotated[bool, typer.Option("--no-controls", metavar="", help="Leave untrained and random anchors out.")] = False,
    seed: Annotated[int, typer.Option(help="Decides context, pairs and controls.", metavar="N")] = 0,
    text: TextOption = None,
    out: Out = None,
    plugins: Plugins = None,
    json_: Json = False,
) -> None:
    """Map stable regions: activations between which the answer hardly moves, beside tokens, predictions and components.

    \b
    unbraid stability regions carroll --components carroll --out regions
    """
    start(plugins)
    from unbraid.cli.progress import watched
    from unbraid.stability.regions.config import RegionsConfig
    from unbraid.stability.regions.verb import regions as ask

    settings = {
        "anchors": anchors,
        "tokens": tokens,
        "context": context,
        "site": site,
        "read": read,
        "tau": tau,
        "grid": grid,
        "seed": seed,
    }
    config = RegionsConfig.parse({**settings, "untrained": not no_controls, "matched": not no_controls}, "the options")
    decomposition = None
    if components is not None:
        from unbraid.decompose.load import load

        decomposition = load(components)
    target = named_target(model, text, context)
    with watched("Walking between anchors …"):
        result = ask(target, config, decomposition, carrier)
    if out is not None:
        result.save_pretrained(out)
        result.plot_region_map().save(out, "regions")
    if json_:
        typer.echo(json.dumps(result.tree() | {"folder": None if out is None else str(out)}))
        return
    result.show()
    again = f"unbraid stability plane {model}"
    typer.echo(f"Figure: {out / 'regions.svg'}; next: {again}" if out else f"For the figure, add --out DIR; next: {again}")

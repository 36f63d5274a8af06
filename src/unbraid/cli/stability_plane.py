"""`unbraid stability plane`: what does a model answer over the plane through three activations?"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from unbraid.cli.options import Json, Plugins, start
from unbraid.cli.stability_target import Model, Out, TextOption, named_target


def plane(
    model: Model,
    through: Annotated[
        tuple[str, str, str] | None,
        typer.Option(help="Three prompts; left out, they are drawn from the text.", metavar="A B C", show_default=False),
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="A block's number or a module's path; the first block.", metavar="SITE", show_default=False)
    ] = None,
    read: Annotated[str, typer.Option(help="logits, final, distribution, or a module's path.", metavar="READ")] = "logits",
    planes: Annotated[int, typer.Option(help="How many planes, where prompts are drawn.", metavar="N", min=1)] = 8,
    context: Annotated[int, typer.Option(help="Tokens of a prompt that is drawn.", metavar="N", min=1)] = 16,
    resolution: Annotated[int, typer.Option(help="Points along each axis.", metavar="N", min=5, max=1001)] = 41,
    no_untrained: Annotated[bool, typer.Option("--no-untrained", metavar="", help="Leave the untrained model out.")] = False,
    seed: Annotated[int, typer.Option(help="Decides prompts and fresh weights.", metavar="N")] = 0,
    text: TextOption = None,
    out: Out = None,
    plugins: Plugins = None,
    json_: Json = False,
) -> None:
    """Picture the plane through three activations: whose answer does each point of it get?

    \b
    unbraid stability plane carroll --through "Alice was not" "said the" "in the" --out plane
    """
    start(plugins)
    from unbraid.cli.progress import watched
    from unbraid.stability.plane.verb import PlaneConfig
    from unbraid.stability.plane.verb import plane as ask

    config = PlaneConfig(site=site, read=read, planes=planes, context=context, resolution=resolution, untrained=not no_untrained, seed=seed)
    target = named_target(model, text, context)
    with watched("Reading the planes …"):
        result = ask(target, config, through)
    if out is not None:
        result.save_pretrained(out)
        for name in result.pictures:
            result.plot_plane(0, name).save(out, "plane" if name == "model" else f"plane-{name}")
    if json_:
        typer.echo(json.dumps(result.tree() | {"folder": None if out is None else str(out)}))
        return
    result.show()
    again = f"unbraid stability regions {model}"
    typer.echo(f"Picture: {out / 'plane.svg'}; next: {again}" if out else f"For the picture, add --out DIR; next: {again}")

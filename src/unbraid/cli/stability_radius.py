"""`unbraid stability radius`: how far can an activation move, and in which directions, before the answer changes?"""

from __future__ import annotations

import json
from typing import Annotated, Any, cast

import typer

from unbraid.cli.options import Json, Plugins, Set, start
from unbraid.cli.progress import watched
from unbraid.cli.stability_target import Model, Out, TextOption, named_target


def radius(
    model: Model,
    directions: Annotated[
        str | None,
        typer.Option(
            help="Families, with commas: random, covariance, difference, pca, features and features-rotated (toys), components:RUN.",
            metavar="FAMILIES",
            show_default=False,
        ),
    ] = None,
    anchors: Annotated[int | None, typer.Option(help="Real activations that are moved.", metavar="N", min=2, show_default=False)] = None,
    rays: Annotated[int | None, typer.Option(help="Rays of each family from each.", metavar="N", min=1, show_default=False)] = None,
    site: Annotated[
        str | None, typer.Option(help="A block's number, a module's path, or \"input\".", metavar="SITE", show_default=False)
    ] = None,
    read: Annotated[
        str | None,
        typer.Option(help="What is compared: logits, final, distribution, or a module's path.", metavar="READ", show_default=False),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            help="Of toys that put noise on their inputs: move activations of clean inputs, or of noisy ones. Clean by default.",
            metavar="clean|noisy",
            show_default=False,
        ),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            help="In what it is counted how far answers are apart: what one planted feature more does (the default for toys), or the distance "
            "between two real answers. The other stands beside it.",
            metavar="feature|answers",
            show_default=False,
        ),
    ] = None,
    text: TextOption = None,
    set_: Set = None,
    out: Out = None,
    plugins: Plugins = None,
    json_: Json = False,
) -> None:
    """Move real activations along families of directions until the answer is another one.

    \b
    unbraid stability radius carroll --directions random,difference,pca,components:carroll
    unbraid stability radius denoiser --directions random,features,features-rotated --out radii
    unbraid stability radius denoiser --directions random,features --inputs noisy --set target.density=0.1     a toy at other knobs
    unbraid stability radius carroll --set planes=0 --set untrained=false     the radii alone
    """
    start(plugins)
    from rich.console import Console, Group

    from unbraid.core.config import Tree, merge, parse_override
    from unbraid.stability.radius.config import RadiusConfig
    from unbraid.stability.radius.verb import radius as measure

    given: dict[str, Any] = {"anchors": anchors, "rays": rays, "site": site, "read": read, "inputs": inputs, "unit": unit}
    tree: Tree = {name: value for name, value in given.items() if value is not None}
    if directions is not None:
        tree["directions"] = [name.strip() for name in directions.split(",") if name.strip()]
    for override in set_ or []:
        tree = merge(tree, parse_override(override))
    knobs = cast("Tree", tree.pop("target", {}))
    config = RadiusConfig.parse(tree, "the options")
    target = named_target(model, text, config.context, knobs)
    with watched("Measuring radii …") as update:
        found = measure(target, config, update)
    if out is not None:
        found.save_pretrained(out)
        for number in range(len(found.thresholds)):
            found.plot_survival(number).save(out / "figures", f"survival-{number}")
    if json_:
        typer.echo(json.dumps({**found.tree(), "folder": None if out is None else str(out)}))
        return
    Console().print(Group(*found.tables()))
    if out is None:
        typer.echo("Nothing was saved. Keep every ray's radius with: --out DIR")
    else:
        typer.echo(f"Saved: {out}. Look at {out / 'figures' / 'survival-0.svg'}; open the radii with RadiusResult.from_pretrained")

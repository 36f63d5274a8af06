"""`unbraid stability`: are there stable regions in activation space, and what are they made of?"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from unbraid.cli import stability_explain, stability_plane, stability_radius, stability_regions
from unbraid.cli.options import Json, Plugins, start
from unbraid.cli.progress import watched
from unbraid.cli.stability_target import Model, Out, TextOption, named_target

app = typer.Typer(
    help="Stable regions of activation space: how sharply answers change, how far an activation can move, and why.", no_args_is_help=True
)


@app.command("path")
def path(
    model: Model,
    pairs: Annotated[int, typer.Option(help="Pairs of prompts; no prompt is in two.", metavar="N", min=3)] = 200,
    site: Annotated[
        str | None,
        typer.Option(
            help="Whose output is exchanged: a block's number, or a module's path. Default: block 0, or a toy's input.",
            metavar="SITE",
            show_default=False,
        ),
    ] = None,
    read: Annotated[
        str, typer.Option(help="What sharpness is told of: logits, final, distribution, or a module's path.", metavar="READ")
    ] = "logits",
    kind: Annotated[str, typer.Option("--path", help="linear, geodesic or centred.", metavar="KIND")] = "linear",
    context: Annotated[int, typer.Option(help="Tokens per prompt.", metavar="N", min=2)] = 10,
    points: Annotated[int, typer.Option(help="Points of the even grid.", metavar="N", min=11)] = 51,
    controls: Annotated[bool, typer.Option(help="Measure every control; without them a result is provisional.")] = True,
    control_pairs: Annotated[int, typer.Option(help="On how many of the pairs.", metavar="N", min=3)] = 40,
    seed: Annotated[int, typer.Option(help="Decides which prompts.", metavar="N", min=0)] = 0,
    text: TextOption = None,
    out: Out = None,
    plugins: Plugins = None,
    json_: Json = False,
) -> None:
    """Join pairs of real activations by a path, and ask how sharply the answer changes on the way.

    \b
    unbraid stability path carroll
    unbraid stability path models/smollm2-135m --text corpus/ --pairs 200 --site 0 --read logits
    """
    start(plugins)
    from unbraid.stability.path.config import PathConfig
    from unbraid.stability.path.verb import path as measure

    settings = {"pairs": pairs, "site": site, "read": read, "path": kind, "context": context, "points": points, "seed": seed}
    config = PathConfig.parse({**settings, "controls": controls, "control_pairs": control_pairs, "bank": 2 * pairs}, "the command line")
    target = named_target(model, text, context)
    with watched("walking …") as update:
        result = measure(target, config, lambda done, total: update(f"{done:,} of {total:,} paths"))
    if out is not None:
        result.save_pretrained(out)
        result.plot_curves().save(out, "curves")
    if json_:
        typer.echo(json.dumps({**result.tree(), "folder": None if out is None else str(out)}))
        return
    result.show()
    typer.echo(f"Curves and picture: {out}" if out is not None else "Nothing was kept; keep the curves and a picture with: --out DIR")


@app.command("training")
def training(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Checkpoints, the earliest first; or one shipped model, whose stages are known.", metavar="MODEL …", show_default=False
        ),
    ],
    pairs: Annotated[int, typer.Option(help="Pairs of prompts, the same at every checkpoint.", metavar="N", min=3)] = 200,
    site: Annotated[
        str | None,
        typer.Option(
            help="Whose output is exchanged: a block's number, or a module's path. Default: block 0.", metavar="SITE", show_default=False
        ),
    ] = None,
    read: Annotated[str, typer.Option(help="As for path.", metavar="READ")] = "logits",
    kind: Annotated[str, typer.Option("--path", help="linear, geodesic or centred.", metavar="KIND")] = "linear",
    context: Annotated[int, typer.Option(help="Tokens per prompt.", metavar="N", min=2)] = 10,
    seed: Annotated[int, typer.Option(help="Decides which prompts.", metavar="N", min=0)] = 0,
    text: TextOption = None,
    out: Out = None,
    plugins: Plugins = None,
    json_: Json = False,
) -> None:
    """Ask whether answers become sharper while a model learns: the same pairs at every checkpoint.

    \b
    unbraid stability training carroll --site model.embed_tokens
    """
    start(plugins)
    from unbraid.stability.path.config import PathConfig
    from unbraid.stability.path.training import training as measure
    from unbraid.targets.models.shipped import shipped_names, shipped_stages

    if len(models) == 1 and models[0] in shipped_names():
        models = [*shipped_stages(models[0]), models[0]]
    settings = {
        "pairs": pairs,
        "site": site,
        "read": read,
        "path": kind,
        "context": context,
        "seed": seed,
        "controls": False,
        "bank": 2 * pairs,
    }
    config = PathConfig.parse(settings, "the command line")
    targets = [named_target(model, text, context) for model in models]
    with watched("walking …") as update:
        result = measure(targets, config, lambda done, total: update(f"{done} of {total} checkpoints"))
    if out is not None:
        result.save_pretrained(out)
        result.plot_training().save(out, "training")
    if json_:
        typer.echo(json.dumps({**result.tree(), "folder": None if out is None else str(out)}))
        return
    result.show()
    typer.echo(f"Curves and picture: {out}" if out is not None else "Nothing was kept; keep the curves and a picture with: --out DIR")


app.command("radius")(stability_radius.radius)
app.command("plane")(stability_plane.plane)
app.command("regions")(stability_regions.regions)
app.command("explain")(stability_explain.explain)

"""`unbraid stability explain`: which parts of a decomposition build a plateau?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unbraid.cli.options import Json, Plugins, start
from unbraid.cli.stability_target import Out


def explain(
    run: Annotated[Path, typer.Argument(help="A run folder, or the name of a shipped decomposition.", metavar="RUN", show_default=False)],
    pair: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="Two texts: the way goes from the last token of the one to that of the other.", metavar="A B", show_default=False
        ),
    ] = None,
    pairs: Annotated[int, typer.Option(help="Without --pair: how many pairs of held-out prompts.", metavar="N", min=1)] = 20,
    context: Annotated[int, typer.Option(help="Tokens of each such prompt.", metavar="N", min=1)] = 16,
    site: Annotated[
        str | None,
        typer.Option(
            help="Where the activation is exchanged: a block's number or a module's path; the token embedding by default.",
            metavar="SITE",
            show_default=False,
        ),
    ] = None,
    position: Annotated[int, typer.Option(help="At which token, negative ones from the end.", metavar="N")] = -1,
    points: Annotated[int, typer.Option(help="Points on each path.", metavar="N", min=11)] = 51,
    read: Annotated[str, typer.Option(help="What is read: logits, final, distribution, or a module's path.", metavar="WHAT")] = "logits",
    components: Annotated[int, typer.Option(help="At most so many single components are removed.", metavar="N", min=0)] = 256,
    seed: Annotated[int, typer.Option(help="Decides pairs and random sets.", metavar="N", min=0)] = 0,
    out: Out = None,
    plugins: Plugins = None,
    json_: Json = False,
) -> None:
    """Remove parts of a decomposed model along a path between two activations, and see which of them make the change sharp.

    \b
    unbraid stability explain carroll --pair "said the Mock" "she went on"
    unbraid stability explain carroll --pairs 20 --out plateaus
    """
    start(plugins)
    from unbraid.cli.progress import watched
    from unbraid.decompose.load import load
    from unbraid.stability.explain.config import ExplainConfig
    from unbraid.stability.explain.verb import explain as ask

    settings = {"pair": pair, "pairs": pairs, "context": context, "site": site, "position": position, "points": points, "read": read}
    config = ExplainConfig.parse({**settings, "components": components, "seed": seed}, "the command line")
    decomposition = load(run)
    with watched("Removing parts along the paths …"):
        result = ask(decomposition, config)
    if out is not None:
        result.save_pretrained(out)
        result.plot_shares().save(out, "shares")
        result.plot_importance_path().save(out, "importance-path")
    if json_:
        typer.echo(json.dumps({**result.tree(), "folder": None if out is None else str(out)}))
        return
    result.show()
    where = "Keep the curves and the figures with --out DIR" if out is None else f"Curves and figures: {out}"
    typer.echo(f"{where}; ask at another place with --site 0, or of the next-token distribution with --read distribution.")

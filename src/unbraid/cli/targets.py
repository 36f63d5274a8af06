"""`unbraid targets`: what can be taken apart, and how is a toy trained?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unbraid.cli.options import Json, Plugins, start

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(help="What can be taken apart: models with planted truth.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A target's name.", metavar="NAME")]


@app.command("list")
def list_targets(
    truth: Annotated[
        bool,
        typer.Option("--truth", metavar="", help="Say what is planted: pieces and modules of every site, and what cannot be told apart."),
    ] = False,
    json_: Json = False,
    plugins: Plugins = None,
) -> None:
    """Name every target: what is planted in it and what it teaches."""
    start(plugins)
    from rich.console import Console

    from unbraid.cli.planted import truth_table
    from unbraid.targets.facts import overview, planted
    from unbraid.targets.toy import find_toy, toys

    rows = [(planted if truth else overview)(find_toy(name)) for name in sorted(toys.kinds())]
    if json_:
        typer.echo(json.dumps({"targets": rows}))
        return
    Console(highlight=False).print(truth_table(rows) if truth else _table(rows))
    typer.echo("More about one: unbraid targets show NAME. Take one apart: unbraid decompose NAME")


def _table(rows: list[dict[str, Any]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=True)
    for name in ("target", "planted, and the lesson", "weights"):
        table.add_column(name, no_wrap=name == "target")
    for row in rows:
        about = Text.assemble(row["planted"], (f"\n{row['lesson']}", "italic"), (f"\nsites: {', '.join(row['sites'])}", "dim"))
        table.add_row(Text(row["name"], "bold"), about, row["weights"])
    return table


Knobs = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KNOB=VALUE", help="Change one of its knobs, such as coupling=0.1. Repeatable.", show_default=False),
]


@app.command("show")
def show_target(
    name: Name,
    set_: Knobs = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the sceptic's panel there: as SVG, PNG, JSON and a page.", metavar="DIR", show_default=False),
    ] = None,
    json_: Json = False,
    plugins: Plugins = None,
) -> None:
    """Show one target: model, sites, data, what is planted, whether it is real, and how well it does its task beside a naive answer."""
    start(plugins)
    from unbraid.core.config import merge, parse_override
    from unbraid.core.errors import UserError
    from unbraid.targets.facts import facts
    from unbraid.targets.toy import find_toy

    toy = find_toy(name)
    tree = toy.tree()
    for text in set_ or []:
        tree = merge(tree, parse_override(text.removeprefix("target.")))
    toy = type(toy).parse(tree, f"target {name!r}")
    card = facts(toy)
    if out is not None:
        if card["panel"] is None:
            why = "its weights are missing" if card["weights"] == "missing" else "it declares none"
            raise UserError(f"The target {name!r} has no panel to write: {why}.", "Leave --out away.")
        from unbraid.report.panel import write_panel

        card["files"] = [str(path) for path in write_panel(out, card)]
    if json_:
        typer.echo(json.dumps(card))
        return
    _show(card)
    if out is not None:
        typer.echo(f"Panel: {card['files'][-1]}. Open it in a browser.")
    if card["weights"] == "missing" and toy.at_default_knobs:
        typer.echo(f"Train it: unbraid targets train {name}")
        return
    knobs = "".join(f" --set target.{text.removeprefix('target.')}" for text in set_ or [])
    typer.echo(f"Take it apart{', which trains it first' if card['weights'] == 'missing' else ''}: unbraid decompose {name}{knobs}")
    if getattr(toy, "published", None) and not knobs:
        typer.echo(f"At the size of its paper, which trains it first: unbraid decompose {name} --published-size")


def _show(card: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from unbraid.cli.planted import NEEDED, checks_table, panel_tables

    console = Console(highlight=False)
    about = Table(box=None, show_header=False, pad_edge=False)
    about.add_column(style="dim", no_wrap=True)
    about.add_column()
    settings = ", ".join(f"{key}={value}" for key, value in card["settings"].items() if key != "kind")
    recipe = ", ".join(f"{key}={value}" for key, value in card["recipe"].items()) or "the engine's defaults"
    for key, value in (
        ("target", card["name"]),
        ("planted", card["planted"]),
        ("lesson", card["lesson"]),
        ("model", f"{card['model']}, {card['parameters']:,} parameters, weights {card['weights']}"),
        ("settings", settings),
        ("data", card["data"]),
        ("recipe", recipe),
        ("task", _task(card) if card["panel"] is None else "see the panel below"),
    ):
        about.add_row(key, value)
    sites = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    modular = any(site["modules"] for site in card["sites"])
    columns = [("site", "left"), ("d_in → d_out", "right"), ("tied to", "left"), ("planted pieces", "right"), ("needed", "left")]
    columns[4:4] = [("modules", "right")] * modular
    for key, justify in columns:
        sites.add_column(key, justify=justify)  # type: ignore[arg-type]
    for site in card["sites"]:
        pieces = "" if site["pieces"] is None else str(site["pieces"])
        shape = f"{site['d_in']} → {site['d_out']}"
        modules = [str(site["modules"] or "")] * modular
        sites.add_row(site["path"], shape, site["tied_to"] or "", pieces, *modules, NEEDED.get(site["pattern"], ""))
    console.print(about, sites)
    if card["checks"]:
        console.print(checks_table(card["checks"]))
    if card["panel"] is not None:
        for part in panel_tables(card["panel"]):
            console.print(part)


def _task(card: dict[str, Any]) -> str:
    """Say how well the model does on each feature, beside ignoring it."""
    losses, naive = card["loss_per_feature"], card["naive_per_feature"]
    if not losses:
        return "not measured"
    shares = [100 * loss / other for loss, other in zip(losses, naive, strict=True)]
    if len(shares) <= 10:
        each = ", ".join(f"{share:.1f}" for share in shares)
        return f"squared error with one feature on, as % of ignoring the feature: {each}"
    middle = sorted(shares)[len(shares) // 2]
    return (
        f"squared error with one feature on, as % of ignoring the feature: median {middle:.1f}, "
        f"worst {max(shares):.1f} (n={len(shares)} features)"
    )


@app.command("train")
def train_target(
    name: Name,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Decides the starting weights and the data. Default: the one of the weights that the package brings.",
            min=0,
            metavar="N",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the weights. Default: NAME.safetensors here.", metavar="FILE", show_default=False)
    ] = None,
    bundled: Annotated[
        bool, typer.Option("--bundled", metavar="", help="For maintainers: write the weights that the package brings.")
    ] = False,
    json_: Json = False,
    plugins: Plugins = None,
) -> None:
    """Train a target from scratch, check that training worked, and write its weights as safetensors."""
    start(plugins)
    from unbraid.core.errors import UserError
    from unbraid.targets.toy import check_no_pickle, find_toy, write_weights

    toy = find_toy(name)
    if bundled and out is not None:
        raise UserError("--bundled writes to the package's own folder, so --out cannot be given beside it.", "Leave one of them out.")
    path = (toy.weights_path() if bundled else out) or Path(f"{name}.safetensors")
    check_no_pickle(path)
    seed = toy.seed if seed is None else seed
    trained = toy.train(seed)
    write_weights(trained.module, path)
    if json_:
        losses = {"loss_per_feature": trained.loss_per_feature.tolist(), "naive_per_feature": trained.naive_per_feature.tolist()}
        typer.echo(json.dumps({"target": name, "seed": seed, "weights": str(path), **losses}))
        return
    share = trained.loss_per_feature / trained.naive_per_feature
    learned = len(share) - len(trained.unlearned(0.5))
    typer.echo(
        f"Trained {name} with seed {seed}: {learned} of {len(share)} features have less than half of the squared error of ignoring them; "
        f"the worst one's is {100 * float(share.max()):.1f} % of it."
    )
    typer.echo(f"Weights: {path}. Take it apart: unbraid decompose {name}" + ("" if bundled else f" --weights {path}"))

"""`unbraid sites`: what can be decomposed in a model, how large is it, and what would it take?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from unbraid.cli.options import Json, Plugins, start

if TYPE_CHECKING:
    from rich.table import Table

    from unbraid.targets.models.site_table import SiteRow, SiteTable


_LEAST_WIDTH = 140  # below it a path would be broken, and could not be copied into --match


def sites(
    model: Annotated[
        str, typer.Argument(help="A folder, a model that was pulled, a hub id in the local cache, or a toy's name.", metavar="MODEL")
    ],
    match: Annotated[
        list[str] | None,
        typer.Option("--match", help="Only the modules whose path this glob matches. Repeatable.", metavar="GLOB", show_default=False),
    ] = None,
    json_: Json = False,
    plugins: Plugins = None,
) -> None:
    """Show what can be decomposed in a model: shapes, shared and fused matrices, a C to start with, and what training it takes.

    \b
    unbraid sites glassllm
    unbraid sites ./models/smollm2-135m --match "model.layers.12.mlp.*"
    """
    start(plugins)
    from unbraid.targets.toy import toys

    table = _of_toy(model, match) if model in toys.kinds() else _of_model(model, match)
    if json_:
        typer.echo(json.dumps(table.tree()))
        return
    _show(table, whole=not match)


def _of_model(model: str, match: list[str] | None) -> SiteTable:
    from unbraid.targets.models.load import model_on_paper
    from unbraid.targets.models.site_table import list_sites

    return list_sites(model_on_paper(model), match or "*")


def _of_toy(name: str, match: list[str] | None) -> SiteTable:
    """List a toy's matrices, with C as its own recipe has it."""
    from unbraid.decompose.model import resolve_components
    from unbraid.decompose.preset import resolve
    from unbraid.targets.models.site_table import list_sites
    from unbraid.targets.sites import find_sites
    from unbraid.targets.toy import find_toy

    toy = find_toy(name)
    module = toy.build()
    C = resolve_components(find_sites(module, toy.sites), resolve(name, None, None, ()).components)
    return list_sites(module, match or "*", C, toy.tied)


def _show(table: SiteTable, whole: bool) -> None:
    from rich.console import Console

    from unbraid.targets.models.budget import MEMORY_RULE

    console = Console(highlight=False)
    console.width = max(console.width, _LEAST_WIDTH)
    console.print(_table(table), crop=False)
    share = table.matched_parameters / table.parameters
    which = "All matrices" if whole else "The matched matrices"
    typer.echo(f"{which} hold {table.matched_parameters:,} of {table.parameters:,} parameters ({share:.1%}) of {table.model}.")
    if any(row.views for row in table.rows):
        typer.echo('A part of a fused matrix is chosen by its name: --sites "*.{}:{}"'.format(*_example(table)))
    typer.echo(f"C: {table.rule}")
    typer.echo(f"Memory of training those with a C: {size(table.training_bytes)}. {MEMORY_RULE}")


def _table(table: SiteTable) -> Table:
    """Draw one line per matrix, where layers that are alike stand on one line as the glob that matches them."""
    from rich import box
    from rich.table import Table

    alike: dict[tuple[object, ...], list[SiteRow]] = {}
    for row in table.rows:
        alike.setdefault((row.family, row.kind, row.d_in, row.d_out, row.C, row.views, row.note), []).append(row)
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("path", no_wrap=True)
    for name in ("kind", "d_in → d_out", "parameters", "rank ≤", "C", "memory"):
        drawn.add_column(name, justify="left" if name == "kind" else "right", no_wrap=True)
    drawn.add_column("about")
    for rows in alike.values():
        row = rows[0]
        path = row.path if len(rows) == 1 else f"{row.family}  × {len(rows)}"
        memory = "" if row.training_bytes is None else size(row.training_bytes)
        numbers = (f"{row.d_in:,} → {row.d_out:,}", f"{row.parameters:,}", f"{row.rank:,}", f"{row.C:,}" if row.C else "–", memory)
        drawn.add_row(path, row.kind, *numbers, _about(row))
    return drawn


def _example(table: SiteTable) -> tuple[str, str]:
    row = next(row for row in table.rows if row.views)
    return row.path.rpartition(".")[2], row.views[0].name


def _about(row: SiteRow) -> str:
    parts = "; ".join(str(view) for view in row.views)
    shared = f"shared with {row.shared_with}" if row.shared_with else ""
    return "; ".join(text for text in (shared, f"{row.note}: {parts}" if parts else row.note) if text)


def size(n_bytes: int) -> str:
    """Write a number of bytes for a person, in powers of 10."""
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= one:
            return f"{n_bytes / one:.3g} {unit}"
    return f"{n_bytes} B"

"""`unbraid text`: text becomes a folder of tokens, and what does such a folder hold?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unbraid.cli.options import Json, start
from unbraid.cli.progress import reading, watched

if TYPE_CHECKING:
    from unbraid.targets.text.manifest import Manifest

app = typer.Typer(help="Text for language models: tokenised once, read in windows.", no_args_is_help=True)


@app.command("build")
def build(
    source: Annotated[
        Path, typer.Argument(help="A folder, or a .txt, .md, .jsonl or .parquet file.", metavar="SOURCE", show_default=False)
    ],
    tokenizer: Annotated[Path, typer.Option(help="A folder with tokenizer.json, such as the model's.", metavar="DIR", show_default=False)],
    out: Annotated[Path, typer.Option(help="The folder to make.", metavar="DIR", show_default=False)],
    window: Annotated[int, typer.Option(help="Tokens per window.", metavar="N")] = 128,
    mode: Annotated[
        str, typer.Option(help="packed: windows are cut through joined documents. within: none crosses a document's end.", metavar="MODE")
    ] = "packed",
    field: Annotated[str, typer.Option(help="The field or column with the text (.jsonl, .parquet).", metavar="NAME")] = "text",
    held_out: Annotated[
        float, typer.Option(help="Share of the documents to hold out, by a hash of their content.", metavar="SHARE")
    ] = 0.01,
    separator: Annotated[
        str | None,
        typer.Option(
            help="The line between documents of a plain text file; '' is an empty one. Default: a file is one.",
            metavar="LINE",
            show_default=False,
        ),
    ] = None,
    eos: Annotated[
        str | None, typer.Option(help="The token that ends a document. Default: the tokenizer's.", metavar="TOKEN", show_default=False)
    ] = None,
    json_: Json = False,
) -> None:
    """Tokenise text into a folder that is read in windows.

    \b
    unbraid text build corpus/ --tokenizer models/smollm2 --out tokens
    """
    start(None)
    from unbraid.targets.text.build import TextBuild, build_text
    from unbraid.targets.text.cutting import mode_named

    settings = TextBuild(window=window, mode=mode_named(mode), held_out=held_out)
    with watched("reading …") as update:
        report = reading(update)
        manifest = build_text(source, tokenizer, out, settings, field=field, separator=separator, eos=eos, report=report)
    _tell(out, manifest, json_)


@app.command("sample")
def sample(
    model: Annotated[str, typer.Argument(help="A language model on disk.", metavar="MODEL", show_default=False)],
    out: Annotated[Path, typer.Option(help="The .jsonl file to write.", metavar="FILE", show_default=False)],
    documents: Annotated[int, typer.Option(help="How many.", metavar="N")] = 1024,
    temperature: Annotated[float, typer.Option(help="Below 1 is less varied and better spelled.", metavar="T")] = 1.0,
    seed: Annotated[int, typer.Option(help="Decides the text.", metavar="N")] = 0,
) -> None:
    """Let a model write text, where its own cannot be had.

    \b
    unbraid text sample models/glassllm --documents 4096 --out carroll.jsonl
    """
    start(None)
    from unbraid.targets.text.sample import sample_text

    with watched("writing …") as update:
        file = sample_text(model, out, documents, temperature, seed, report=lambda done: update(f"{done:,} of {documents:,} documents"))
    typer.echo(f"{documents:,} documents: {file}")


@app.command("show")
def show(
    folder: Annotated[Path, typer.Argument(help="A folder that build has made.", metavar="DIR", show_default=False)],
    verify: Annotated[bool, typer.Option("--verify", metavar="", help="Check the hash of every file, not only its size.")] = False,
    json_: Json = False,
) -> None:
    """Say what a folder of tokens holds, and whether it is whole."""
    start(None)
    from unbraid.targets.text.manifest import read_manifest

    _tell(folder, read_manifest(folder, verify=verify), json_)


def _tell(folder: Path, manifest: Manifest, json_: bool) -> None:
    """Print a manifest, as JSON or for people."""
    if json_:
        typer.echo(json.dumps({"folder": str(folder), **manifest.tree()}))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("split", "documents", "tokens", "bytes per token", "windows", "dropped"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split, facts in manifest.splits.items():
        counts = (f"{facts.documents:,}", f"{facts.tokens:,}", f"{facts.bytes_per_token:.2f}", f"{facts.windows:,}")
        table.add_row(split, *counts, f"{100 * facts.dropped_share:.2f} %")
    tokenizer, source = manifest.tokenizer, manifest.source
    files = f", {source.files:,} {'file' if source.files == 1 else 'files'}" if source.files else ""
    empty = f", {source.empty_documents:,} empty documents left out" if source.empty_documents else ""
    told = Console(highlight=False)
    told.print(f"{folder}: {source.name}{files}{empty}", soft_wrap=True, markup=False)
    told.print(
        f"windows of {manifest.window} tokens, {manifest.mode}; tokens as {manifest.dtype}, "
        f"tokenizer {tokenizer.sha256[:12]} with {tokenizer.vocabulary_size:,} ids",
        soft_wrap=True,
        markup=False,
    )
    told.print(table)
    if manifest.held_out and not manifest.splits["held-out"].windows:
        told.print(
            "Nothing is held out that fills a window: there are too few documents. Build with a larger --held-out, or cut files into "
            "documents with --separator.",
            soft_wrap=True,
            markup=False,
        )

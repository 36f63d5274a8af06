"""`unbraid generate`: what does a decomposed language model say under each kind of mask?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unbraid.cli.options import Json, Plugins, start
from unbraid.core.errors import UserError


def generate(
    run: Annotated[Path, typer.Argument(help="A finished run on a language model.", metavar="RUN", show_default=False)],
    prompt: Annotated[str, typer.Option(help="The text to go on with.", metavar="TEXT", show_default=False)],
    masks: Annotated[
        str, typer.Option(help="Kinds, with commas; also importance, random, zero.", metavar="KINDS")
    ] = "target,unmasked,stochastic,rounded,adversarial",
    tokens: Annotated[int, typer.Option(help="How many tokens to write.", metavar="N", min=1)] = 32,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.", metavar="T", min=0)] = 0.0,
    adversary_steps: Annotated[int, typer.Option(help="Budget of the adversary, on the prompt.", metavar="N", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Decides random masks and drawn tokens.", metavar="N", min=0)] = 0,
    plugins: Plugins = None,
    json_: Json = False,
) -> None:
    """Go on with a prompt under each kind of mask, side by side.

    \b
    unbraid generate my-run --prompt "The rabbit said" --masks target,rounded
    """
    start(plugins)
    import torch

    from unbraid.decompose.generate import generate as go_on
    from unbraid.decompose.result import Decomposition
    from unbraid.targets.models.language_model import KIND
    from unbraid.targets.models.load import load_tokenizer

    decomposition = Decomposition.from_pretrained(run)
    settings = decomposition.config.target or {}
    if settings.get("kind") != KIND:
        raise UserError(f"{str(run)!r} is a run on {decomposition.target.name!r}, which writes no text.", "Give a run on a language model.")
    tokenizer = load_tokenizer(str(settings["model"]))
    ids = torch.tensor(tokenizer.encode(prompt), dtype=torch.long)
    kinds = [name.strip() for name in masks.split(",") if name.strip()]
    end = tokenizer.eos_token_id if isinstance(tokenizer.eos_token_id, int) else None
    found = go_on(decomposition, ids, kinds, tokens, temperature, end, adversary_steps, seed=seed)
    rows = [{"masks": one.masks, "text": str(tokenizer.decode(list(one.tokens))), "kl": one.kl, "tokens": len(one.tokens)} for one in found]
    if json_:
        typer.echo(json.dumps({"run": str(run), "prompt": prompt, "adversary_steps": adversary_steps, "continuations": rows}))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=True)
    table.add_column("masks", no_wrap=True)
    table.add_column("nats per token", justify="right", no_wrap=True)
    table.add_column("goes on with")
    for row in rows:
        table.add_row(str(row["masks"]), f"{row['kl']:.3f}", Text(str(row["text"])))
    console = Console(highlight=False)
    console.print(Text(prompt), table)
    console.print(
        "Nats per token: KL from the model's own next-token distribution to the masked one, on the text that was written."
        + (f" The adversary had {adversary_steps} steps on the prompt." if "adversarial" in kinds else "")
    )

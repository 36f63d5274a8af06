"""`unbraid estimate`: how much memory would decomposing these matrices take, on each of so many GPUs or processes?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unbraid.cli.language_model import WINDOW
from unbraid.cli.options import ConfigFile, Json, Preset, Set, start
from unbraid.core.errors import UserError

if TYPE_CHECKING:
    from unbraid.decompose.on_paper import Memory

_PARTS = {
    "target": "the model's own weights",
    "factors": "V and U",
    "importance": "the importance function",
    "moments": "AdamW's two averages",
    "adversary": "what losses remember: an adversary's sources and their averages",
    "passes": "one step: activations of all passes, masks, logits, gradients",
}


def estimate(
    model: Annotated[str, typer.Argument(help="A folder, a model that was pulled, or a hub id in the local cache.", metavar="MODEL")],
    sites: Annotated[
        list[str], typer.Option(help="Which matrices: a glob over their paths. Repeatable; see unbraid sites MODEL.", metavar="GLOB")
    ],
    gpus: Annotated[int, typer.Option(help="How many GPUs, or processes on the CPU, share a batch.", metavar="N", min=1)] = 1,
    dtype: Annotated[
        str | None, typer.Option(help="What the passes are computed in: float32 or bf16.", metavar="DTYPE", show_default=False)
    ] = None,
    components: Annotated[int | None, typer.Option(help="C of every site.", metavar="C", show_default=False, min=1)] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Windows per step, of all GPUs together.", metavar="N", show_default=False, min=1)
    ] = None,
    window: Annotated[int, typer.Option(help="Tokens per window.", metavar="N", min=2)] = WINDOW,
    preset: Preset = None,
    config: ConfigFile = None,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Say how much memory a decomposition takes, without loading weights: the training loop is run on tensors without contents.

    \b
    unbraid estimate smollm2-135m --sites "model.layers.12.mlp.*" --components 2048 --batch-size 16 --window 256 --gpus 8
    """
    start(None)
    from unbraid.core.config import read_yaml
    from unbraid.decompose.on_paper import memory_on_paper
    from unbraid.decompose.preset import resolve
    from unbraid.targets.behaviour import behaviour_named
    from unbraid.targets.models.language_model import LanguageModel
    from unbraid.targets.models.load import model_on_paper
    from unbraid.targets.models.paper import PaperTokens, paper_sites

    overrides = [*(set_ or []), *_given(components=components, batch_size=batch_size), *_precision(dtype)]
    settings = resolve(None, preset or LanguageModel.recipe, {} if config is None else read_yaml(config), overrides)
    together = gpus * settings.accumulate
    if settings.batch_size % together:
        parts = "" if settings.accumulate == 1 else f" in {settings.accumulate} parts"
        raise UserError(
            f"A batch of {settings.batch_size} cannot be shared by {gpus}{parts}.", f"Make --batch-size a multiple of {together}."
        )
    module = model_on_paper(model).float()
    found = paper_sites(module, sites)
    memory = memory_on_paper(module, found, PaperTokens(window), behaviour_named("kl"), settings, gpus)
    if json_:
        typer.echo(json.dumps({"model": model, "sites": len(found), "gpus": gpus, **vars(memory), "peak": memory.peak}))
        return
    _show(memory, f"{Path(model).name}: {len(found)} matrices, batches of {settings.batch_size} × {window} tokens on {gpus}", gpus)


def _given(**values: int | None) -> list[str]:
    return [f"{name}={value}" for name, value in values.items() if value is not None]


def _precision(dtype: str | None) -> list[str]:
    """Return the setting that asks for a precision.

    Raises:
        UserError: There is no such precision.
    """
    names = {"float32": "fp32", "fp32": "fp32", "bf16": "bf16", "bfloat16": "bf16"}
    if dtype is not None and dtype not in names:
        raise UserError(f"--dtype {dtype!r} is not known.", "Give float32 or bf16.")
    return [] if dtype is None else [f"precision={names[dtype]}"]


def _show(memory: Memory, title: str, gpus: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from unbraid.cli.sites import size

    console = Console(highlight=False)
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    drawn.add_column("on each" if gpus > 1 else "kept")
    drawn.add_column("bytes", justify="right", no_wrap=True)
    for key, what in _PARTS.items():
        drawn.add_row(what, size(getattr(memory, key)))
    console.print(drawn)
    typer.echo(f"Peak of a training step: {size(memory.step)}" + (f" on each of {gpus}." if gpus > 1 else "."))
    if memory.warmup:
        typer.echo(f"Peak of the warm-up on faithfulness: {size(memory.warmup)}.")
    typer.echo(f"While a state is saved: {size(memory.saving)}, of which on a GPU the copies lie in the host's memory.")
    typer.echo(
        "On top: the process itself (about 0.5 GB; on a GPU also its context and what its allocator rounds up) and, on the CPU, holes in the heap, "
        "which MALLOC_MMAP_THRESHOLD_=65536 avoids at a cost in time."
    )

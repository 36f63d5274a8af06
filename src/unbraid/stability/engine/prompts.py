"""Which prompts is a question asked on? Distinct ones, from the text that was held out."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Shaped
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.core.seeds import Streams
from unbraid.targets.data import PutsNoise, draw
from unbraid.targets.target import Target

_BARREN = 30
"""After so many draws without anything new there is nothing more: sparse inputs are often the same by chance."""


Inputs = Literal["clean", "noisy"]


def inputs_of(target: Target, asked: Inputs | None) -> Inputs | None:
    """Return whether inputs are taken without the noise that a target puts on them, which is what None asks for; None where it puts none.

    Raises:
        UserError: Something was asked of a target that does not say what its noise is.
    """
    if isinstance(target.fresh, PutsNoise):
        return asked or "clean"
    if asked is not None:
        raise UserError(
            f"Inputs were asked for as {asked!r}, and {target.name!r} does not know noise of its inputs.", "Leave the option out."
        )
    return None


def draw_prompts(target: Target, count: int, context: int, seed: int, inputs: Inputs | None = None) -> Shaped[Tensor, "count _"]:
    """Return so many prompts of `context` tokens, each the beginning of a window of its own; or input vectors, for models that read those.

    Args:
        target: Where they come from: its held-out inputs.
        count: How many.
        context: Tokens of each; ignored for vectors.
        seed: Decides which.
        inputs: "clean" for those without the noise that the target puts on them; see `inputs_of`. Otherwise they are what it reads.

    Raises:
        UserError: The windows are shorter, there are not so many, or the inputs are neither tokens nor vectors.
    """
    generator = Streams(seed, torch.device("cpu"))["prompts"]
    parts: list[Tensor] = []
    prompts, found, barren = torch.empty(0), 0, 0
    while found < count:
        if inputs == "clean" and isinstance(target.fresh, PutsNoise):
            batch = target.fresh.clean(min(count, 256), generator)
        else:
            batch, _, _ = draw(target.fresh, len(parts), min(count, 256), generator, every_input=True)
        if not isinstance(batch, Tensor) or batch.dim() != 2:
            raise UserError(
                "The inputs of this target are not rows of tokens or numbers.", "Give a language model, or a model that reads vectors."
            )
        if not batch.is_floating_point():
            if batch.shape[1] < context:
                raise UserError(
                    f"Prompts of {context} tokens were asked for, and the windows have {batch.shape[1]}.", "Ask for fewer tokens."
                )
            batch = batch[:, :context]
        before = found
        parts.append(batch)
        prompts = torch.unique(torch.cat(parts), dim=0)
        found = len(prompts)
        barren = barren + 1 if found == before else 0
        if barren == _BARREN:
            raise UserError(
                f"{count} different prompts were asked for, and these inputs have {found}.", "Ask for fewer, or give more text."
            )
    # `unique` sorts: the prompts are put back into an order that says nothing about them.
    return prompts[torch.randperm(found, generator=generator)][:count]

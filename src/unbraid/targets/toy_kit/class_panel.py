"""How does a toy whose inputs fall into classes answer the sceptic? Its loss on each, beside a dumb guess, and against distractors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.core.errors import UserError
from unbraid.targets.panel import Panel, chunked, losses_by_count, mean_losses

if TYPE_CHECKING:
    from unbraid.targets.toy import Toy

BATCHES, BATCH = 8, 1024


def class_panel(
    toy: Toy,
    module: nn.Module,
    classes: Callable[[Tensor], Int[Tensor, "*answers"]],
    names: Sequence[str],
    *,
    word: str = "class",
    distractors: Callable[[Tensor], Int[Tensor, "*answers"]] | None = None,
    distractor_word: str = "distractors",
    squared: bool = False,
) -> Panel:
    """Measure the cross-entropy, or the squared error, on each class of inputs, where a class takes the place of a feature.

    Args:
        toy: The toy; `wanted` gives labels (integers) or logits.
        module: Its model, which gives logits; or numbers, `[batch, n]`, where the error is squared.
        classes: `inputs -> class of each answer`: the operation, the position, the frequency …
        names: The classes' names.
        word: What a class is called.
        distractors: `inputs -> how many things beside the answer's own are on`; without, losses are not counted by it.
        distractor_word: What those are called.
        squared: Whether the loss is the squared error, summed over outputs; then `wanted` and `naive` give numbers too.

    Raises:
        UserError: A class never occurs in the data.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = torch.cat([_tensor(toy.data().batch(step, BATCH, generator)) for step in range(BATCHES)])
    answers = tuple(chunked(answer, inputs) for answer in (module, toy.naive, toy.oracle_answer))
    wanted = chunked(toy.wanted, inputs)
    if squared:
        loss, naive, oracle = ((answer - wanted).square().sum(-1) for answer in answers)
    else:
        loss = cross_entropy(answers[0], wanted)
        naive, oracle = (_loss_of(answer, wanted, answers[0]) for answer in answers[1:])
    which = classes(inputs).flatten()
    rows = [which == index for index in range(len(names))]
    absent = [name for name, row in zip(names, rows, strict=True) if not bool(row.any())]
    if absent:
        raise UserError(f"The data of {toy.kind!r} never has {word} {absent[0]!r} in {len(inputs):,} inputs.", "Leave it out of the panel.")
    per_class = [torch.stack([each[row].mean() for row in rows]) for each in (loss, naive, oracle)]
    counted = distractors is not None
    count = distractors(inputs).flatten().float() if counted else torch.zeros_like(loss)
    return Panel(
        target=toy.kind,
        unit="squared error, summed over outputs" if squared else "cross-entropy, nats per answer",
        word=word,
        features=tuple(names),
        loss_per_feature=per_class[0],
        naive_per_feature=per_class[1],
        oracle_per_feature=per_class[2],
        on_data=mean_losses(loss, naive, oracle),
        count_word=distractor_word if counted else "",
        loss_by_active=losses_by_count(loss, naive, oracle, count) if counted else (),
        notes=(f"Losses on {len(loss):,} answers from the data.",),
    )


def cross_entropy(logits: Float[Tensor, "*answers vocab"], wanted: Tensor) -> Float[Tensor, " flat"]:
    """Return the cross-entropy of each answer with a label, or with the distribution of wanted logits."""
    flat = logits.flatten(0, -2)
    if wanted.is_floating_point():
        return F.cross_entropy(flat, wanted.flatten(0, -2).softmax(-1), reduction="none")
    return F.cross_entropy(flat, wanted.flatten(), reduction="none")


def _loss_of(answer: Tensor, wanted: Tensor, logits: Tensor) -> Tensor:
    """Score an answer given as logits; labels that are the wanted ones are right, and others are read as a uniform guess."""
    if answer.is_floating_point():
        return cross_entropy(answer, wanted)
    right = answer.flatten() == wanted.flatten()
    if bool(right.all()):
        return torch.zeros(right.shape)
    return torch.full(right.shape, math.log(logits.shape[-1]))


def _tensor(batch: object) -> Tensor:
    if not isinstance(batch, Tensor):
        raise UserError(f"The panel needs inputs that are one tensor, and the data gives {type(batch).__name__}.", "Give tokens alone.")
    return batch

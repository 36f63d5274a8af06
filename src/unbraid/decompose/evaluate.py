"""How well does the behaviour survive? Reconstruction of a batch under each kind of mask, and under a fresh adversary.

Every number is the share of the behaviour that is lost: the distance to the target's output, divided by the distance when
everything is ablated (all masks and Δ at 0, biases on). 0 is the target, 1 is nothing left. `weights` are the inputs' shares of the batch, where equal ones stand once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unbraid.decompose.adversary import as_sources, gradients, random_sources, sign_step
from unbraid.decompose.masks import Importance, Mask, Masks, constant_masks, draw_sources, masks_from
from unbraid.decompose.model import Clean
from unbraid.decompose.next_token import cross_entropy, tokens_in
from unbraid.decompose.subject import Subject
from unbraid.decompose.vocabulary import distance_between
from unbraid.targets.behaviour import Behaviour

ROUNDING_THRESHOLD = 0.1


def rounded(importance: Importance) -> dict[str, Mask]:
    """Keep what has an importance above the threshold whole and drop the rest, Δ included."""
    return {path: Mask((g > ROUNDING_THRESHOLD).to(g.dtype)) for path, g in importance.items()}


@torch.no_grad()
def reconstruction(
    subject: Subject, clean: Clean, behaviour: Behaviour, generator: torch.Generator, weights: Tensor | None = None
) -> dict[str, float]:
    """Return the share of the behaviour lost under each kind of mask.

    Keys: `unmasked` (all subcomponents, no Δ), `stoch_masked`, `ci_masked`, `rounded_masked`, `random_masked` (masks uniform on
    [0, 1], importance ignored). For a language model also `kl_…`, the KL itself in nats, `ce_…`, by how many nats the cross-entropy of the next
    token is above the model's own, which is `ce_target`; and both for `zero_masked`, with everything ablated.
    """
    importance = subject.importance(clean)
    nothing = {path: torch.zeros_like(g) for path, g in importance.items()}
    masks: dict[str, Masks] = {
        "unmasked": constant_masks(importance, 1.0, delta=None),
        "stoch_masked": masks_from(importance, draw_sources(importance, generator)),
        "ci_masked": {path: Mask(g) for path, g in importance.items()},
        "rounded_masked": rounded(importance),
        "random_masked": masks_from(nothing, draw_sources(importance, generator)),
    }
    scale = everything_lost(subject, clean, behaviour, weights)
    tokens = tokens_in(clean.batch, clean.output) if behaviour.name == "kl" else None
    if tokens is not None:
        masks["zero_masked"] = constant_masks(importance, 0.0, delta=None)
    own = 0.0 if tokens is None else float(cross_entropy(clean.output, tokens))
    found: dict[str, float] = {} if tokens is None else {"ce_target": own}
    for name, mask in masks.items():
        output = subject.model.masked(clean, mask)
        lost = float(behaviour.between(clean.output, output, weights))
        if name != "zero_masked":
            found[name] = lost / float(scale)
        if tokens is not None:
            found[f"kl_{name}"] = lost
            found[f"ce_{name}"] = float(cross_entropy(output, tokens)) - own
    return found


@torch.no_grad()
def everything_lost(subject: Subject, clean: Clean, behaviour: Behaviour, weights: Tensor | None = None) -> Tensor:
    """Return the distance when every part is ablated and only biases and the rest of the model are left."""
    importance = subject.importance(clean)
    return behaviour.between(clean.output, subject.model.masked(clean, constant_masks(importance, 0.0, delta=None)), weights)


def adversarial_ladder(
    subject: Subject,
    clean: Clean,
    behaviour: Behaviour,
    generator: torch.Generator,
    budgets: Sequence[int],
    step_size: float,
    weights: Tensor | None = None,
) -> dict[int, float]:
    """Return the behaviour lost to a fresh shared adversary at each budget of sign steps, along one ascent, as a distance; divided by
    `everything_lost` it is a share.

    All sites are masked, and the sources are one choice for the whole batch (scope `c`), Δ included.
    """
    with torch.no_grad():
        importance = {path: g.detach() for path, g in subject.importance(clean).items()}

    def objective(values: dict[str, Tensor]) -> Tensor:
        masks = masks_from(importance, as_sources(values, importance))
        return distance_between(behaviour, clean.output, subject.model.masked(clean, masks, fixed=True), weights)

    values = random_sources(importance, "c", generator)
    lost: dict[int, float] = {}
    for step in range(1, max(budgets) + 1):
        values = sign_step(values, gradients(objective, values), step_size)
        if step in budgets:
            with torch.no_grad():
                lost[step] = float(objective(values))
    return lost

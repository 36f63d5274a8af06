"""Where did a step leave the numbers? Asked before the parameters move, so that they are whole when training stops."""

from __future__ import annotations

import torch
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.decompose.step import Step


def finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity."""
    return bool(torch.isfinite(tensor).all())


def check_step(step: Step, total: Tensor, values: dict[str, Tensor]) -> None:
    """Stop a step whose objective is not finite, and say in which pass that began.

    Raises:
        UserError: The clean pass, the importance function, a masked pass or another loss gave NaN or infinity, here or on another rank.
    """
    whole = finite(total.detach())
    if not step.ranks.any(not whole):  # asked together, so that no rank waits for one that has stopped
        return
    if whole:
        raise UserError("The objective of another rank's part of the batch is no longer finite.", "Its own message says where that began.")
    if not finite(step.clean.output):
        began = next((f", from what the site {path!r} reads" for path, x in step.clean.inputs.items() if not finite(x)), "")
        raise UserError(
            f"The model's own output holds NaN or infinity{began}: it is the clean pass, before anything is masked.",
            "Run the model alone on this data; weights in half precision and damaged files are the usual causes. The last saved state is whole.",
        )
    unknown = next((path for path, g in step.importances.lower.items() if not finite(g)), None)
    if unknown is not None:
        raise UserError(
            f"The importances of the site {unknown!r} are no longer finite.",
            "Lower optimizer.importance.learning_rate, or set optimizer.importance.clip=1.0; the last saved state is whole.",
        )
    bad = next((name for name, value in values.items() if not finite(value.detach())), None)
    raise UserError(
        f"The {f'loss {bad!r}' if bad else 'weighted sum of the losses'} is no longer finite; the clean pass and the importances are, "
        "so it began under masks or in the factors.",
        "Lower the learning rate, or set optimizer.factors.clip=1.0; the last saved state is whole.",
    )

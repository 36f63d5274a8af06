"""Which ablation hurts most? Sources found by ascent on the distance, at a stated scope and budget.

An adversary chooses the sources r within [0, 1]; its scope says what it may vary them over, as the published names do:
`c` one choice for the whole batch, `bc` one per example, `sc` one per sequence position, `nsc` N choices per position that the
examples take in turn, `bsc` one per example and position. A pool gives each example several such choices ("particles"), of which it
meets one at a time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from unbraid.core.ranks import Ranks, Share
from unbraid.decompose.columns import is_large
from unbraid.decompose.kernels import kernels_for
from unbraid.decompose.masks import Importance, Source, own_rows

Scope = Literal["c", "bc", "sc", "nsc", "bsc"]


def source_shape(importance: Tensor, scope: Scope, choices: int = 1) -> tuple[int, ...]:
    """Return the shape of one site's sources [..., C + 1] under a scope, given its importance [batch, ..., C]; the last slot is Δ.

    `choices` is the N of the scope `nsc`.
    """
    batch, *rest = importance.shape[:-1]
    first = batch if scope in ("bc", "bsc") else choices if scope == "nsc" else 1
    others = rest if scope in ("sc", "nsc", "bsc") else [1] * len(rest)
    return (first, *others, importance.shape[-1] + 1)


def as_sources(values: dict[str, Tensor], importance: Importance, share: Share | None = None) -> dict[str, Source]:
    """Spread stored sources [..., C + 1] over the positions of a batch; where they are fewer than its examples, these take turns."""
    sources: dict[str, Source] = {}
    for path, stored in values.items():
        lead = importance[path].shape[:-1]
        r = _in_turns(stored, lead[0], share)
        component, delta = r.split([r.shape[-1] - 1, 1], dim=-1)  # whose gradient is one copy, unlike that of two slices
        sources[path] = Source(component, delta.squeeze(-1).expand(lead), r if r.shape[:-1] == lead else None)
    return sources


def _in_turns(stored: Tensor, rows: int, share: Share | None) -> Tensor:
    """Give each of a batch's rows its sources; the batch's first row is the share's first."""
    first = 0 if share is None else share.first * (rows // share.rows)
    count = stored.shape[0]
    return (
        stored
        if count == 1 or (count == rows and first % rows == 0)
        else stored[(torch.arange(rows, device=stored.device) + first) % count]
    )


def is_own(scope: Scope) -> bool:
    """Whether each example has sources of its own, so that ranks share them out as they do the batch."""
    return scope in ("bc", "bsc")


def random_sources(
    importance: Importance,
    scope: Scope,
    generator: torch.Generator,
    choices: int = 1,
    share: Share | None = None,
    parts: int = 1,
    pool: int = 1,
) -> dict[str, Tensor]:
    """Draw starting sources, uniform on [0, 1]; `parts` batches of examples with their own follow one another.

    With a `pool` above 1 each of these examples has so many, on an axis of their own behind that of the examples.
    """

    def start(g: Tensor) -> Tensor:
        first, *rest = source_shape(g, scope, choices)

        def draw(shape: tuple[int, ...]) -> Tensor:
            return torch.rand(shape, generator=generator, device=g.device, dtype=torch.float32)

        if not is_own(scope):
            return draw((first, *rest))
        particles = (pool,) if pool > 1 else ()
        return own_rows(draw, (parts, first, *particles, *rest), share, axis=1).flatten(0, 1)

    return {path: start(g) for path, g in importance.items()}


def over_ranks(grads: dict[str, Tensor], scope: Scope, ranks: Ranks) -> dict[str, Tensor]:
    """Return the gradient of the objective of all ranks, given that of this one's: all pull at shared sources, and one at an example's own."""
    if is_own(scope):
        return grads if ranks.count == 1 else {path: grad / ranks.count for path, grad in grads.items()}
    ranks.average(list(grads.values()))
    return grads


def gradients(objective: Callable[[dict[str, Tensor]], Tensor], values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradient of an objective with respect to the sources alone."""
    leaves = {path: value.detach().requires_grad_() for path, value in values.items()}
    with torch.enable_grad():
        grads = torch.autograd.grad(objective(leaves), list(leaves.values()))
    return dict(zip(leaves, grads, strict=True))


def sign_step(values: dict[str, Tensor], grads: dict[str, Tensor], size: float) -> dict[str, Tensor]:
    """Move every source by `size` in the direction that raises the objective, within [0, 1] (projected gradient, Madry et al. 2018)."""
    return {path: (value + size * grads[path].sign()).clamp_(0, 1) for path, value in values.items()}


def projected_ascent(
    objective: Callable[[dict[str, Tensor]], Tensor],
    values: dict[str, Tensor],
    steps: int,
    size: float,
    shared: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> dict[str, Tensor]:
    """Take `steps` sign steps from `values`; the result is where the last one ends. `shared` makes one rank's gradients those of all."""
    for _ in range(steps):
        values = sign_step(values, shared(gradients(objective, values)), size)
    return values


def adam_ascent(
    values: dict[str, Tensor],
    grads: dict[str, Tensor],
    moments: dict[str, tuple[Tensor, Tensor]],
    step: int,
    rate: float,
    betas: tuple[float, float],
    divisor: float = 1.0,
) -> None:
    """Take one Adam ascent step on the sources, in place, and project onto [0, 1] (Kingma & Ba 2015, with ε outside the root).

    The gradients are those of the objective times `divisor`.
    """
    for path, value in values.items():
        first, second = moments[path]
        grad = grads[path]
        c = kernels_for(value, first, second, grad) if is_large(value) else None
        if c is not None:
            corrections = (1 - betas[0] ** step, 1 - betas[1] ** step)
            tensors = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (value, first, second, grad))
            c.adam_ascent(*tensors, ctypes.c_int64(value.numel()), *map(ctypes.c_float, (*betas, *corrections, rate, divisor)))
            continue
        grad = grad if divisor == 1.0 else grad / divisor
        first.lerp_(grad, 1 - betas[0])
        second.mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
        corrected = first / (1 - betas[0] ** step)
        scale = (second / (1 - betas[1] ** step)).sqrt_().add_(1e-8)
        value.addcdiv_(corrected, scale, value=rate).clamp_(0, 1)

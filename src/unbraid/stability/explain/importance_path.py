"""When do parts switch on and off along a path, and is that where the answer changes? Active sets, their changes, and cells of constant set."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.signal import find_peaks
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn


def jaccard_changes(active: Bool[ndarray, "n parts"]) -> Float[ndarray, " steps"]:
    """Return how much of the active set changes at each step, `1 - |A ∩ B| / |A ∪ B|`; 0 where both sets are empty."""
    both = (active[:-1] & active[1:]).sum(1)
    either = (active[:-1] | active[1:]).sum(1)
    return np.where(either > 0, 1 - both / np.maximum(either, 1), 0.0)


def flips(on: Bool[ndarray, "n units"]) -> Int[ndarray, " steps"]:
    """Return how many units change at each step."""
    return (on[:-1] != on[1:]).sum(1)


def peak_offset(density: Float[ndarray, " steps"], t: Float[ndarray, " n"], at: float) -> float:
    """Return how far from `at` the highest change lies, on average where several are the highest; NaN where nothing changes."""
    if not density.max(initial=0.0) > 0:
        return math.nan
    highest = density >= density.max() * (1 - 1e-9)
    return float(np.abs(_middles(t)[highest] - at).mean())


def mean_offset(density: Float[ndarray, " steps"], t: Float[ndarray, " n"], at: float) -> float:
    """Return the mean distance of all change from `at`, each step weighing what changes there; NaN where nothing changes."""
    if not density.sum() > 0:
        return math.nan
    return float((np.abs(_middles(t) - at) * density).sum() / density.sum())


def shifted_offsets(
    offset: Callable[[ndarray, ndarray, float], float], density: Float[ndarray, " steps"], t: Float[ndarray, " n"], at: float
) -> Float[ndarray, " steps"]:
    """Return the offset under every circular shift of the changes along the path: the null, which keeps how they are bunched, but not where."""
    return np.asarray([offset(np.roll(density, shift), t, at) for shift in range(len(density))])


class Cells(NamedTuple):
    """Along how many cells, stretches of constant active set, the two flats and the boundary between them lie.

    Attributes:
        left: Cells that the left flat meets, where the two-sided distance is under 0.1.
        right: Cells that the right flat meets, where it is over 0.9.
        inside: Cells that the boundary meets.
        flat_rate: Cell borders per unit of t in the two flats; NaN where there is no flat.
        inside_rate: The same in the boundary.
    """

    left: float
    right: float
    inside: float
    flat_rate: float
    inside_rate: float


def cells_of(active: Bool[ndarray, "n parts"], t: Float[ndarray, " n"], t10: float, t90: float) -> Cells:
    """Count the cells of each region; NaN everywhere where the curve has no width."""
    if not math.isfinite(t10 + t90):
        return Cells(*[math.nan] * 5)
    border = flips(active) > 0
    middle = _middles(t)
    left, right = border[middle < t10], border[middle > t90]
    inside = border[(middle >= t10) & (middle <= t90)]
    flat = t10 - t[0] + t[-1] - t90
    return Cells(
        left.sum() + 1.0,
        right.sum() + 1.0,
        inside.sum() + 1.0,
        float((left.sum() + right.sum()) / flat) if flat > 0 else math.nan,
        float(inside.sum() / (t90 - t10)) if t90 > t10 else math.nan,
    )


def boundaries(speed: Float[ndarray, " steps"]) -> int:
    """Return at how many places the answer jumps: peaks of the speed, at least 3 medians high and with half their height as prominence."""
    padded = np.concatenate([[0.0], speed, [0.0]])
    peaks, facts = find_peaks(padded, height=3 * float(np.median(speed)), prominence=0.0)
    return int((facts["prominences"] >= 0.5 * padded[peaks]).sum())


def ranking(g: Float[ndarray, " n"], effect: Float[ndarray, " n"], threshold: float) -> float:
    """Return how often a part with an importance above the threshold has a larger effect than one below (AUC); NaN where one kind is missing.

    1 is agreement of the learned importance with direct ablation, 0.5 is none.
    """
    seen = np.isfinite(g) & np.isfinite(effect)
    on = g[seen] > threshold
    return float(roc_auc_score(on, effect[seen])) if on.any() and not on.all() else math.nan


def gates_in(module: nn.Module) -> list[str]:
    """Return the modules that may be gates: without parameters or parts, and neither dropout nor the identity."""
    return [
        path
        for path, child in module.named_modules()
        if path
        and not any(True for _ in child.children())
        and not any(True for _ in child.parameters())
        and not isinstance(child, nn.Dropout | nn.Identity)
    ]


def gate_signs(module: nn.Module, run: Callable[[], object], position: int | None) -> Bool[Tensor, "n units"] | None:
    """Return the sign of every gate's input in a run, at one position; None where the model has no module of that kind.

    What counts is a module that gives a tensor of the shape that it is given; an activation that is called as a function is not seen.
    """
    seen: dict[str, Tensor] = {}

    def note(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[object, ...], output: object) -> None:
            given = args[0] if args else None
            if isinstance(given, Tensor) and isinstance(output, Tensor) and given.shape == output.shape and given.is_floating_point():
                seen[path] = (given if position is None or given.dim() < 3 else given[:, position]).flatten(1) > 0

        return hook

    handles = [module.get_submodule(path).register_forward_hook(note(path)) for path in gates_in(module)]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(list(seen.values()), dim=1) if seen else None


def _middles(t: ndarray) -> ndarray:
    return (t[:-1] + t[1:]) / 2

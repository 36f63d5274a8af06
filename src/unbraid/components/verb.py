"""The verb of this room: look at which subcomponents fire together on fresh data, and group them into modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Bool
from numpy import ndarray
from torch import Tensor

from unbraid.components.config import GroupingConfig
from unbraid.components.description_length import merge_by_length
from unbraid.components.result import IGNORED, Modules
from unbraid.core.agreement import agreement
from unbraid.core.seeds import Streams
from unbraid.decompose.result import Decomposition
from unbraid.targets.data import Batch, Data, draw
from unbraid.targets.target import Target

ImportanceOf = Callable[[Batch], Mapping[str, Tensor]]
"""Inputs → importance of each subcomponent, [batch, (pos,) C] per site."""


def group(decomposition: Decomposition, config: GroupingConfig | None = None) -> Modules:
    """Group the subcomponents of all sites into modules, by which of them inputs need together.

    Args:
        decomposition: What was taken apart.
        config: The settings; see `GroupingConfig`.

    Returns:
        The groups.
    """
    return group_by(decomposition.importance, decomposition.target, config or GroupingConfig(), decomposition.device)


def group_by(importance: ImportanceOf, target: Target, config: GroupingConfig, device: torch.device) -> Modules:
    """Group subcomponents by the importances that a function gives, which need not be a learned one."""
    activity, datapoints = harvest(importance, target.fresh, config, device)
    rates = {path: fires.sum(0) / datapoints for path, fires in activity.items()}
    kept = {path: (rate >= config.min_density) & (rate > 0) for path, rate in rates.items()}
    together = np.concatenate([fires[:, kept[path]] for path, fires in activity.items()], axis=1)
    grouping = merge_by_length(together, config.alpha, config.evidence, datapoints)
    labels: dict[str, tuple[int, ...]] = {}
    start = 0
    for path, keep in kept.items():
        own = np.full(len(keep), IGNORED)
        own[keep] = grouping.labels[start : start + int(keep.sum())]
        start += int(keep.sum())
        labels[path] = tuple(own.tolist())
    count = int(grouping.labels.max(initial=-1)) + 1
    group_rates = tuple(float(together[:, grouping.labels == label].any(1).sum() / datapoints) for label in range(count))
    return Modules(
        target.name,
        config,
        labels,
        {path: tuple(rate.tolist()) for path, rate in rates.items()},
        group_rates,
        datapoints,
        grouping.lengths,
        tuple((alpha, _agree(together, grouping.labels, alpha, config, datapoints)) for alpha in (config.alpha / 2, 2 * config.alpha)),
    )


def _agree(together: Bool[ndarray, "spoken n"], labels: ndarray, alpha: float, config: GroupingConfig, datapoints: int) -> float:
    """Return how well the groups at another α agree with these."""
    other = merge_by_length(together, alpha, config.evidence, datapoints)
    return agreement(other.labels.tolist(), labels.tolist()).ari


@torch.no_grad()
def harvest(
    importance: ImportanceOf, data: Data, config: GroupingConfig, device: torch.device
) -> tuple[dict[str, Bool[ndarray, "spoken C"]], int]:
    """Return where each subcomponent fires on fresh data, without the datapoints on which none does, and how many datapoints there were.

    A datapoint is a position. Where sites see different numbers of positions it is an input, on which a subcomponent fires when
    it does at any position.
    """
    generator = Streams(config.seed, device)["grouping"]
    parts: dict[str, list[ndarray]] = {}
    datapoints, step = 0, 0
    while datapoints < config.datapoints:
        batch, _, _ = draw(data, step, config.batch_size, generator, every_input=True)
        fires = flat_activity(importance(batch), config.threshold)
        spoken = torch.stack([active.any(1) for active in fires.values()]).any(0)
        for path, active in fires.items():
            parts.setdefault(path, []).append(active[spoken].cpu().numpy())
        datapoints, step = datapoints + len(spoken), step + 1
    return {path: np.concatenate(parts[path]) for path in parts}, datapoints


def flat_activity(importance: Mapping[str, Tensor], threshold: float) -> dict[str, Bool[Tensor, "datapoints C"]]:
    """Return where importances are above the threshold, one row per datapoint, the same rows for all sites."""
    fires = {path: g > threshold for path, g in importance.items()}
    if len({active.shape[:-1] for active in fires.values()}) == 1:
        return {path: active.flatten(0, -2) for path, active in fires.items()}
    return {path: active.flatten(1, -2).any(1) if active.dim() > 2 else active for path, active in fires.items()}

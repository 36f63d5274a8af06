"""Do as many groups fire as the input needs modules? Counted on fresh inputs, by how many planted modules are on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from unbraid.components.probes import Probes
from unbraid.decompose.result import Decomposition


@dataclass(frozen=True)
class Calibration:
    """Inputs that need the same number of planted modules.

    Attributes:
        planted: How many modules they need, the background left out.
        inputs: How many such inputs were seen.
        groups: How many groups fire on them, on average, groups of the background left out.
    """

    planted: int
    inputs: int
    groups: float


@torch.no_grad()
def calibration(
    decomposition: Decomposition, labels: Mapping[str, tuple[int, ...]], groups: list[int], probes: Probes, threshold: float
) -> tuple[Calibration, ...]:
    """Count the groups that fire on each input of a fresh batch; a group fires where any of its members has an importance above the threshold."""
    fires = torch.zeros(len(probes.mixed), len(groups), dtype=torch.bool)
    place = {group: column for column, group in enumerate(groups)}
    for path, g in decomposition.importance(probes.mixed).items():
        active = (g > threshold).cpu()
        active = active.flatten(1, -2).any(1) if active.dim() > 2 else active
        for index, label in enumerate(labels[path]):
            if label in place:
                fires[:, place[label]] |= active[:, index]
    alone = [module for module in range(len(probes.names)) if module not in probes.background]
    if not alone:  # every input needs every module
        return ()
    needed = probes.mixed_on[:, alone].sum(1)
    counts = fires.sum(1).float()
    return tuple(
        Calibration(int(count), int((needed == count).sum()), float(counts[needed == count].mean())) for count in needed.unique().tolist()
    )

"""What do the figures of a decomposition look at? Its importances on the probes and on fresh data, measured once for all figures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unbraid.core.seeds import Streams
from unbraid.decompose.result import ALIVE_RATE, ALIVE_THRESHOLD, Decomposition

SAMPLE_ROWS = 64


@dataclass(frozen=True)
class Observed:
    """Importances of a decomposition, on the CPU.

    Attributes:
        probes: Site → importance on the one-hot probes, [n, C]; None where there are no such probes.
        alive: Site → which subcomponents are above 0.1 on at least one fresh input in a thousand, [C].
        sample: Site → importance on the first fresh inputs (positions flattened), [rows, C].
    """

    probes: dict[str, Tensor] | None
    alive: dict[str, Tensor]
    sample: dict[str, Tensor]


@torch.no_grad()
def observe(decomposition: Decomposition) -> Observed:
    """Run the probes and the scorecard's own fresh batches through the importance function."""
    target, settings = decomposition.target, decomposition.config.evaluation
    streams = Streams(decomposition.config.seed, decomposition.device)
    rate: dict[str, Tensor] = {}
    sample: dict[str, Tensor] = {}
    for index in range(settings.batches):
        batch = target.fresh.batch(index, settings.batch_size, streams["evaluation"])
        for path, g in decomposition.importance(batch).items():
            flat = g.flatten(0, -2)
            share = (flat > ALIVE_THRESHOLD).float().mean(dim=0) / settings.batches
            rate[path] = rate[path] + share if path in rate else share
            if index == 0:
                sample[path] = flat[:SAMPLE_ROWS].cpu()
    probes = None
    if target.truth is not None and target.truth.one_hot is not None:
        probes = {path: g.flatten(0, -2).cpu() for path, g in decomposition.importance(target.truth.one_hot).items()}
    return Observed(probes, {path: (value >= ALIVE_RATE).cpu() for path, value in rate.items()}, sample)

"""Which subcomponents carry nothing? Those far smaller than the largest of their site are removed for good, once in a run.

The importance of a subcomponent that writes nothing costs and changes nothing, so nothing teaches it to be 0; removing such
pieces keeps them out of every count.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from unbraid.decompose.config import PruneConfig
from unbraid.decompose.site import Factors
from unbraid.decompose.training import Training


def weightless(factors: Factors, below: float) -> Bool[Tensor, " C"]:
    """Return which subcomponents have `‖V_c‖ ‖U_c‖` under `below` times the site's largest."""
    size = factors.V.norm(dim=0) * factors.U.norm(dim=1)
    return size < below * size.max()


@torch.no_grad()
def prune(training: Training, config: PruneConfig) -> int:
    """Remove the weightless subcomponents of every site: factors, optimiser state and importance become 0 and stay so.

    Returns:
        How many were removed.
    """
    removed = 0
    for module in training.model.factors.values():
        if not isinstance(module, Factors):
            continue
        gone = weightless(module, config.below)
        removed += int(gone.sum())
        module.kept.masked_fill_(gone, 0.0)
        for parameter, kept in ((module.V, module.kept), (module.U, module.kept[:, None])):
            parameter.mul_(kept)
            for name, moment in training.optimizer.state.get(parameter, {}).items():
                if name != "step":
                    moment.mul_(kept)
    return removed

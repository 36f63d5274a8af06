"""Which subcomponents carry nothing? Those far smaller than the largest of their site are removed for good, once in a run.

The importance of a subcomponent that writes nothing costs and changes nothing, so nothing teaches it to be 0; removing such
pieces keeps them out of every count. Where several subcomponents make one component, only their sum means something, and it can be
written with more pieces than its rank. So it is first written as its singular pieces, of which the surplus ones are empty.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unbraid.decompose.config import PruneConfig
from unbraid.decompose.site import Factors
from unbraid.decompose.training import Training


def weightless(factors: Factors, below: float) -> Bool[Tensor, " C"]:
    """Return which subcomponents have `‖V_c‖ ‖U_c‖` under `below` times the site's largest."""
    size = factors.V.norm(dim=0) * factors.U.norm(dim=1)
    return size < below * size.max()


def singular_pieces(
    V: Float[Tensor, "d_in C"], U: Float[Tensor, "C d_out"], rank: int
) -> tuple[Float[Tensor, "d_in C"], Float[Tensor, "C d_out"]]:
    """Write the sum of every `rank` consecutive subcomponents as its singular pieces, the largest first, as long in V as in U."""
    (d_in, C), d_out = V.shape, U.shape[1]
    reads, writes = V.T.reshape(-1, rank, d_in), U.reshape(-1, rank, d_out)
    left, sizes, right = torch.linalg.svd(reads.mT @ writes, full_matrices=False)
    n, roots = min(rank, sizes.shape[-1]), sizes.sqrt()[:, :, None]
    reads, writes = torch.zeros_like(reads), torch.zeros_like(writes)
    reads[:, :n], writes[:, :n] = (roots * left.mT)[:, :n], (roots * right)[:, :n]
    return reads.reshape(C, d_in).T.contiguous(), writes.reshape(C, d_out)


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
        if training.function.rank > 1:
            _rewrite(training, module)
        gone = weightless(module, config.below)
        removed += int(gone.sum())
        module.kept.masked_fill_(gone, 0.0)
        for parameter, kept in ((module.V, module.kept), (module.U, module.kept[:, None])):
            parameter.mul_(kept)
            for name, moment in training.optimizer.state.get(training.shards.own(parameter), {}).items():
                if name != "step":
                    moment.mul_(training.shards.part(kept.expand_as(parameter)))
    return removed


def _rewrite(training: Training, factors: Factors) -> None:
    """Write each component as its singular pieces; the optimiser starts anew on them, since its moments are those of others."""
    for parameter, value in zip((factors.V, factors.U), singular_pieces(factors.V, factors.U, training.function.rank), strict=True):
        parameter.copy_(value)
        training.optimizer.state.pop(training.shards.own(parameter), None)

"""How well do baselines sort the hidden units of a toy, beside the groups that were found? All of them on the same units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unbraid.components.baselines import TwoMatrices, baseline_labels, modularity_z
from unbraid.components.coverage import Factors
from unbraid.components.labelling import planted_names
from unbraid.components.measure import Labels, factors_of
from unbraid.components.module_scores import has_modules, planted_labels
from unbraid.components.result import IGNORED, Modules
from unbraid.core.agreement import Agreement, agreement
from unbraid.core.errors import UserError
from unbraid.core.seeds import Streams
from unbraid.decompose.result import Decomposition
from unbraid.targets.matrices import weight_of
from unbraid.targets.target import Target, apply
from unbraid.targets.truth import Truth

OURS = "subcomponents"
DATAPOINTS = 4096


@dataclass(frozen=True)
class BaselineScores:
    """How each method sorts the hidden units between two matrices.

    Attributes:
        agreement: Method → agreement with the planted modules of the units; ours, `subcomponents`, where a decomposition was given.
        Q: Newman's modularity of the graph of the weights, as Louvain finds it.
        z: Its z-score against weights shuffled within each matrix.
        units: How many hidden units there are.
    """

    agreement: Mapping[str, Agreement]
    Q: float
    z: float
    units: int


def baseline_scores(
    target: Target, read: str, write: str, decomposition: Decomposition | None = None, modules: Modules | None = None, seed: int = 0
) -> BaselineScores:
    """Sort the hidden units of a toy by every baseline, and by the groups of a decomposition, and compare with what is planted.

    Args:
        target: A toy with planted modules.
        read: The site that writes the hidden units.
        write: The site that reads them.
        decomposition: What the groups were made of; needed with `modules`.
        modules: Groups to put beside the baselines.
        seed: Decides data and where clusterings start.

    Raises:
        UserError: No modules are planted at these sites, or the matrices do not meet in one set of hidden units.
    """
    truth = target.truth
    if truth is None or not has_modules(truth):
        raise UserError(f"No modules are planted in {target.name!r}.", "Score a toy that has some: unbraid targets list --truth")
    planted = unit_truth(truth, read, write)
    network = two_matrices(target, read, write, seed)
    found = baseline_labels(network, len(planted_names(truth)), seed)
    if decomposition is not None and modules is not None:
        found[OURS] = units(factors_of(decomposition.model), modules.labels, read, write)
    Q, z = modularity_z(network, seed)
    return BaselineScores({name: _agree(labels, planted) for name, labels in found.items()}, Q, z, len(planted))


def _agree(labels: Int[Tensor, " hidden"], planted: Int[Tensor, " hidden"]) -> Agreement:
    known = planted != IGNORED
    return agreement(labels[known].tolist(), planted[known].tolist())


def units(factors: Factors, labels: Labels, read: str, write: str) -> Int[Tensor, " hidden"]:
    """Return the group of each hidden unit: the one whose pieces weigh most there, by what they write to it and read from it; -1 without any."""
    count = max((label for path in (read, write) for label in labels[path]), default=-1) + 1
    n = factors[read][1].shape[1]
    if factors[write][0].shape[0] != n:
        raise UserError(f"{read!r} writes {n} units and {write!r} reads {factors[write][0].shape[0]}.", "Give two matrices that meet.")
    weight = torch.zeros(n, count + 1)
    for path, ends, others in ((read, factors[read][1], factors[read][0].T), (write, factors[write][0].T, factors[write][1])):
        share = ends.square() * others.square().sum(1, keepdim=True)
        share = share / share.sum().clamp(min=1e-12)
        for piece, label in enumerate(labels[path]):
            if label != IGNORED:
                weight[:, label] += share[piece]
    best, group = weight.max(1)
    return torch.where(best > 0, group, IGNORED)


def two_matrices(target: Target, read: str, write: str, seed: int = 0) -> TwoMatrices:
    """Return the two matrices of a target, with the activations of the units between them on fresh data and their gradients.

    Raises:
        UserError: A site is no module of the target.
    """
    W_in, W_out = (weight_of(target.module.get_submodule(path)).detach() for path in (read, write))
    batch = target.fresh.batch(0, DATAPOINTS, Streams(seed)["baselines"])
    hidden, gradients = _hidden(target.module, write, lambda: apply(target.module, batch))
    return TwoMatrices(W_in, W_out, hidden.flatten(0, -2), gradients.flatten(0, -2))


def _hidden(module: nn.Module, path: str, run: Callable[[], Tensor]) -> tuple[Float[Tensor, "*lead hidden"], Float[Tensor, "*lead hidden"]]:
    """Return what a module reads in a pass, and the gradient of half the squared output with respect to it."""
    seen: list[Tensor] = []

    def watch(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        seen.append(args[0].detach().requires_grad_())
        return (seen[-1], *args[1:])

    handle = module.get_submodule(path).register_forward_pre_hook(watch)
    try:
        with torch.enable_grad():
            output = run()
            (gradient,) = torch.autograd.grad(output.square().sum() / 2, [seen[-1]])
    finally:
        handle.remove()
    return seen[-1].detach(), gradient


def unit_truth(truth: Truth, read: str, write: str) -> Int[Tensor, " hidden"]:
    """Return the planted module of each hidden unit between two sites."""
    return units({path: (site.V, site.U) for path, site in truth.sites.items()}, planted_labels(truth), read, write)

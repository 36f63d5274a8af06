"""What does a trained `W_out ReLU(W_in x)` compute, and which of its pieces does an input need?

With clean labels and squared error the network ends where a dedicated neuron per feature would: as many features as neurons are
learned and the others ignored. What is planted is then read off the trained weights: a *link* for each feature that a neuron
reads and answers, and a neuron's row of writing weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unbraid.targets.truth import SiteTruth

LINK = 0.3
"""A feature is linked to a neuron that alone gives at least this share of its answer."""
NOTHING, FAINT, CLEAR = 0.02, 0.1, 0.5
"""What changes the output by less than NOTHING must not be important, by more than CLEAR must be; the oracle itself uses what exceeds
FAINT. A learned feature at 1 gives about 1."""


@dataclass(frozen=True)
class Links:
    """Which features each neuron reads and answers.

    Attributes:
        feature: The feature of each link.
        neuron: The neuron of each link.
        own: Share of the feature's answer, `W_in[k, i] W_out[i, k]`; 1 for a neuron that serves this feature alone.
    """

    feature: Int[Tensor, " links"]
    neuron: Int[Tensor, " links"]
    own: Float[Tensor, " links"]


def links_of(module: nn.Module) -> Links:
    """Return the links of a trained network, in the order of the neurons and, within one, strongest first."""
    read, write = _weights(module)
    strength = read.T * write.T  # [d_mlp, n_features]
    neuron, feature = (strength >= LINK).nonzero(as_tuple=True)
    own = strength[neuron, feature]
    order = own.argsort(descending=True)
    order = order[neuron[order].argsort(stable=True)]
    return Links(feature[order], neuron[order], own[order])


def _weights(module: nn.Module) -> tuple[Float[Tensor, "n_features d_mlp"], Float[Tensor, "n_features d_mlp"]]:
    """Return what every neuron reads and what it writes, features in rows."""
    return module.get_parameter("linear1.weight").detach().T, module.get_parameter("linear2.weight").detach()


def module_names(links: Links, d_mlp: int) -> list[str]:
    """Name each neuron's module by the features that it serves."""
    served: list[list[int]] = [[] for _ in range(d_mlp)]
    for feature, neuron in zip(links.feature.tolist(), links.neuron.tolist(), strict=True):
        served[neuron].append(feature)
    return [f"feature {' and '.join(map(str, sorted(features)))}" if features else f"neuron {k}" for k, features in enumerate(served)]


def reading_truth(module: nn.Module, links: Links) -> SiteTruth:
    """Return one piece of `linear1` per link: reads the feature, writes to the neuron.

    A neuron's first link also takes what the neuron faintly reads of features that it does not answer, so that the pieces add
    up to the whole matrix on every neuron that has a link.
    """
    read, write = _weights(module)
    n_links = len(links.feature)
    rows = torch.arange(n_links)
    V = torch.zeros(read.shape[0], n_links)
    V[links.feature, rows] = read[links.feature, links.neuron]
    first = torch.cat([torch.ones(1, dtype=torch.bool), links.neuron[1:] != links.neuron[:-1]])[:n_links]
    faint = read.clone()
    faint[links.feature, links.neuron] = 0
    V[:, first] += faint[:, links.neuron[first]]
    U = torch.zeros(n_links, read.shape[1])
    U[rows, links.neuron] = 1.0
    gain = read[links.feature, links.neuron] * write[:, links.neuron].norm(dim=0)

    def on(inputs: Tensor) -> Tensor:
        return (inputs[:, links.feature] * gain > FAINT).to(inputs.dtype)

    def needed(inputs: Tensor) -> Tensor:
        size = inputs[:, links.feature] * gain
        answer = torch.where(size > CLEAR, 1.0, torch.where(size <= NOTHING, 0.0, torch.nan))
        # A negative input matters where other features make its neuron fire, so there the truth does not say.
        without = (inputs @ read)[:, links.neuron] - inputs[:, links.feature] * read[links.feature, links.neuron]
        in_company = (size < -NOTHING) & (without * write[:, links.neuron].norm(dim=0) > NOTHING)
        return torch.where(in_company, torch.nan, answer)

    names = module_names(links, read.shape[1])
    return SiteTruth(V=V, U=U, pattern="sparse", on=on, needed=needed, modules=tuple(names[k] for k in links.neuron.tolist()))


def writing_truth(module: nn.Module, links: Links) -> SiteTruth:
    """Return one piece of `linear2` per neuron that has a link: needed where the neuron fires."""
    read, write = _weights(module)
    used = links.neuron.unique()
    size = write[:, used].norm(dim=0)

    def fires(inputs: Tensor) -> Tensor:
        return torch.relu(inputs @ read[:, used]) * size

    def needed(inputs: Tensor) -> Tensor:
        strength = fires(inputs)
        return torch.where(strength > CLEAR, 1.0, torch.where(strength <= NOTHING, 0.0, torch.nan))

    names = module_names(links, read.shape[1])
    return SiteTruth(
        V=torch.eye(read.shape[1])[:, used],
        U=write[:, used].T.contiguous(),
        pattern="sparse",
        on=lambda inputs: (fires(inputs) > FAINT).to(inputs.dtype),
        needed=needed,
        modules=tuple(names[k] for k in used.tolist()),
    )

"""What would a person do without decomposing anything? Hidden units of a two-matrix network, sorted by weights, activations or gradients.

Every method gives one label per hidden unit. Methods on the graph of the weights see modules only in a basis that shows them; they stand
here to be beaten, and to be seen to fail where the basis is turned.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, cast

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.cluster import SpectralClustering
from torch import Tensor

SHUFFLES = 20


@dataclass(frozen=True)
class TwoMatrices:
    """A network `f(x W_in) W_out` and what its hidden units did on data.

    Attributes:
        W_in: Read matrix, y = x W.
        W_out: Write matrix.
        hidden: Activations of the hidden units on data.
        gradients: The gradient of half the squared output with respect to them, on the same data.
    """

    W_in: Float[Tensor, "d_in hidden"]
    W_out: Float[Tensor, "hidden d_out"]
    hidden: Float[Tensor, "datapoints hidden"]
    gradients: Float[Tensor, "datapoints hidden"]


def baseline_labels(network: TwoMatrices, count: int, seed: int = 0) -> dict[str, Int[Tensor, " hidden"]]:
    """Sort the hidden units by every method.

    Args:
        network: The network and its activity.
        count: How many modules are planted; all methods but Louvain are told.
        seed: Decides where the clusterings start.

    Returns:
        Method → label per hidden unit: `louvain` and `spectral` on the graph of the weights, `activation-correlation`,
        `gradient-similarity`, `random`.
    """
    n_in, n_hidden = network.W_in.shape
    graph = weight_graph(network.W_in, network.W_out)
    units = slice(n_in, n_in + n_hidden)
    return {
        "louvain": louvain(graph, seed)[units],
        "spectral": spectral(graph, count, seed)[units],
        "activation-correlation": spectral(activation_correlation(network.hidden), count, seed),
        "gradient-similarity": spectral(gradient_similarity(network.hidden, network.gradients), count, seed),
        "random": random_labels(n_hidden, count, seed),
    }


def weight_graph(W_in: Float[Tensor, "d_in hidden"], W_out: Float[Tensor, "hidden d_out"]) -> Float[Tensor, "n n"]:
    """Return the weights as an undirected graph on inputs, hidden units and outputs, in this order, each edge |w|."""
    d_in, hidden = W_in.shape
    n = d_in + hidden + W_out.shape[1]
    graph = torch.zeros(n, n)
    graph[:d_in, d_in : d_in + hidden] = W_in.abs()
    graph[d_in : d_in + hidden, d_in + hidden :] = W_out.abs()
    return graph + graph.T


def modularity(graph: Float[Tensor, "n n"], labels: Int[Tensor, " n"]) -> float:
    """Return Newman's Q = 1/2m Σ_ij (A_ij - k_i k_j / 2m) [c_i = c_j] (Newman & Girvan 2004)."""
    degree, total = graph.sum(0).double(), float(graph.sum())
    if total == 0:
        return 0.0
    same = labels[:, None] == labels[None, :]
    return float(((graph.double() - degree[:, None] * degree / total) * same).sum() / total)


def louvain(graph: Float[Tensor, "n n"], seed: int = 0) -> Int[Tensor, " n"]:
    """Sort the nodes of a graph by greedy modularity (Blondel et al. 2008); it finds its own number of groups."""
    communities = cast("list[set[int]]", cast(Any, nx).community.louvain_communities(nx.from_numpy_array(graph.numpy()), seed=seed))
    labels = torch.zeros(len(graph), dtype=torch.long)
    for label, community in enumerate(sorted(communities, key=min)):
        labels[sorted(community)] = label
    return labels


def spectral(affinity: Float[Tensor, "n n"], count: int, seed: int = 0) -> Int[Tensor, " n"]:
    """Sort things into `count` groups by the eigenvectors of the normalised Laplacian of how near they are (Ng, Jordan & Weiss 2002)."""
    model = SpectralClustering(n_clusters=count, affinity="precomputed", random_state=seed, assign_labels="kmeans")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Graph is not fully connected")  # blocks without any coupling are what is looked for
        return torch.as_tensor(model.fit_predict(affinity.double().numpy()), dtype=torch.long)


def activation_correlation(hidden: Float[Tensor, "datapoints hidden"]) -> Float[Tensor, "hidden hidden"]:
    """Return |correlation| of the units' activations; a unit that never varies is near none."""
    centred = hidden.double() - hidden.double().mean(0)
    return _cosine(centred).abs().float()


def gradient_similarity(
    hidden: Float[Tensor, "datapoints hidden"], gradients: Float[Tensor, "datapoints hidden"]
) -> Float[Tensor, "hidden hidden"]:
    """Return how alike the examples are on which units matter: the |cosine| of activation times gradient, over examples.

    A unit's part of the answer, to first order, on each example; units of one mechanism matter on the same examples, as in the
    clustering of per-example gradients that finds quanta (Michaud et al. 2023).
    """
    return _cosine((hidden * gradients).double()).abs().float()


def _cosine(columns: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(columns, dim=0)
    return (unit.T @ unit).clamp(-1, 1)


def random_labels(n: int, count: int, seed: int = 0) -> Int[Tensor, " n"]:
    """Return groups of equal size, drawn at random."""
    return (torch.arange(n) % count)[torch.randperm(n, generator=torch.Generator().manual_seed(seed))]


def modularity_z(network: TwoMatrices, seed: int = 0, shuffles: int = SHUFFLES) -> tuple[float, float]:
    """Return the Q that Louvain finds in the graph of the weights, and its z-score against graphs whose weights are shuffled within each matrix.

    A high z-score is no proof of modules: any structure at all beats a shuffle.
    """
    found = weight_graph(network.W_in, network.W_out)
    Q = modularity(found, louvain(found, seed))
    generator = torch.Generator().manual_seed(seed)

    def shuffled(W: Tensor) -> Tensor:
        return W.flatten()[torch.randperm(W.numel(), generator=generator)].view_as(W)

    null: list[float] = []
    for _ in range(shuffles):
        graph = weight_graph(shuffled(network.W_in), shuffled(network.W_out))
        null.append(modularity(graph, louvain(graph, seed)))
    return Q, (Q - float(np.mean(null))) / max(float(np.std(null, ddof=1)), 1e-12)

"""The baselines see planted blocks in the basis that shows them, and lose them when it is turned: the figures of a known trap."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from unbraid.components.baselines import (
    TwoMatrices,
    activation_correlation,
    baseline_labels,
    gradient_similarity,
    louvain,
    modularity,
    modularity_z,
    random_labels,
    spectral,
    weight_graph,
)
from unbraid.core.agreement import agreement

K, D, H = 8, 4, 8
PLANTED = torch.arange(K * H) // H


@cache
def blocks(rotated: bool, coupling: float = 0.0, seed: int = 0) -> TwoMatrices:
    """Eight small networks `B relu(A x)` side by side; in the rotated basis the stream is turned and the function stays."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    A = torch.block_diag(*[normal(D, H) for _ in range(K)])
    B = torch.block_diag(*[normal(H, D) for _ in range(K)])
    C = normal(*A.shape)
    A = A + coupling * A.norm() * C / C.norm()
    R = torch.linalg.qr(normal(K * D, K * D))[0] if rotated else torch.eye(K * D)
    active = (torch.rand(2000, K, generator=generator) < 0.25).float().repeat_interleave(D, 1)
    W_in, W_out = R.T @ A, B @ R
    hidden = torch.relu((normal(2000, K * D) * active) @ R @ W_in)
    return TwoMatrices(W_in, W_out, hidden, hidden @ W_out @ W_out.T)


@cache
def scores(rotated: bool, coupling: float = 0.0) -> dict[str, float]:
    labels = baseline_labels(blocks(rotated, coupling), K)
    return {name: agreement(own.tolist(), PLANTED.tolist()).ari for name, own in labels.items()}


@pytest.mark.parametrize("coupling", [0.0, 0.1])
def test_graph_of_the_weights_shows_aligned_blocks(coupling: float) -> None:
    assert scores(False, coupling)["louvain"] == pytest.approx(1.0)
    assert scores(False, coupling)["spectral"] == pytest.approx(1.0)


@pytest.mark.parametrize("coupling", [0.0, 0.1])
def test_graph_of_the_weights_loses_rotated_blocks(coupling: float) -> None:
    assert scores(True, coupling)["louvain"] < 0.3
    assert 0.1 < scores(True, coupling)["spectral"] < 0.5


@pytest.mark.parametrize("rotated", [False, True])
def test_activations_and_gradients_do_not_see_the_basis(rotated: bool) -> None:
    assert scores(rotated)["activation-correlation"] == pytest.approx(1.0)
    assert scores(rotated)["gradient-similarity"] > 0.5


def test_coupling_blinds_the_correlation_of_activations() -> None:
    assert scores(False, 1.0)["activation-correlation"] < 0.3


def test_random_labels_agree_with_nothing() -> None:
    assert abs(scores(False)["random"]) < 0.1


@pytest.mark.parametrize(("rotated", "wanted"), [(False, 0.874), (True, 0.111)])
def test_modularity_falls_as_the_basis_turns(rotated: bool, wanted: float) -> None:
    Q, z = modularity_z(blocks(rotated), shuffles=5)
    assert pytest.approx(wanted, abs=0.03) == Q
    assert z > 3  # however few modules are to be seen, a shuffle is beaten


def test_modularity_of_two_separate_pairs() -> None:
    graph = torch.zeros(4, 4)
    graph[0, 1] = graph[1, 0] = graph[2, 3] = graph[3, 2] = 1.0
    assert modularity(graph, torch.tensor([0, 0, 1, 1])) == pytest.approx(0.5)
    assert modularity(graph, torch.tensor([0, 0, 0, 0])) == pytest.approx(0.0)
    assert modularity(graph, torch.tensor([0, 1, 0, 1])) == pytest.approx(-0.5)
    assert modularity(torch.zeros(3, 3), torch.zeros(3, dtype=torch.long)) == 0.0


def test_weight_graph_joins_hidden_units_to_both_sides() -> None:
    graph = weight_graph(torch.tensor([[-2.0, 0.0]]), torch.tensor([[0.0], [3.0]]))
    assert graph.tolist() == [[0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 0, 3], [0, 0, 3, 0]]


def test_clusterings_repeat_themselves() -> None:
    network = blocks(True)
    graph = weight_graph(network.W_in, network.W_out)
    assert torch.equal(louvain(graph, 3), louvain(graph, 3))
    assert torch.equal(spectral(graph, K, 3), spectral(graph, K, 3))
    assert random_labels(10, 3).bincount().tolist() == [4, 3, 3]


def test_dead_units_are_like_no_other() -> None:
    hidden = torch.rand(50, 3)
    hidden[:, 1] = 0
    assert activation_correlation(hidden)[1].abs().max() == 0
    assert gradient_similarity(hidden, torch.ones(50, 3))[1].abs().max() == 0

"""Baselines and groups are compared on the same hidden units, and only ours does not care which basis the stream is in."""

from __future__ import annotations

import pytest
import torch

from tests.components.conftest import OWN, QUICK, D, K, blocks_target, by_hand, planted_pieces
from unbraid.components.baseline_scores import OURS, baseline_scores, two_matrices, unit_truth, units
from unbraid.components.verb import group
from unbraid.core.errors import UserError
from unbraid.targets.target import Target


def test_aligned_blocks_are_seen_by_all() -> None:
    target = blocks_target()
    decomposition = by_hand(target, planted_pieces(target), OWN)
    scores = baseline_scores(target, "read", "write", decomposition, group(decomposition, QUICK))
    assert {name: found.ari for name, found in scores.agreement.items() if name != "random"} == pytest.approx(
        dict.fromkeys(("louvain", "spectral", "activation-correlation", "gradient-similarity", OURS), 1.0)
    )
    assert scores.agreement["random"].ari < 0.5
    assert scores.units == K * D
    assert pytest.approx(1 - 1 / K, abs=0.02) == scores.Q


def test_units_belong_to_the_pieces_that_weigh_most_there() -> None:
    V, U = torch.eye(2), torch.tensor([[1.0, 0.5, 0.0, 0.0], [0.4, 2.0, 0.0, 0.1]])
    factors = {"read": (V, U), "write": (U.T, torch.eye(2))}
    labels = {"read": (0, 1), "write": (0, 1)}
    assert units(factors, labels, "read", "write").tolist() == [0, 1, -1, 1]
    assert units(factors, {"read": (-1, -1), "write": (-1, -1)}, "read", "write").tolist() == [-1] * 4


def test_planted_units_of_blocks() -> None:
    truth = blocks_target().truth
    assert truth is not None
    assert unit_truth(truth, "read", "write").tolist() == [unit // D for unit in range(K * D)]


def test_gradients_are_those_of_half_the_squared_output() -> None:
    target = blocks_target()
    network = two_matrices(target, "read", "write")
    bias = target.module.get_submodule("write").bias
    assert bias is None
    torch.testing.assert_close(network.gradients, network.hidden @ network.W_out @ network.W_out.T, rtol=1e-4, atol=1e-4)


def test_matrices_must_meet(target: Target) -> None:
    blocks = blocks_target()
    with pytest.raises(UserError, match="Give two matrices that meet"):
        units(
            {"read": (torch.eye(3), torch.eye(3)), "write": (torch.eye(4), torch.eye(4))},
            {"read": (0,) * 3, "write": (0,) * 4},
            "read",
            "write",
        )
    with pytest.raises(UserError, match="No modules are planted"):
        baseline_scores(target, "0", "2")
    assert blocks.truth is not None

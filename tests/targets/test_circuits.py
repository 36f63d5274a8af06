from __future__ import annotations

import pytest
import torch

from unbraid.targets.toy_kit.circuits import matching_circuit, moving_circuit, readers, roots, steepest_fall

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR)


def test_roots_multiply_to_the_second_moment_and_ignore_absent_directions() -> None:
    rows = normal(50, 3) @ normal(3, 6)
    root, inverse = roots(rows)
    torch.testing.assert_close(root @ root, rows.T @ rows / 50, rtol=1e-3, atol=1e-4)
    assert int(torch.linalg.matrix_rank(root @ inverse, atol=1e-2)) == 3


def test_moving_circuit_of_full_rank_does_what_the_matrices_do_on_the_data() -> None:
    moved, W_v, W_o = normal(200, 6), normal(6, 6), normal(6, 6)
    circuit = moving_circuit(("v", "o"), "copying", moved, W_v, W_o)
    (V_v, U_v), (V_o, U_o) = circuit.cut(6)
    torch.testing.assert_close(moved @ V_v @ U_v @ V_o @ U_o, moved @ W_v @ W_o, rtol=1e-3, atol=1e-3)


def test_moving_circuit_finds_a_planted_rank_hidden_in_two_matrices_of_full_rank() -> None:
    moved, W_v = normal(200, 6), normal(6, 6)
    W_o = torch.linalg.solve(W_v, normal(6, 2) @ normal(2, 6))
    circuit = moving_circuit(("v", "o"), "copying", moved, W_v, W_o)
    assert float(circuit.spectrum[2]) < 1e-3 * float(circuit.spectrum[1])
    (V_v, U_v), (V_o, U_o) = circuit.cut(2)
    torch.testing.assert_close(moved @ V_v @ U_v @ V_o @ U_o, moved @ W_v @ W_o, rtol=1e-3, atol=1e-3)


def test_matching_circuit_does_not_see_what_all_keys_share() -> None:
    queries, keys, W_q, W_k = normal(80, 5), normal(90, 5), normal(5, 5), normal(5, 5)
    plain = matching_circuit(("q", "k"), "matching", queries, keys, W_q, W_k)
    shifted = matching_circuit(("q", "k"), "matching", queries, keys + normal(5), W_q, W_k)
    torch.testing.assert_close(plain.spectrum, shifted.spectrum, rtol=1e-3, atol=1e-3)
    (V_q, U_q), (V_k, U_k) = plain.cut(5)
    torch.testing.assert_close(queries @ V_q @ U_q @ (keys @ V_k @ U_k).T, queries @ W_q @ (keys @ W_k).T, rtol=1e-3, atol=1e-2)


def test_readers_tell_directions_apart() -> None:
    directions, rows = normal(8, 3), normal(300, 8)
    torch.testing.assert_close(directions.T @ readers(directions, rows), torch.eye(3), rtol=0, atol=1e-4)


def test_rank_is_where_the_spectrum_falls_most() -> None:
    assert steepest_fall(torch.tensor([5.0, 4.0, 3.0, 0.3, 0.2])) == (3, pytest.approx(10.0))
    assert steepest_fall(torch.tensor([5.0, 4.0, 1.0, 1e-6, 1e-12]))[0] == 3
    assert steepest_fall(torch.tensor([4.0, 3.0, 2.0]))[1] < 2

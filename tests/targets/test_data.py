from __future__ import annotations

import pytest
import torch

from unbraid.core.errors import UserError
from unbraid.targets.data import Batches, Drawn, SparseFeatures, as_data, bernoulli_positions, check_finite, move


def test_sparse_features_have_the_stated_probability_and_mean(generator: torch.Generator) -> None:
    x = SparseFeatures(10, 0.05).batch(0, 40_000, generator)
    on = x != 0
    assert float(on.float().mean()) == pytest.approx(0.05, rel=0.03)
    assert float(x[on].mean()) == pytest.approx(0.5, abs=0.01)
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1
    assert float(x.var(0).mean()) == pytest.approx(0.05 / 3 - 0.025**2, rel=0.05)


def test_sparse_features_of_both_signs(generator: torch.Generator) -> None:
    x = SparseFeatures(10, 0.5, low=-1, high=1).batch(0, 20_000, generator)
    values = x[x != 0]
    assert float((x != 0).float().mean()) == pytest.approx(0.5, rel=0.02)
    assert float(values.mean()) == pytest.approx(0, abs=0.01)
    assert float(values.std()) == pytest.approx(3**-0.5, rel=0.02)


def test_sparse_features_are_independent(generator: torch.Generator) -> None:
    on = (SparseFeatures(4, 0.3).batch(0, 50_000, generator) != 0).float()
    assert float((torch.corrcoef(on.T) - torch.eye(4)).abs().max()) < 0.02


def test_same_generator_same_batch() -> None:
    draw = [SparseFeatures(4, 0.3).batch(step, 5, torch.Generator().manual_seed(3)) for step in (0, 9)]
    assert torch.equal(*draw)


def test_batches_are_taken_in_order_and_again(generator: torch.Generator) -> None:
    data = Batches([torch.full((2,), float(index)) for index in range(3)])
    seen = [data.batch(step, 99, generator) for step in range(7)]
    assert [float(batch[0]) for batch in seen if isinstance(batch, torch.Tensor)] == [0, 1, 2, 0, 1, 2, 0]


def test_every_kind_of_source_is_accepted(generator: torch.Generator) -> None:
    features = SparseFeatures(3, 0.1)
    assert as_data(features) is features
    assert isinstance(as_data([torch.zeros(2)]), Batches)
    assert torch.equal(as_data(torch.ones(2, 3)).batch(5, 1, generator), torch.ones(2, 3))  # one tensor is one batch
    drawn = as_data(lambda size, generator: torch.rand(size, generator=generator))
    assert isinstance(drawn, Drawn)
    batch = drawn.batch(0, 4, generator)
    assert isinstance(batch, torch.Tensor)
    assert batch.shape == (4,)


def test_sources_that_are_none() -> None:
    with pytest.raises(UserError, match="The data is an empty sequence"):
        as_data([])
    with pytest.raises(UserError, match="The data is int"):
        as_data(3)


def test_nan_is_refused_in_every_packing() -> None:
    bad, good, tokens = torch.tensor([0.0, torch.nan]), torch.zeros(2), torch.zeros(2, dtype=torch.int64)
    for batch in (bad, {"a": good, "b": bad}, (tokens, bad)):
        with pytest.raises(UserError, match="The data holds NaN or infinity"):
            check_finite(batch)
    check_finite((tokens, good))


def test_move_keeps_the_packing() -> None:
    cpu = torch.device("cpu")
    assert isinstance(move((torch.zeros(1), torch.zeros(2)), cpu), tuple)
    assert set(move({"a": torch.zeros(1)}, cpu)) == {"a"}


@pytest.mark.parametrize("probability", [0.01, 0.3, 0.9, 1.0])
def test_positions_are_independent_trials(probability: float, generator: torch.Generator) -> None:
    hits = torch.zeros(200_000)
    positions = bernoulli_positions(len(hits), probability, generator)
    assert bool((positions.diff() > 0).all())
    hits[positions] = 1
    spread = (probability * (1 - probability) / len(hits)) ** 0.5
    assert float(hits.mean()) == pytest.approx(probability, abs=4 * spread + 1e-12)
    halves = hits.view(2, -1).mean(1)
    assert float((halves[0] - halves[1]).abs()) <= 8 * spread + 1e-12
    if probability < 1:
        assert abs(float(torch.corrcoef(torch.stack([hits[:-1], hits[1:]]))[0, 1])) < 0.01


def test_first_and_last_position_are_as_likely_as_the_others() -> None:
    generator = torch.Generator().manual_seed(1)
    hits = torch.zeros(5)
    for _ in range(4000):
        hits[bernoulli_positions(5, 0.2, generator)] += 1
    torch.testing.assert_close(hits / 4000, torch.full((5,), 0.2), rtol=0, atol=0.03)


@pytest.mark.parametrize("probability", [0.02, 0.7])
def test_distinct_inputs_are_the_batch_with_equal_rows_once(probability: float) -> None:
    data = SparseFeatures(5, probability)
    batch = data.batch(0, 200, torch.Generator().manual_seed(2))
    weighted = data.distinct(0, 200, torch.Generator().manual_seed(2))
    assert weighted.size == 200
    assert float(weighted.weights.sum()) == pytest.approx(1)
    assert len(weighted.inputs) == len(batch.unique(dim=0))
    for function in (torch.sin, torch.exp, torch.square):
        torch.testing.assert_close((weighted.weights[:, None] * function(weighted.inputs)).sum(0), function(batch).mean(0))

from __future__ import annotations

import pytest
import torch

from tests.models import mlp
from unbraid.core.errors import UserError
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.training import Training, prepare, set_learning_rates
from unbraid.targets.data import SparseFeatures
from unbraid.targets.target import Target

SMALL = {"steps": 40, "batch_size": 16, "components": 6, "warmup": {"steps": 5}, "log_every_steps": 10, "save_every_steps": 15}


@pytest.fixture
def sparse_target() -> Target:
    return Target(mlp(), sites="*", data=SparseFeatures(4, 0.5))


def small(**settings: object) -> DecomposeConfig:
    return DecomposeConfig.parse({**SMALL, **settings})


def watched(stop_after: int | None = None) -> tuple[Watch, dict[int, dict[str, float]], list[int]]:
    logged: dict[int, dict[str, float]] = {}
    saved: list[int] = []
    asked: list[int] = []

    def stopped() -> bool:
        asked.append(0)
        return stop_after is not None and len(asked) >= stop_after

    def log(step: int, metrics: dict[str, float]) -> None:
        logged[step] = metrics

    def save(training: Training) -> None:
        saved.append(training.step)

    return Watch(log, save, stopped), logged, saved


def run(target: Target, config: DecomposeConfig) -> tuple[Training, dict[int, dict[str, float]]]:
    training = prepare(target, config)
    watch, logged, _ = watched()
    assert train(training, target, config, watch)
    return training, logged


def test_logs_and_saves_when_it_says(sparse_target: Target) -> None:
    training = prepare(sparse_target, small())
    watch, logged, saved = watched()
    assert train(training, sparse_target, small(), watch)
    assert training.step == 40
    assert sorted(logged) == [10, 20, 30, 40]
    assert saved == [15, 30]
    assert {"train/loss", "train/stochastic", "train/minimality", "train/l0", "train/l0/0", "train/l0/2"} <= set(logged[40])


def test_total_is_the_weighted_sum(sparse_target: Target) -> None:
    config = small(steps=1, losses={"stochastic": {"coefficient": 2.0}, "minimality": {"coefficient": 0.25}})
    _, logged = run(sparse_target, config)
    assert logged[1]["train/loss"] == pytest.approx(2 * logged[1]["train/stochastic"] + 0.25 * logged[1]["train/minimality"])


def test_training_lowers_the_loss(sparse_target: Target) -> None:
    config = small(steps=200, losses={"stochastic": {}, "faithfulness": {}}, optimizer={"factors": {"learning_rate": 0.01}})
    _, logged = run(sparse_target, config)
    assert logged[200]["train/stochastic"] < 0.3 * logged[10]["train/stochastic"]
    assert logged[200]["train/faithfulness"] < 0.3 * logged[10]["train/faithfulness"]


def test_same_seed_same_bits(sparse_target: Target) -> None:
    config = small(
        steps=15, losses={"stochastic": {"routing": "subset"}, "persistent-adversarial": {}, "minimality": {"coefficient": 1e-3}}
    )
    torch.manual_seed(1)
    first, _ = run(sparse_target, config)
    torch.manual_seed(2)  # the global generator plays no part
    second, _ = run(sparse_target, config)
    other, _ = run(sparse_target, config.model_copy(update={"seed": 1}))
    for name, parameter in first.model.named_parameters():
        assert torch.equal(parameter, second.model.get_parameter(name))
        assert not torch.equal(parameter, other.model.get_parameter(name))


def test_a_loss_with_its_own_stream_does_not_shift_the_others(sparse_target: Target) -> None:
    plain, logged = run(sparse_target, small(steps=1, losses={"stochastic": {}}))
    beside, logged_beside = run(
        sparse_target, small(steps=1, losses={"stochastic": {}, "adversarial": {"coefficient": 0.0, "scope": "bsc"}})
    )
    assert logged[1]["train/stochastic"] == logged_beside[1]["train/stochastic"]
    for name, parameter in plain.model.named_parameters():
        torch.testing.assert_close(parameter, beside.model.get_parameter(name))


def test_stop_request_saves_and_ends(sparse_target: Target) -> None:
    training = prepare(sparse_target, small())
    watch, _, saved = watched(stop_after=7)
    assert not train(training, sparse_target, small(), watch)
    assert training.step == 7
    assert saved == [7]


def test_stopping_and_going_on_changes_nothing(sparse_target: Target) -> None:
    whole, _ = run(sparse_target, small())
    training = prepare(sparse_target, small())
    assert not train(training, sparse_target, small(), watched(stop_after=7)[0])
    assert train(training, sparse_target, small(), watched()[0])
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter, training.model.get_parameter(name))


def test_loss_that_leaves_the_numbers_stops_the_run(sparse_target: Target) -> None:
    config = small(optimizer={"factors": {"learning_rate": 1e30}})
    with pytest.raises(UserError, match="is no longer finite"):
        run(sparse_target, config)


def test_warm_up_makes_the_factors_more_faithful(sparse_target: Target) -> None:
    def left(warmup: int) -> float:
        config = small(steps=1, warmup={"steps": warmup}, optimizer={"factors": {"learning_rate": 1e-9}})
        training, _ = run(sparse_target, config)
        return sum(site.delta().square().sum().item() for site in training.model.sites.values())

    assert left(100) < 0.2 * left(0)


def test_clipping_and_schedule_reach_the_optimiser(sparse_target: Target) -> None:
    config = small(optimizer={"factors": {"learning_rate": 0.1, "final_share": 0.5, "clip": 1e-3}, "importance": {"schedule": "constant"}})
    training, _ = run(sparse_target, config)
    factors, importance = training.optimizer.param_groups
    assert 0.05 < factors["lr"] < 0.051  # cosine at step 39 of 40
    assert importance["lr"] == 1e-3
    norm = torch.cat([parameter.grad.flatten() for parameter in training.model.parameters() if parameter.grad is not None]).norm()
    assert norm.item() <= 1e-3 * 1.001


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_rate_grows_from_nothing_over_the_warm_up_of_either_schedule(sparse_target: Target, schedule: str) -> None:
    group = {"learning_rate": 0.1, "schedule": schedule, "final_share": 0.2, "warmup_share": 0.5}
    config = small(optimizer={"factors": group})
    training = prepare(sparse_target, config)
    rates: list[float] = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        set_learning_rates(training, config, progress)
        rates.append(training.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.1 if schedule == "constant" else 0.02])


def test_batch_size_plays_no_part_for_ready_batches() -> None:
    target = Target(mlp(), sites="*", data=[torch.randn(8, 4)])
    values = []
    for batch_size in (8, 500):
        config = small(steps=1, batch_size=batch_size, losses={"lp-minimality": {"beta": 0.5}})
        values.append(run(target, config)[1][1]["train/lp-minimality"])
    assert values[0] == pytest.approx(values[1])

"""One pass for two losses: with the draws fixed, each example has the distance that the loss it meets gives it."""

from __future__ import annotations

import pytest
import torch

from benchmarks.small_language_model import WINDOW, small_config, small_target
from unbraid.core.errors import UserError
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.step import Step, importances_of
from unbraid.decompose.training import Training, each_loss, prepare
from unbraid.targets.data import as_data
from unbraid.targets.target import Target

WINDOWS = torch.randint(40, (6, WINDOW), generator=torch.Generator().manual_seed(4))


def small(**changes: object) -> tuple[Target, DecomposeConfig]:
    target = small_target(d=8, n_layers=1, n_heads=2, d_mlp=12, vocabulary=40)
    target.data = as_data([WINDOWS])
    merged = {"coefficient": 0.5, "scope": "bsc", "ascent_steps": 1, **changes}
    losses = {"merged": merged, "persistent-adversarial": None, "stochastic": None, "minimality": {"coefficient": 1e-4}, "faithfulness": {}}
    return target, small_config({"kind": "global-mlp", "hidden": 8}, batch_size=6, components=4, losses=losses, log_every_steps=1)


def step_of(training: Training, target: Target) -> Step:
    clean = training.model.clean(WINDOWS)
    importances = importances_of(training.model, training.function, clean)
    return Step(training.model, clean, importances, target.behaviour, 0.5, training.streams)


@pytest.mark.parametrize("scope", ["bsc", "bc"])
@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9], ids=["all random", "all adversarial"])
def test_at_its_ends_it_is_one_of_the_two(scope: str, share: float) -> None:
    target, config = small(scope=scope, adversarial_share=share, ascent_steps=0)
    training = prepare(target, config)
    loss = dict(each_loss(training))["merged"]
    found = float(loss(step_of(training, target)).detach())
    kind = (
        {"kind": "stochastic", "routing": "subset"}
        if share < 0.5
        else {"kind": "persistent-adversarial", "scope": scope, "ascent_steps": 0}
    )
    alone = DecomposeConfig.parse({**config.model_dump(), "losses": {"alone": kind}})
    other = prepare(target, alone)
    expected = float(dict(each_loss(other))["alone"](step_of(other, target)).detach())
    assert found == pytest.approx(expected, rel=1e-5)


def test_only_those_that_met_the_adversary_move_last() -> None:
    target, config = small(ascent_steps=0, learning_rate=0.1, warmup_share=0.0, adversarial_share=0.5)
    training = prepare(target, config)
    loss, step = dict(each_loss(training))["merged"], step_of(training, target)
    value = loss(step)
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    (0.5 * value).backward()
    loss.after_backward(step)
    met = loss.moved()  # type: ignore[operator]
    assert 0 < int(met.sum()) < 6
    for name, tensor in loss.state_dict().items():
        if name.startswith("sources"):
            moved = (tensor - before[name]).abs().flatten(1).amax(1) > 1e-3
            assert torch.equal(moved, met)


def test_early_ascents_make_it_worse() -> None:
    lost: dict[int, float] = {}
    for steps in (0, 6):
        target, config = small(ascent_steps=steps, learning_rate=0.2, warmup_share=0.0, adversarial_share=1 - 1e-9)
        training = prepare(target, config)
        lost[steps] = float(dict(each_loss(training))["merged"](step_of(training, target)).detach())
    assert lost[6] > 1.05 * lost[0]


@pytest.mark.parametrize("more", [{}, {"scope": "bc", "pool": 3}, {"scope": "bc", "pool": 3, "stored": "bf16"}], ids=str)
def test_it_trains_in_parts_too(more: dict[str, object]) -> None:
    target, config = small(**more)
    config = config.model_copy(update={"accumulate": 2})
    target.data = as_data(list(WINDOWS.chunk(2)))
    training = prepare(target, config)
    assert train(training, target, config, Watch(lambda step, metrics: None, lambda state: None, lambda: False), until=2)
    assert int(training.losses.state_dict()["merged.updates"]) == 4


def test_of_a_pool_only_the_particles_that_were_met_move_last() -> None:
    target, config = small(scope="bc", pool=3, ascent_steps=0, learning_rate=0.1, warmup_share=0.0, adversarial_share=0.5)
    training = prepare(target, config)
    loss, step = dict(each_loss(training))["merged"], step_of(training, target)
    value = loss(step)
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    (0.5 * value).backward()
    loss.after_backward(step)
    met = loss.moved()  # type: ignore[operator]
    assert 0 < int(met.sum()) < 6
    for name, tensor in loss.state_dict().items():
        if name.startswith("sources"):
            moved = (tensor - before[name]).abs().flatten(2).amax(2) > 1e-3  # [example, particle]
            assert torch.equal(moved.sum(1), met.long())


def test_a_pool_is_of_vectors_per_example() -> None:
    target, config = small(pool=4)
    with pytest.raises(UserError, match=r"'merged' was given pool=4 and scope=bsc.*Set scope=bc, or pool=1"):
        prepare(target, config)


def test_examples_must_have_sources_of_their_own() -> None:
    target, config = small(scope="c")
    with pytest.raises(UserError, match="'merged' was given scope=c"):
        prepare(target, config)

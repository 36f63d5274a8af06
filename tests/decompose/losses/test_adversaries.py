from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.models import decomposed, step_for
from unbraid.core.errors import UserError
from unbraid.decompose.adversary import Scope, as_sources, random_sources
from unbraid.decompose.losses.persistent_adversarial import PersistentAdversarial
from unbraid.decompose.masks import masks_from
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.step import Step, losses
from unbraid.targets.target import Target

scopes = pytest.mark.parametrize("scope", ["c", "bc", "sc", "bsc"])


def persistent(model: DecomposedModel, **settings: object) -> PersistentAdversarial:
    loss = losses.parse({"kind": "persistent-adversarial", **settings}).build(model)
    assert isinstance(loss, PersistentAdversarial)
    return loss


def sources_of(loss: PersistentAdversarial) -> list[Tensor]:
    return [tensor for name, tensor in loss.state_dict().items() if name.startswith("sources_")]


def train_step(loss: PersistentAdversarial, step: Step) -> float:
    value = loss(step)
    (loss.config.weight(step.progress) * value).backward()
    loss.after_backward(step)
    return value.item()


@scopes
def test_fresh_adversary_is_worse_than_chance(target: Target, scope: Scope) -> None:
    model, _ = decomposed(target)
    loss = losses.parse({"kind": "adversarial", "scope": scope, "ascent_steps": 20, "step_size": 0.1}).build(model)
    step = step_for(target, model)
    random = torch.Generator().manual_seed(1)
    fixed = {path: g.detach() for path, g in step.importances.lower.items()}
    chance = [step.distance(masks_from(fixed, as_sources(random_sources(fixed, scope, random), fixed))).item() for _ in range(20)]
    assert loss(step).item() > max(chance)


@scopes
@pytest.mark.parametrize("lead", [(8,), (4, 3)])
def test_persistent_sources_have_their_scope_and_stay_in_bounds(target: Target, scope: Scope, lead: tuple[int, ...]) -> None:
    model, _ = decomposed(target)
    loss = persistent(model, scope=scope, learning_rate=0.3)
    x = torch.randn(*lead, 4)
    for seed in range(8):
        train_step(loss, step_for(target, model, x=x, progress=0.5, seed=seed))
        for sources in sources_of(loss):
            assert float(sources.min()) >= 0
            assert float(sources.max()) <= 1
    shape = sources_of(loss)[0].shape
    assert (shape[0] == lead[0]) is (scope in ("bc", "bsc"))
    assert shape[-1] == 8
    if len(lead) > 1:
        assert (shape[1] == lead[1]) is (scope in ("sc", "bsc"))


@scopes
def test_persistent_adversary_learns_to_hurt(target: Target, scope: Scope) -> None:
    model, _ = decomposed(target)
    loss = persistent(model, scope=scope, learning_rate=0.05)
    values = [train_step(loss, step_for(target, model, progress=0.5)) for _ in range(30)]  # the same batch and importances each time
    assert values[-1] > 1.2 * values[0]


def test_each_step_makes_the_early_updates_and_one_more(target: Target) -> None:
    model, _ = decomposed(target)
    loss = persistent(model, ascent_steps=2)
    step = step_for(target, model, progress=0.5)
    loss(step).backward()
    assert int(loss.get_buffer("updates")) == 2
    loss.after_backward(step)
    assert int(loss.get_buffer("updates")) == 3


def test_coefficient_does_not_change_the_adversary(target: Target) -> None:
    model, _ = decomposed(target)
    moved: list[Tensor] = []
    for coefficient in (1.0, 0.01):
        loss = persistent(model, coefficient=coefficient)
        train_step(loss, step_for(target, model, progress=0.5))
        moved.append(sources_of(loss)[0])
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-4, atol=1e-5)


def test_evaluation_does_not_move_the_sources(target: Target) -> None:
    model, _ = decomposed(target)
    loss = persistent(model)
    step = step_for(target, model, progress=0.5)
    train_step(loss, step)
    before = [sources.clone() for sources in sources_of(loss)]
    with torch.no_grad():
        loss(step)
    for old, new in zip(before, sources_of(loss), strict=True):
        assert torch.equal(old, new)


def test_rate_grows_from_zero(target: Target) -> None:
    model, _ = decomposed(target)
    loss = persistent(model)
    step = step_for(target, model, progress=0.0)
    with torch.no_grad():
        loss(step)
    before = sources_of(loss)[0].clone()
    train_step(loss, step)
    assert torch.equal(sources_of(loss)[0], before)


def test_saved_adversary_goes_on_to_the_same_bits(target: Target) -> None:
    model, _ = decomposed(target)
    first, second = persistent(model), persistent(model)
    for seed in range(3):
        train_step(first, step_for(target, model, progress=0.5, seed=seed))
    second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    for seed in range(3, 6):
        values = [train_step(loss, step_for(target, model, progress=0.5, seed=seed)) for loss in (first, second)]
        assert values[0] == values[1]
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_fresh_state_round_trip(target: Target) -> None:
    model, _ = decomposed(target)
    persistent(model).load_state_dict(persistent(model).state_dict())


def test_another_batch_size_is_refused(target: Target) -> None:
    model, _ = decomposed(target)
    loss = persistent(model)
    loss(step_for(target, model))
    with pytest.raises(UserError, match="has 8 slots, but this batch has 5 examples"):
        loss(step_for(target, model, x=torch.randn(5, 4)))
    shared = persistent(model, scope="c")
    shared(step_for(target, model))
    shared(step_for(target, model, x=torch.randn(5, 4)))

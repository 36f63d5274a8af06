from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.models import decomposed, step_for
from unbraid.core.errors import UserError
from unbraid.decompose.adversary import Scope, as_sources, random_sources
from unbraid.decompose.config import DecomposeConfig
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


@pytest.mark.parametrize("settings", [{}, {"scope": "bc", "pool": 3}], ids=["one", "pool"])
def test_saved_adversary_goes_on_to_the_same_bits(target: Target, settings: dict[str, object]) -> None:
    model, _ = decomposed(target)
    first, second = persistent(model, **settings), persistent(model, **settings)
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


def drawn_by(loss: PersistentAdversarial) -> tuple[Tensor, Tensor]:
    assert loss._drawn is not None
    return loss._drawn


@pytest.mark.parametrize("lead", [(8,), (4, 3)])
def test_each_example_meets_one_particle_of_its_pool_at_all_sites(target: Target, lead: tuple[int, ...]) -> None:
    model, _ = decomposed(target)
    loss = persistent(model, scope="bc", pool=3, ascent_steps=0)
    step = step_for(target, model, x=torch.randn(*lead, 4), progress=0.5)
    value = loss(step)
    rows, which = drawn_by(loss)
    assert rows.tolist() == list(range(lead[0]))
    assert sources_of(loss)[0].shape == (lead[0], 3, *[1] * (len(lead) - 1), 8)
    fixed = {path: g.detach() for path, g in step.importances.lower.items()}

    def expected(chosen: Tensor) -> float:
        met = {path: value[rows, chosen] for path, value in zip(loss.paths, sources_of(loss), strict=True)}
        return step.distance(masks_from(fixed, as_sources(met, fixed))).item()

    assert value.item() == pytest.approx(expected(which), rel=1e-6)
    assert value.item() != pytest.approx(expected((which + 1) % 3), rel=1e-3)


def test_only_what_is_drawn_moves_and_all_are_drawn_in_time(target: Target) -> None:
    model, _ = decomposed(target)
    loss = persistent(model, scope="bc", pool=3, learning_rate=0.05, warmup_share=0.0)
    train_step(loss, step_for(target, model, progress=0.5))
    seen = torch.zeros(8, 3, dtype=torch.bool)
    for seed in range(20):
        before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
        train_step(loss, step_for(target, model, progress=0.5, seed=seed))
        rows, which = drawn_by(loss)
        still = torch.ones(8, 3, dtype=torch.bool)
        still[rows, which] = False
        for name, tensor in loss.state_dict().items():
            if "_" in name:
                assert torch.equal(tensor[still], before[name][still]), name
                assert not torch.equal(tensor[~still], before[name][~still]), name
        seen |= ~still
    assert bool(seen.all())


def test_a_pool_of_which_one_is_always_drawn_is_no_pool(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = decomposed(target)
    pool, alone = persistent(model, scope="bc", pool=3), persistent(model, scope="bc")
    monkeypatch.setattr(pool, "_draw", lambda step, importance: (torch.arange(8), torch.full((8,), 2)))
    with torch.no_grad():
        for loss in (pool, alone):
            loss(step_for(target, model, progress=0.5))
    for index, value in enumerate(sources_of(pool)):
        setattr(alone, f"sources_{index}", value[:, 2].clone())
    for seed in range(4):
        values = [train_step(loss, step_for(target, model, progress=0.5, seed=seed)) for loss in (pool, alone)]
        assert values[0] == values[1]
    for name, tensor in alone.state_dict().items():
        other = pool.state_dict()[name]
        assert torch.equal(tensor, other[:, 2] if "_" in name else other), name


def test_a_pool_learns_to_hurt_whichever_is_drawn(target: Target) -> None:
    model, _ = decomposed(target)
    loss = persistent(model, scope="bc", pool=3, learning_rate=0.05)
    values = [train_step(loss, step_for(target, model, progress=0.5, seed=seed, x=torch.ones(8, 4))) for seed in range(90)]
    assert min(values[-10:]) > 1.2 * values[0]


def test_a_pool_draws_in_an_evaluation_and_does_not_move(target: Target) -> None:
    model, _ = decomposed(target)
    loss = persistent(model, scope="bc", pool=3)
    step = step_for(target, model, progress=0.5)
    train_step(loss, step)
    before = [sources.clone() for sources in sources_of(loss)]
    with torch.no_grad():
        assert len({loss(step).item() for _ in range(8)}) > 1
    for old, new in zip(before, sources_of(loss), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize("scope", ["c", "sc", "nsc", "bsc"])
def test_a_pool_in_another_scope_is_refused(target: Target, scope: str) -> None:
    model, _ = decomposed(target)
    with pytest.raises(UserError, match=f"'persistent-adversarial' was given pool=2 and scope={scope}, .* Set scope=bc, or pool=1."):
        persistent(model, scope=scope, pool=2)
    persistent(model, scope=scope, pool=1)


def test_a_pool_of_none_is_refused() -> None:
    with pytest.raises(UserError, match="'pool' was given 0: Input should be greater than 0"):
        DecomposeConfig.parse({"losses": {"persistent-adversarial": {"scope": "bc", "pool": 0}}})


def test_a_pool_needs_sites_that_see_the_same_examples(target: Target) -> None:
    model, _ = decomposed(target)
    loss = persistent(model, scope="bc", pool=2)
    step = step_for(target, model)
    first = loss.paths[0]
    step.importances.lower[first] = torch.cat([step.importances.lower[first]] * 2)
    with pytest.raises(UserError, match=f"An example meets one particle at all sites, but '{first}' reads 16 inputs"):
        loss(step)


def test_another_batch_size_is_refused(target: Target) -> None:
    model, _ = decomposed(target)
    loss = persistent(model)
    loss(step_for(target, model))
    with pytest.raises(UserError, match="has 8 slots, but this batch has 5 examples"):
        loss(step_for(target, model, x=torch.randn(5, 4)))
    shared = persistent(model, scope="c")
    shared(step_for(target, model))
    shared(step_for(target, model, x=torch.randn(5, 4)))

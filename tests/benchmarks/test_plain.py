"""The plain step and the engine's are the same maths: from the same factors, inputs and draws come the same losses and gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import plain
from benchmarks.plain import PlainTraining
from unbraid.core.ranks import Share
from unbraid.core.seeds import Streams
from unbraid.decompose import masks as masks_module
from unbraid.decompose import step as step_module
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.losses.stochastic import StochasticConfig
from unbraid.decompose.masks import Source
from unbraid.decompose.preset import resolve
from unbraid.decompose.training import Training, prepare
from unbraid.targets.data import SparseFeatures
from unbraid.targets.target import Target
from unbraid.targets.toy import load_target


@dataclass
class Draws:
    """Stands for torch in a module: what it draws at random comes from a list, everything else from torch."""

    given: list[Tensor]
    taken: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def _next(self, shape: tuple[int, ...]) -> Tensor:
        value = self.given[self.taken]
        self.taken += 1
        assert value.shape == shape
        return value

    def rand(self, *shape: Any, **_: Any) -> Tensor:
        return self._next(tuple(shape[0]) if isinstance(shape[0], tuple) else shape)

    def randint(self, low: int, high: int, shape: tuple[int, ...], **_: Any) -> Tensor:
        return self._next(tuple(shape))


@dataclass(frozen=True)
class Fixed:
    """One step's inputs and draws: per distinct input, as the engine sees them, and spread over the batch, as the plain step does."""

    target: Target
    config: DecomposeConfig
    index: int
    batch: Tensor = field(init=False)
    spread: Tensor = field(init=False)
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        data = self.target.data
        assert isinstance(data, SparseFeatures)
        batch = data.batch(self.index, self.config.batch_size, Streams(self.config.seed)["data"])
        told = (batch != 0).any(1)
        object.__setattr__(self, "batch", batch)
        object.__setattr__(self, "spread", torch.where(told, told.cumsum(0), 0))
        object.__setattr__(self, "rows", int(told.sum()) + 1)

    @property
    def routed(self) -> bool:
        """Whether the step draws a subset of the sites."""
        loss = self.config.losses["stochastic"]
        assert isinstance(loss, StochasticConfig)
        return loss.routing == "subset"

    def drawn(self) -> tuple[list[Tensor], dict[str, Source]]:
        """Return what routing draws (sizes and ranks, where it draws any) and the sources, by distinct input."""
        generator, n = torch.Generator().manual_seed(9), len(self.target.sites)
        sizes = torch.randint(1, n + 1, (self.rows,), generator=generator)
        ranks = torch.rand(n, self.rows, generator=generator)
        sources = {
            path: Source(torch.rand(self.rows, width, generator=generator), torch.rand(self.rows, generator=generator))
            for path, width in prepare(self.target, self.config).model.C.items()
        }
        return [sizes, ranks] if self.routed else [], sources


def engine_step(fixed: Fixed, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, float], Training]:
    routing, sources = fixed.drawn()
    draws = Draws(routing)

    def given(
        importance: Mapping[str, Tensor], generator: torch.Generator, sampling: str = "continuous", share: Share | None = None
    ) -> dict[str, Source]:
        assert {path: g.shape for path, g in importance.items()} == {path: source.component.shape for path, source in sources.items()}
        return sources

    training, logged = prepare(fixed.target, fixed.config), dict[int, dict[str, float]]()
    training.step = fixed.index
    with monkeypatch.context() as patch:
        patch.setattr(step_module, "draw_sources", given)
        patch.setattr(masks_module, "torch", draws)
        watch = Watch(logged.__setitem__, lambda state: None, lambda: True)
        train(training, fixed.target, fixed.config, watch)
    assert draws.taken == len(routing)
    return logged[fixed.index + 1], training


def plain_step(fixed: Fixed, monkeypatch: pytest.MonkeyPatch) -> tuple[float, PlainTraining]:
    routing, sources = fixed.drawn()
    given = [draw[..., fixed.spread] for draw in routing]
    for source in sources.values():
        given += [source.component[fixed.spread], source.delta[fixed.spread][:, None]]
    draws, training = Draws(given), PlainTraining(fixed.target, fixed.config)
    with monkeypatch.context() as patch:
        patch.setattr(plain, "torch", draws)
        patch.setattr(plain, "_plain_batch", lambda data, size, generator: fixed.batch)
        loss = training.step(fixed.index)
    assert draws.taken == len(given)
    return loss, training


def fixed_for(name: str, index: int, *overrides: str) -> Fixed:
    config = resolve(name, overrides=["warmup.steps=0", "log_every_steps=1", "prune=null", "batch_size=256", *overrides])
    return Fixed(load_target(name), config, index)


TOYS = ("tms-5-2", "tms-5-2-id", "residual-mlp-1")


@pytest.mark.parametrize("index", [0, 1300, 2400], ids=["start", "middle", "end"])
@pytest.mark.parametrize("name", TOYS)
def test_losses_and_gradients_are_equal(name: str, index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = fixed_for(name, index)
    assert fixed.rows < 0.99 * len(fixed.batch)  # so that sharing equal inputs is a part of what is compared
    logged, engine = engine_step(fixed, monkeypatch)
    loss, plainly = plain_step(fixed, monkeypatch)
    assert loss == pytest.approx(logged["train/loss"], rel=1e-5)
    for module, other in ((engine.model, plainly.model), (engine.function, plainly.function)):
        for key, parameter in module.named_parameters():
            expected = other.get_parameter(key).grad
            assert parameter.grad is not None, key
            assert expected is not None, key
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()), msg=key)


@pytest.mark.parametrize("name", TOYS)
def test_every_loss_of_the_recipe_is_equal_by_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fixed_for(name, 1300)
    logged, _ = engine_step(whole, monkeypatch)
    assert {"stochastic", "minimality"} <= set(whole.config.losses)
    for key in whole.config.losses:
        coefficients = [f"losses.{other}.coefficient={1.0 if other == key else 0.0}" for other in whole.config.losses]
        undecayed = [f"losses.{other}.decay=null" for other in whole.config.losses]
        loss, _ = plain_step(fixed_for(name, 1300, *coefficients, *undecayed), monkeypatch)
        assert loss == pytest.approx(logged[f"train/{key}"], rel=1e-5), key


@pytest.mark.parametrize("routing", ["all", "layerwise", "subset"])
def test_every_routing_is_equal(routing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = fixed_for("tms-5-2-id", 5, f"losses.stochastic.routing={routing}", "losses.minimality=null", "losses.simplicity=null")
    logged, _ = engine_step(fixed, monkeypatch)
    assert plain_step(fixed, monkeypatch)[0] == pytest.approx(logged["train/loss"], rel=1e-5)


@pytest.mark.parametrize("name", TOYS)
def test_rates_and_starting_values_are_equal(name: str) -> None:
    config = resolve(name)
    engine, plainly = prepare(load_target(name), config), PlainTraining(load_target(name), config)
    for key, parameter in engine.model.named_parameters():
        assert torch.equal(parameter, plainly.model.get_parameter(key)), key
    for key, parameter in engine.function.named_parameters():
        assert torch.equal(parameter, plainly.function.get_parameter(key)), key
    for one, other in zip(engine.optimizer.param_groups, plainly.optimizer.param_groups, strict=True):
        assert {key: one[key] for key in ("lr", "eps", "betas", "weight_decay")} == {
            key: other[key] for key in ("lr", "eps", "betas", "weight_decay")
        }


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_plain_inputs_have_the_same_distribution(low: float, generator: torch.Generator) -> None:
    data = SparseFeatures(10, 0.05, low=low)
    values = [draw[draw != 0] for draw in (plain._plain_batch(data, 20_000, generator), data.batch(0, 20_000, generator))]
    for statistic in (len, torch.mean, torch.std, torch.min, torch.max):
        assert float(statistic(values[0])) == pytest.approx(float(statistic(values[1])), rel=0.03, abs=0.02)

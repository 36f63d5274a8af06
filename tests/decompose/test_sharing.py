"""What is computed once may not be seen in any number: equal inputs that stand once, and the clean pass that masked ones reuse."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from tests.models import decomposed, mlp, tied_pair
from unbraid.core.seeds import Streams
from unbraid.decompose import step as step_module
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.importance_function import ImportanceFunction
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.masks import Mask, Source
from unbraid.decompose.model import Clean, DecomposedModel
from unbraid.decompose.site import Remembered
from unbraid.decompose.step import Step, importances_of, losses
from unbraid.decompose.training import prepare, sample
from unbraid.targets.data import SharesEqual, SparseFeatures, draw
from unbraid.targets.target import Target
from unbraid.targets.toy_kit.residual_mlp import ResidualMLPModule

FEATURES = SparseFeatures(4, 0.15)


def generator_at(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def sparse_target() -> Target:
    return Target(mlp(), sites="*", data=FEATURES)


@dataclass(frozen=True)
class EveryInput:
    """The same inputs from a source that does not know how to share."""

    inner: SparseFeatures

    def batch(self, step: int, size: int, generator: torch.Generator) -> Tensor:
        return self.inner.batch(step, size, generator)


@pytest.mark.parametrize("probability", [0.0, 0.02, 0.3])
def test_distinct_inputs_are_the_rows_of_the_batch_in_order(probability: float) -> None:
    data, generators = SparseFeatures(5, probability, low=-1.0), (generator_at(3), generator_at(3))
    batch, weighted = data.batch(0, 200, generators[0]), data.distinct(0, 200, generators[1])
    told = batch[(batch != 0).any(1)]
    assert torch.equal(weighted.inputs[0], torch.zeros(5))
    assert torch.equal(weighted.inputs[1:], told)
    torch.testing.assert_close(weighted.weights[1:], torch.full((len(told),), 1 / 200))
    assert float(weighted.weights[0]) == pytest.approx(1 - len(told) / 200)
    assert float(weighted.weights.sum()) == pytest.approx(1)
    assert weighted.size == 200
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


def test_batch_without_equal_inputs_stays_as_it_is() -> None:
    data = SparseFeatures(5, 1.0)
    weighted = data.distinct(0, 20, generator_at())
    assert torch.equal(weighted.inputs, data.batch(0, 20, generator_at()))
    torch.testing.assert_close(weighted.weights, torch.full((20,), 1 / 20))


def test_only_a_source_that_shares_is_asked_to() -> None:
    assert isinstance(FEATURES, SharesEqual)
    assert not isinstance(EveryInput(FEATURES), SharesEqual)
    _, weights, size = draw(EveryInput(FEATURES), 0, 50, generator_at())
    assert (weights, size) == (None, None)
    batch, weights, size = draw(FEATURES, 0, 50, generator_at(), every_input=True)
    assert (weights, size) == (None, None)
    assert isinstance(batch, Tensor)
    assert torch.equal(batch, FEATURES.batch(0, 50, generator_at()))


def constant_sources(
    importance: Mapping[str, Tensor], generator: torch.Generator, sampling: str = "continuous", share: object = None
) -> dict[str, Source]:
    return {path: Source(torch.full_like(g, 0.3), torch.full_like(g[..., 0], 0.6)) for path, g in importance.items()}


def step_on(target: Target, model: DecomposedModel, function: ImportanceFunction, every_input: bool) -> Step:
    batch, weights, size = draw(target.data, 0, 64, generator_at(), every_input)
    clean = model.clean(batch)
    return Step(model, clean, importances_of(model, function, clean), target.behaviour, 0.4, Streams(0), weights, size)


SHARED = {
    "stochastic": {"kind": "stochastic"},
    "stochastic, layerwise": {"kind": "stochastic", "routing": "layerwise"},
    "stochastic without Δ": {"kind": "stochastic", "delta": False},
    "minimality": {"kind": "minimality", "normalized": True},
    "minimality, running": {"kind": "minimality", "frequency": {"half_life_steps": 3}},
    "lp-minimality": {"kind": "lp-minimality", "p_start": 0.7, "beta": 0.5},
    "simplicity": {"kind": "simplicity"},
    "simplicity, active": {"kind": "simplicity", "active": True, "per_weight": True},
    "faithfulness": {"kind": "faithfulness"},
    "importance-masked": {"kind": "importance-masked"},
    "unmasked": {"kind": "unmasked"},
    "adversarial, one choice": {"kind": "adversarial", "scope": "c"},
}


@pytest.mark.parametrize("behaviour", ["mse", "kl"])
@pytest.mark.parametrize("settings", SHARED.values(), ids=SHARED)
def test_losses_and_gradients_on_distinct_inputs_are_those_on_the_batch(
    sparse_target: Target, settings: dict[str, object], behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_module, "draw_sources", constant_sources)
    target = Target(sparse_target.module, sites="*", data=FEATURES, behaviour="kl" if behaviour == "kl" else "mse")
    model, function = decomposed(target)
    parameters = [*model.parameters(), *function.parameters()]
    values, grads = [], []
    for every_input in (True, False):
        step = step_on(target, model, function, every_input)
        assert (step.weights is None) is every_input
        assert step.positions == 64
        value = losses.parse(settings).build(model)(step)
        values.append(value.detach())
        grads.append(torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True))
    torch.testing.assert_close(values[0], values[1], rtol=1e-5, atol=1e-7)
    assert float(values[0]) > 0
    assert any(bool((grad != 0).any()) for grad in grads[0])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_batch_of_these_tests_has_equal_inputs(sparse_target: Target) -> None:
    model, function = decomposed(sparse_target)
    rows = [len(step_on(sparse_target, model, function, every).clean.output) for every in (True, False)]
    assert rows[0] == 64
    assert 10 < rows[1] < 50


def test_a_whole_run_logs_the_same_numbers(sparse_target: Target) -> None:
    config = DecomposeConfig.parse(
        {
            "steps": 12,
            "batch_size": 64,
            "components": 6,
            "log_every_steps": 1,
            "losses": {"importance-masked": {}, "minimality": {}, "lp-minimality": {"beta": 0.5}, "simplicity": {"coefficient": 1e-3}},
        }
    )
    logged: list[dict[int, dict[str, float]]] = []
    for data in (FEATURES, EveryInput(FEATURES)):
        rows: dict[int, dict[str, float]] = {}
        target = Target(sparse_target.module, sites="*", data=data)
        train(prepare(target, config), target, config, Watch(rows.__setitem__, lambda state: None, lambda: False))
        logged.append(rows)
    assert {"train/l0", "train/l0/0", "train/l0/2", "train/loss"} <= set(logged[0][12])
    for step in (1, 2, 12):
        assert logged[0][step] == pytest.approx(logged[1][step], rel=1e-3)
    assert logged[0][1]["train/l0"] > 0.5


@pytest.mark.parametrize(("extra", "every_input"), [({}, False), ({"persistent-adversarial": {}}, True), ({"adversarial": {}}, False)])
def test_loss_that_keeps_something_per_input_gets_the_whole_batch(
    sparse_target: Target, extra: dict[str, object], every_input: bool
) -> None:
    config = DecomposeConfig.parse({"batch_size": 64, "components": 6, "losses": {"stochastic": {}, **extra}})
    training = prepare(sparse_target, config)
    batch, weights, size = sample(training, sparse_target, config)
    assert isinstance(batch, Tensor)
    if every_input:
        assert (len(batch), weights, size) == (64, None, None)
    else:
        assert weights is not None
        assert len(batch) == len(weights) < 64
        assert size == 64


# From here on: the clean pass. Each model is compared with a copy that has `V diag(m) U + m_Δ Δ` as its weight.


class Positions(nn.Module):
    """Adds positions to a remembered embedding, in a new tensor or in place."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.embed, self.positions, self.layer = nn.Linear(4, 5), nn.Parameter(torch.randn(5)), nn.Linear(5, 3)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        if self.in_place:
            h += self.positions
        else:
            h = h + self.positions
        return self.layer(h)


class Adding(nn.Module):
    """Adds the stream to a site's output, in a new tensor or in place; the site has a bias or none."""

    def __init__(self, in_place: bool, bias: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4, bias=bias), nn.Linear(4, 3)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        if self.in_place:
            h += x
        else:
            h = h + x
        return self.second(h)


class Overwriting(nn.Module):
    """Changes a tensor between two sites that read it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(x)
        y = self.first(h)
        h.mul_(2)
        return y + self.second(h)


def residual() -> nn.Module:
    return ResidualMLPModule(n_features=4, d_model=7, d_mlp=5, n_layers=2)


MODELS: dict[str, tuple[Callable[[], nn.Module], str | tuple[str, ...]]] = {
    "mlp": (mlp, "*"),
    "tied": (lambda: tied_pair(d=4, hidden=3), ("down", "up")),
    "residual": (residual, ("blocks.*.mlp_*",)),
    "residual, everything": (residual, "*"),
    "residual, second block": (residual, ("blocks.1.*",)),
    "no bias": (lambda: nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3)), "*"),
    "norm": (lambda: nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 6), nn.GELU(), nn.LayerNorm(6), nn.Linear(6, 3)), ("1", "4")),
    "positions": (lambda: Positions(in_place=False), "layer"),
    "adding": (lambda: Adding(in_place=False, bias=True), "*"),
    "in place: input of a site": (Overwriting, "*"),
    "in place: remembered output": (lambda: Positions(in_place=True), "layer"),
    "in place: output of a site": (lambda: Adding(in_place=True, bias=True), "*"),
    "in place: output of a site without bias": (lambda: Adding(in_place=True, bias=False), "*"),
    "in place: nonlinearity": (lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)), "*"),
    "in place: nonlinearity, no bias": (
        lambda: nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(inplace=True), nn.Linear(6, 3)),
        "*",
    ),
}
every_model = pytest.mark.parametrize(("build", "sites"), MODELS.values(), ids=MODELS)
every_choice = pytest.mark.parametrize("masked", ["all", "first", "last", "none"])


def chosen(model: DecomposedModel, masked: str, delta: bool, rows: int) -> dict[str, tuple[Tensor, float | None, Mask]]:
    """One mask for all rows per masked site, as numbers and spread over the rows."""
    paths = {"all": list(model.sites), "first": list(model.sites)[:1], "last": list(model.sites)[-1:], "none": []}[masked]
    result: dict[str, tuple[Tensor, float | None, Mask]] = {}
    for path in paths:
        component, kept = torch.rand(model.C[path]), float(torch.rand(())) if delta else None
        spread = Mask(component.expand(rows, -1), None if kept is None else torch.full((rows,), kept))
        result[path] = (component, kept, spread)
    return result


def dense(model: DecomposedModel, module: nn.Module, masks: Mapping[str, tuple[Tensor, float | None, Mask]], x: Tensor) -> Tensor:
    """Run a copy of the module with explicit weights in it."""
    plain = copy.deepcopy(module)
    with torch.no_grad():
        for path, (component, kept, _) in masks.items():
            site = model.sites[path]
            V, U = site.factors.views()
            weight = V @ torch.diag(component) @ U
            if kept is not None:
                weight = weight + kept * site.delta()
            plain.get_parameter(f"{path}.weight").copy_(weight.T)
        return plain(x)


def without_memory(clean: Clean) -> Clean:
    """The same pass with nothing of it to be reused."""
    return replace(clean, sites={})


@every_choice
@pytest.mark.parametrize("delta", [True, False], ids=["with Δ", "without Δ"])
@every_model
def test_masked_pass_is_the_dense_model_whether_or_not_the_clean_one_is_shared(
    build: Callable[[], nn.Module], sites: str | tuple[str, ...], delta: bool, masked: str
) -> None:
    module, x = build(), torch.randn(6, 4)
    model, _ = decomposed(Target(module, sites=sites, data=[torch.randn(8, 4)]))
    masks = chosen(model, masked, delta, len(x))
    expected, spread = dense(model, module, masks, x), {path: mask for path, (_, _, mask) in masks.items()}
    torch.testing.assert_close(model.masked(without_memory(model.clean(x)), spread), expected)
    clean = model.clean(x)
    torch.testing.assert_close(clean.output, dense(model, module, {}, x))
    torch.testing.assert_close(model.masked(clean, spread), expected)
    torch.testing.assert_close(model.masked(clean, spread), expected)  # the second pass finds what the first one left


@pytest.mark.parametrize("shared", [True, False])
def test_gradients_do_not_depend_on_sharing(shared: bool, sparse_target: Target) -> None:
    model, _ = decomposed(sparse_target)
    x = torch.randn(6, 4)
    clean = model.clean(x) if shared else without_memory(model.clean(x))
    g = {path: torch.rand(6, 7, generator=generator_at(index)).requires_grad_() for index, path in enumerate(model.sites)}
    model.masked(clean, {path: Mask(value, torch.full((6,), 0.4)) for path, value in g.items()}).square().sum().backward()
    V, U = model.sites["0"].factors.views()
    V2, U2 = model.sites["2"].factors.views()
    first, last = model.sites["0"], model.sites["2"]
    hidden = torch.relu((x @ V * g["0"]) @ U + 0.4 * x @ first.delta() + first.bias)
    out = (hidden @ V2 * g["2"]) @ U2 + 0.4 * hidden @ last.delta() + last.bias
    leaves = [V, U, V2, U2, *g.values()]
    for leaf, expected in zip(leaves, torch.autograd.grad(out.square().sum(), leaves), strict=True):
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad, expected, rtol=1e-4, atol=1e-5)


def counted(model: DecomposedModel) -> dict[str, int]:
    """Count how often each remembered module really runs."""
    counts: dict[str, int] = {}
    for name, module in model._twin[0].named_modules():
        if isinstance(module, Remembered):
            counts[name] = 0
            module.inner.register_forward_hook(lambda *_, name=name: counts.__setitem__(name, counts[name] + 1))
    return counts


def test_what_stands_before_the_masks_runs_once() -> None:
    model, _ = decomposed(Target(residual(), sites=("blocks.*.mlp_*",), data=[torch.randn(8, 4)]))
    counts = counted(model)
    clean = model.clean(torch.randn(6, 4))
    assert set(counts.values()) == {1}
    for _ in range(3):
        model.masked(clean, {"blocks.0.mlp_in": Mask(torch.rand(6, 7))})
    assert counts == {"embed": 1, "blocks.0.relu": 4, "blocks.1.relu": 4, "unembed": 4}


def test_another_clean_pass_is_not_taken_from_memory() -> None:
    model, _ = decomposed(Target(residual(), sites=("blocks.*.mlp_*",), data=[torch.randn(8, 4)]))
    counts = counted(model)
    x = torch.randn(6, 4)
    model.clean(x)
    model.clean(x)
    assert counts["embed"] == 2
    model.masked(model.clean(torch.randn(6, 4)), {})
    assert counts["embed"] == 3


def test_batch_that_was_changed_after_its_clean_pass_is_computed_anew(sparse_target: Target) -> None:
    model, _ = decomposed(sparse_target)
    x = torch.randn(6, 4)
    clean = model.clean(x)
    x.mul_(-1)
    mask = Mask(torch.rand(6, 7), torch.rand(6))
    torch.testing.assert_close(model.masked(clean, {"0": mask}), model.masked(model.clean(x.clone()), {"0": mask}))

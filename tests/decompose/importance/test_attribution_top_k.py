"""Attributions against autograd by brute force, the batch top-k, the remembered cut, and a run that ends and goes on to the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from tests.models import decomposed, mlp, tied_pair
from unbraid.core.errors import UserError
from unbraid.decompose.attribution import attributions
from unbraid.decompose.checkpoint import latest_state, load_state, save_state
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.importance.attribution_top_k import AttributionTopK, batch_top_k
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.preset import preset
from unbraid.decompose.starts import objective
from unbraid.decompose.step import importances_of
from unbraid.decompose.subject import learned
from unbraid.decompose.training import Training, prepare, sample
from unbraid.targets.data import SparseFeatures
from unbraid.targets.target import Target

KIND = "attribution-top-k"
FEATURES = SparseFeatures(4, 0.3)


class Mixing(nn.Module):
    """A token model whose positions speak to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.write = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.read(x))
        return self.write(h + h.cumsum(1).sin()).sum(1)


def by_brute_force(model: DecomposedModel, module: nn.Module, x: Tensor, rank: int) -> Tensor:
    """Every component's parameters written out, and the inner product with the gradient of every output, input by input."""
    parts: list[dict[str, Tensor]] = []
    for c in range(next(iter(model.C.values())) // rank):
        own = slice(c * rank, (c + 1) * rank)
        factors = {path: site.factors.views() for path, site in model.sites.items()}
        parts.append({f"{path}.weight": (V[:, own] @ U[own]).T for path, (V, U) in factors.items()})
    weights = {name: value.detach() for name, value in module.named_parameters()}
    rows: list[Tensor] = []
    for row in x:

        def outputs(chosen: dict[str, Tensor], row: Tensor = row) -> Tensor:
            return functional_call(module, {**weights, **chosen}, (row[None],)).flatten()

        slopes = torch.func.jacrev(outputs)({name: weights[name] for name in parts[0]})
        each = [sum((slopes[name] * part[name]).flatten(1).sum(1) for name in part) for part in parts]  # [outputs] per component
        rows.append(torch.stack([value.square().mean().sqrt() for value in each if isinstance(value, Tensor)]))
    return torch.stack(rows).detach()


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize(
    ("module", "sites", "x"), [(mlp(), "*", torch.randn(7, 4)), (Mixing(), "*", torch.randn(5, 6, 4))], ids=["mlp", "positions"]
)
def test_attribution_is_the_inner_product_with_the_gradient(module: nn.Module, sites: str, x: Tensor, rank: int) -> None:
    model, _ = decomposed(Target(module, sites=sites, data=[x]), C=6)
    torch.testing.assert_close(attributions(model, model.clean(x), rank), by_brute_force(model, module, x, rank), rtol=1e-4, atol=1e-6)


def test_tied_matrices_are_one_parameter(tied_target: Target) -> None:
    model, _ = decomposed(tied_target, C=4)
    x = torch.rand(6, 5)
    expected = by_brute_force(model, tied_pair_of(tied_target), x, 1)
    torch.testing.assert_close(attributions(model, model.clean(x)), expected, rtol=1e-4, atol=1e-6)


def tied_pair_of(target: Target) -> nn.Module:
    assert isinstance(target.module, type(tied_pair()))
    return target.module


def test_attributions_leave_no_trace(target: Target) -> None:
    model, _ = decomposed(target)
    clean = model.clean(torch.randn(8, 4))
    with torch.no_grad():
        scores = attributions(model, clean)
    assert not scores.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(model.clean(clean.batch).output, clean.output)


@pytest.mark.parametrize("count", [1, 5, 24])
def test_batch_top_k_keeps_exactly_so_many_and_the_largest(count: int) -> None:
    scores = torch.rand(8, 3)
    kept, cut = batch_top_k(scores, count)
    assert int(kept.sum()) == count
    assert set(kept.unique().tolist()) <= {0.0, 1.0}
    assert float(scores[kept == 1].min()) >= float(cut)
    if count < scores.numel():
        assert float(scores[kept == 0].max()) < float(cut)


def test_equal_scores_do_not_add_to_the_count() -> None:
    assert int(batch_top_k(torch.zeros(8, 3), 5)[0].sum()) == 5


def function_of(target: Target, C: int = 6, **settings: object) -> tuple[DecomposedModel, AttributionTopK]:
    model, function = decomposed(target, C=C, importance={"kind": KIND, **settings})  # pyright: ignore[reportArgumentType]
    assert isinstance(function, AttributionTopK)
    return model, function


def test_importance_in_training_is_the_batch_top_k_and_one_for_all_sites(target: Target) -> None:
    model, function = function_of(target, k=1.5, rank=2)
    clean = model.clean(torch.randn(10, 4))
    g = importances_of(model, function, clean).lower
    assert torch.equal(g["0"], g["2"])
    assert torch.equal(g["0"][:, 0::2], g["0"][:, 1::2])
    assert torch.equal(g["0"][:, 0::2], batch_top_k(attributions(model, clean, 2), 15)[0])


def test_outside_training_an_input_does_not_depend_on_its_company(target: Target) -> None:
    model, function = function_of(target, k=1.0)
    x = torch.randn(10, 4)
    clean = model.clean(x)
    in_training = function.logits_on(model, clean)["0"]
    for mode in ("no gradient", "evaluation"):
        function.train(mode == "no gradient")
        with torch.no_grad():
            whole = function.logits_on(model, clean)["0"]
            alone = torch.cat([function.logits_on(model, model.clean(x[row : row + 1]))["0"] for row in range(10)])
        assert torch.equal(whole, alone), mode
        assert torch.equal(whole, in_training), mode  # the cut of the one batch that was seen divides that batch alike


def test_cut_follows_in_training_only(target: Target) -> None:
    model, function = function_of(target, k=1.0, cut_decay=0.75)
    cuts: list[float] = []
    for scale in (1.0, 3.0):
        clean = model.clean(scale * torch.randn(10, 4))
        cuts.append(float(batch_top_k(attributions(model, clean), 10)[1]))
        function.logits_on(model, clean)
        with torch.no_grad():
            function.logits_on(model, model.clean(100 * torch.randn(10, 4)))
    assert float(function.cut) == pytest.approx(0.75 * cuts[0] + 0.25 * cuts[1])


def test_without_a_cut_the_batch_decides(target: Target) -> None:
    model, function = function_of(target, k=1.0)
    with torch.no_grad():
        assert int(function.logits_on(model, model.clean(torch.randn(10, 4)))["0"].sum()) == 10
    assert float(function.cut) < 0


def test_mistakes_are_named(target: Target) -> None:
    with pytest.raises(UserError, match=r"spans all sites, but they differ in C \(0: 6, 2: 4\)"):
        function_of(target, C={"0": 6, "2": 4})  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r"components is 6, no multiple of importance\.rank 4"):
        function_of(target, rank=4)
    model, function = decomposed(target, importance={"kind": "per-site", "sites": {"*": KIND}})  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="looks at all sites at once"):
        function.logits_on(model, model.clean(torch.randn(3, 4)))


class Summed(nn.Module):
    """Loses the axis of the inputs before its second site."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).sum(0, keepdim=True)).expand(len(x), -1)


def test_site_without_the_inputs_is_refused() -> None:
    model, _ = decomposed(Target(Summed(), sites="*", data=[torch.randn(8, 4)]))
    with pytest.raises(UserError, match="first axis, which they are not at the site 'second'"):
        attributions(model, model.clean(torch.randn(8, 4)))


# A whole run.

CONFIG = preset("apd", steps=30, batch_size=16, save_every_steps=10, components=6, prune=None)


@pytest.fixture
def sparse_target() -> Target:
    return Target(mlp(), sites="*", data=FEATURES)


def run(training: Training, target: Target, folder: Path, stop_at: int | None = None) -> bool:
    def save(t: Training) -> None:
        save_state(t, folder, "print")

    return train(training, target, CONFIG, Watch(lambda step, metrics: None, save, lambda: training.step == stop_at))


def test_resumed_run_goes_on_to_the_same_bits(tmp_path: Path, sparse_target: Target) -> None:
    whole = prepare(sparse_target, CONFIG)
    assert run(whole, sparse_target, tmp_path / "whole")
    stopped = prepare(sparse_target, CONFIG)
    assert not run(stopped, sparse_target, tmp_path / "parts", stop_at=13)
    resumed = prepare(sparse_target, CONFIG)
    state = latest_state(tmp_path / "parts")
    assert state is not None
    load_state(resumed, state, "print")
    assert run(resumed, sparse_target, tmp_path / "parts")
    assert float(whole.function.get_buffer("cut")) > 0
    for part, other in ((whole.model, resumed.model), (whole.function, resumed.function)):
        for name, tensor in part.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


def test_every_input_has_its_row(sparse_target: Target) -> None:
    training = prepare(sparse_target, CONFIG)
    batch, weights, size = sample(training, sparse_target, CONFIG)
    assert isinstance(batch, Tensor)
    assert (len(batch), weights, size) == (16, None, None)
    other = DecomposeConfig.parse({"batch_size": 16, "components": 6})
    assert sample(prepare(sparse_target, other), sparse_target, other)[1] is not None


def test_choosing_among_starts_and_scoring_leave_the_cut_alone(sparse_target: Target, tmp_path: Path) -> None:
    training = prepare(sparse_target, CONFIG)
    run(training, sparse_target, tmp_path)
    before = training.function.get_buffer("cut").clone()
    assert objective(training, sparse_target, CONFIG) > 0
    with torch.no_grad():
        learned(training.model, training.function).importance(training.model.clean(torch.randn(3, 4)))
    assert torch.equal(training.function.get_buffer("cut"), before)

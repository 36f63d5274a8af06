from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.models import mlp
from unbraid.decompose import loop
from unbraid.decompose.checkpoint import load_state, save_state
from unbraid.decompose.config import DecomposeConfig, PruneConfig
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.prune import prune, singular_pieces, weightless
from unbraid.decompose.result import Decomposition
from unbraid.decompose.site import Factors
from unbraid.decompose.step import importances_of
from unbraid.decompose.training import Training, prepare
from unbraid.targets.data import SparseFeatures
from unbraid.targets.target import Target

GONE = torch.tensor([False, True, False, False, True, False])
LOSSES = {"stochastic": {}, "minimality": {"coefficient": 1e-2}, "faithfulness": {}, "simplicity": {"coefficient": 1e-2}}


@pytest.fixture
def sparse_target() -> Target:
    return Target(mlp(), sites="*", data=SparseFeatures(4, 0.5))


@pytest.fixture
def tied_sparse_target(tied_target: Target) -> Target:
    return Target(tied_target.module, sites=("down", "up"), data=SparseFeatures(5, 0.5), tied=(("down", "up"),))


def config_of(**settings: object) -> DecomposeConfig:
    fixed = {"steps": 20, "batch_size": 16, "components": 6, "warmup": {"steps": 0}, "losses": LOSSES}
    return DecomposeConfig.parse({**fixed, **settings})


def until(training: Training, target: Target, config: DecomposeConfig, step: int) -> None:
    train(training, target, config, Watch(lambda step, metrics: None, lambda state: None, lambda: training.step >= step))


def factors_of(training: Training) -> dict[str, Factors]:
    return {path: module for path, module in training.model.factors.items() if isinstance(module, Factors)}


def pruned_halfway(target: Target, config: DecomposeConfig) -> Training:
    """Train half of the run, make two subcomponents of each site weightless while their moments still move them, and prune."""
    training = prepare(target, config)
    until(training, target, config, config.steps // 2)
    with torch.no_grad():
        for factors in factors_of(training).values():
            factors.V[:, GONE] *= 1e-4
    removed = prune(training, PruneConfig(below=0.05))
    assert removed == 2 * len(factors_of(training))
    return training


def importance_of(training: Training, target: Target) -> dict[str, torch.Tensor]:
    clean = training.model.clean(target.data.batch(0, 32, torch.Generator().manual_seed(0)))
    with torch.no_grad():
        return importances_of(training.model, training.function, clean).lower


def with_open_gates(training: Training) -> None:
    """Raise every logit, so that what stays 0 is 0 because it was pruned."""
    with torch.no_grad():
        for name, parameter in training.function.named_parameters():
            if name.endswith("b_out"):
                parameter.fill_(3.0)


def test_size_is_that_of_the_whole_piece() -> None:
    factors = Factors(2, 3, 4)
    with torch.no_grad():
        factors.V.copy_(torch.tensor([[3.0, 0.5, 100.0, 0.0], [4.0, 0.0, 0.0, 1.0]]))
        factors.U.copy_(torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.1, 0.0], [0.0, 0.004, 0.0], [6.0, 0.0, 8.0]]))
    # The sizes are 10, 0.55, 0.4 and 10.
    assert weightless(factors, 0.05).tolist() == [False, False, True, False]
    assert weightless(factors, 0.06).tolist() == [False, True, True, False]


def test_only_the_weightless_go(sparse_target: Target) -> None:
    config = config_of()
    training = prepare(sparse_target, config)
    with torch.no_grad():
        for factors in factors_of(training).values():
            factors.V.copy_(torch.nn.functional.normalize(factors.V, dim=0))
            factors.U.copy_(torch.nn.functional.normalize(factors.U, dim=1))
            factors.V *= torch.tensor([1.0, 0.06, 0.04, 0.5, 0.051, 0.0])
    before = {path: (factors.V.clone(), factors.U.clone()) for path, factors in factors_of(training).items()}
    assert prune(training, PruneConfig(below=0.05)) == 4
    for path, factors in factors_of(training).items():
        assert factors.kept.tolist() == [1, 1, 0, 1, 1, 0]
        V, U = before[path]
        assert torch.equal(factors.V, V * factors.kept)
        assert torch.equal(factors.U, U * factors.kept[:, None])
        assert bool((factors.U[2] == 0).all())
    prune(training, PruneConfig(below=0.05))
    assert all(factors.kept.tolist() == [1, 1, 0, 1, 1, 0] for factors in factors_of(training).values())


def test_nothing_is_pruned_before(sparse_target: Target) -> None:
    training = prepare(sparse_target, config_of())
    with_open_gates(training)
    assert not training.model.pruned
    assert all(bool((g == 1).all()) for g in importance_of(training, sparse_target).values())


def test_importance_of_the_pruned_is_zero_whatever_the_gates_say(sparse_target: Target) -> None:
    training = pruned_halfway(sparse_target, config_of())
    with_open_gates(training)
    assert training.model.pruned
    for g in importance_of(training, sparse_target).values():
        assert bool((g[:, GONE] == 0).all())
        assert bool((g[:, ~GONE] == 1).all())


def test_the_pruned_give_the_gates_no_gradient(sparse_target: Target) -> None:
    training = pruned_halfway(sparse_target, config_of())
    importances = importances_of(training.model, training.function, training.model.clean(torch.rand(8, 4)))
    for path in importances.lower:
        for g in (importances.lower[path], importances.upper[path]):
            grads = torch.autograd.grad(-g[:, GONE].sum(), list(training.function.parameters()), retain_graph=True, allow_unused=True)
            assert all(grad is None or bool((grad == 0).all()) for grad in grads)


def test_factors_stay_zero_through_later_steps(sparse_target: Target) -> None:
    config = config_of()
    training = pruned_halfway(sparse_target, config)
    before = {path: factors.V[:, ~GONE].clone() for path, factors in factors_of(training).items()}
    until(training, sparse_target, config, config.steps)
    for path, factors in factors_of(training).items():
        assert bool((factors.V[:, GONE] == 0).all())
        assert bool((factors.U[GONE] == 0).all())
        assert not torch.equal(factors.V[:, ~GONE], before[path])  # the others were trained on


def test_the_run_prunes_once_at_its_share(sparse_target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def spy(training: Training, config: PruneConfig) -> int:
        seen.append(training.step)
        return prune(training, config)

    monkeypatch.setattr(loop, "prune", spy)
    config = config_of(prune={"at": 0.7, "below": 0.999})
    training = prepare(sparse_target, config)
    until(training, sparse_target, config, config.steps)
    assert seen == [14]
    assert {path: int(factors.kept.sum()) for path, factors in factors_of(training).items()} == {"0": 1, "2": 1}


def test_saved_state_holds_what_was_pruned(sparse_target: Target, tmp_path: Path) -> None:
    config = config_of()
    training = pruned_halfway(sparse_target, config)
    path = save_state(training, tmp_path, "print")
    resumed = prepare(sparse_target, config)
    load_state(resumed, path, "print")
    assert all(torch.equal(factors.kept, (~GONE).float()) for factors in factors_of(resumed).values())
    for each in (training, resumed):
        until(each, sparse_target, config, config.steps)
    for name, tensor in training.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_product_holds_what_was_pruned(sparse_target: Target, tmp_path: Path) -> None:
    config = config_of()
    training = pruned_halfway(sparse_target, config)
    with_open_gates(training)
    Decomposition(sparse_target, config, training.model, training.function, training.step).save_pretrained(tmp_path / "product")
    read = Decomposition.from_pretrained(tmp_path / "product", sparse_target)
    for g in read.importance(torch.rand(8, 4)).values():
        assert torch.equal(g, (~GONE).float().expand(8, 6))


def test_tied_view_is_pruned_with_its_owner(tied_sparse_target: Target) -> None:
    config = config_of()
    training = pruned_halfway(tied_sparse_target, config)
    assert list(factors_of(training)) == ["down"]
    with_open_gates(training)
    for path in ("down", "up"):
        assert torch.equal(importance_of(training, tied_sparse_target)[path], (~GONE).float().expand(32, 6))
        V, U = training.model.sites[path].factors.views()
        assert bool((V[:, GONE] == 0).all())
        assert bool((U[GONE] == 0).all())


@pytest.mark.parametrize(("d_in", "d_out"), [(5, 2), (2, 5), (6, 6)])
def test_singular_pieces_leave_every_component_as_it_is(d_in: int, d_out: int) -> None:
    V, U = torch.randn(d_in, 12), torch.randn(12, d_out)
    V[:, 1], V[:, 2] = 2 * V[:, 0], -V[:, 0]  # the first component has rank one, in three parallel pieces
    pieces = singular_pieces(V, U, 3)
    for c in range(0, 12, 3):
        own = slice(c, c + 3)
        torch.testing.assert_close(pieces[0][:, own] @ pieces[1][own], V[:, own] @ U[own], rtol=1e-4, atol=1e-5)
    sizes = (pieces[0].norm(dim=0) * pieces[1].norm(dim=1)).view(4, 3)
    assert bool((sizes.diff(dim=1) <= 1e-6).all())
    assert bool((sizes[0, 1:] < 1e-3 * sizes[0, 0]).all())


def test_components_of_several_pieces_are_pruned_to_their_rank(tied_sparse_target: Target) -> None:
    config = config_of(importance={"kind": "attribution-top-k", "rank": 3}, losses={"faithfulness": {}, "importance-masked": {}})
    training = prepare(tied_sparse_target, config)
    until(training, tied_sparse_target, config, 10)
    (factors,) = factors_of(training).values()
    with torch.no_grad():
        factors.V[:, 1], factors.V[:, 2] = factors.V[:, 0], factors.V[:, 0]
        before = torch.stack([factors.V[:, own] @ factors.U[own] for own in (slice(0, 3), slice(3, 6))])
    assert prune(training, PruneConfig(below=1e-3)) == 3  # two of the first component; and no matrix with a side of 2 has rank 3
    after = torch.stack([factors.V[:, own] @ factors.U[own] for own in (slice(0, 3), slice(3, 6))])
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)
    until(training, tied_sparse_target, config, 20)
    assert training.step == 20
    assert bool((factors.V[:, factors.kept == 0] == 0).all())

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.stability.engine.places import place_named
from unbraid.stability.radius.directions import differences, families, listed, principal
from unbraid.stability.radius.read_directions import read_directions, stream_readers
from unbraid.targets.models.language_model import LanguageModel
from unbraid.targets.target import Target
from unbraid.targets.toy import load_target

POOL = torch.randn(500, 6, generator=torch.Generator().manual_seed(1)) * torch.tensor([5.0, 2, 1, 1, 0.5, 0.1]) + 3.0


def no_lists(name: str) -> Tensor:
    raise AssertionError(name)


def second_moments(rows: Tensor) -> Tensor:
    return rows.T @ rows / len(rows)


def test_covariance_matched_directions_have_the_covariance_of_activations_and_no_mean(generator: torch.Generator) -> None:
    (family,) = families(("covariance",), POOL, no_lists)
    drawn = family.draw(20_000, generator)
    expected = 2 * torch.cov(POOL.T)  # a difference of two independent draws
    assert float((second_moments(drawn) - expected).norm() / expected.norm()) < 0.05
    assert float(drawn.mean(0).norm()) < 0.2
    assert family.null is None


def test_differences_are_of_two_activations_that_are_there(generator: torch.Generator) -> None:
    pool = torch.tensor([[1.0, 0], [0, 10], [100, 0]])
    allowed = {tuple((a - b).tolist()) for i, a in enumerate(pool) for j, b in enumerate(pool) if i != j}
    assert {tuple(row.tolist()) for row in differences(pool).draw(50, generator)} == allowed


def test_principal_axes_come_largest_first_and_there_are_no_more_than_the_activations_span(generator: torch.Generator) -> None:
    axes = principal(POOL).draw(6, generator)
    torch.testing.assert_close(axes @ axes.T, torch.eye(6), rtol=0, atol=1e-4)
    spread = (POOL @ axes.T).std(0)
    assert spread.tolist() == sorted(spread.tolist(), reverse=True)
    flat = POOL.clone()
    flat[:, 2:] = 0
    assert principal(flat).draw(6, generator).shape == (2, 6)


def test_list_gives_its_own_directions_and_its_null_only_their_second_moments(generator: torch.Generator) -> None:
    rows = torch.tensor([[3.0, 0, 0, 0], [0, 2, 0, 0]])
    own, null = listed("features", rows)
    drawn = own.draw(2, generator)
    assert sorted(drawn.abs().argmax(1).tolist()) == [0, 1]
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(2))
    assert own.draw(9, generator).shape == (2, 4)  # there are no more
    mixed = null.draw(20_000, generator)
    torch.testing.assert_close(second_moments(mixed), torch.diag(torch.tensor([0.5, 0.5, 0, 0])), rtol=0, atol=0.02)
    assert own.null == null.name == "features mixed"


def test_rotated_features_are_turned_by_the_angle_and_are_no_list(generator: torch.Generator) -> None:
    rows = torch.eye(50)[:20]
    found = families(("features-rotated",), torch.randn(9, 50), lambda name: {"features": rows}[name])
    assert [(family.name, family.null) for family in found] == [("features-rotated", "features mixed"), ("features mixed", None)]
    drawn = found[0].draw(20, generator)
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(20))
    torch.testing.assert_close((drawn @ rows.T).abs().amax(1), torch.full((20,), 0.5))
    others = (drawn @ drawn.T - torch.diag((drawn @ drawn.T).diag())).abs()
    assert float(others.max()) < 0.9  # each is turned its own way


def test_nulls_come_along_and_each_family_once() -> None:
    found = families(("random", "difference", "pca", "difference"), POOL, no_lists)
    assert [family.name for family in found] == ["random", "difference", "pca", "covariance"]
    assert [family.null for family in found] == [None, "covariance", "covariance", None]
    assert [family.name for family in families(("random",), POOL, no_lists)] == ["random"]


def test_unknown_family_is_named_with_the_closest() -> None:
    with pytest.raises(UserError, match="Unknown family of directions 'pcas'.*Closest: 'pca'"):
        families(("pcas",), POOL, no_lists)
    with pytest.raises(UserError, match="made of 2 activations"):
        families(("random",), POOL[:2], no_lists)


@pytest.fixture(scope="module")
def carroll() -> Target:
    settings = {"model": "carroll", "text": "carroll", "sites": ["*_proj"]}
    return LanguageModel.parse(settings).target()


def test_stream_is_read_by_what_comes_after_a_norm_and_not_by_the_output_of_attention(carroll: Target) -> None:
    prompt = torch.arange(1, 6)
    found = stream_readers(carroll.module, carroll.sites, place_named(carroll.module, 0), prompt)
    names = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.up_proj"]
    assert list(found) == [f"model.layers.1.{name}" for name in names]
    gains = carroll.module.get_submodule("model.layers.1.input_layernorm").weight
    assert found["model.layers.1.self_attn.q_proj"] is not None
    torch.testing.assert_close(found["model.layers.1.self_attn.q_proj"], gains.detach())


def test_directions_of_components_are_what_the_next_block_reads(carroll: Target) -> None:
    place = place_named(carroll.module, 0)
    found = read_directions("components:carroll", carroll, place, torch.arange(1, 6))
    assert found.shape[1] == 96
    assert 200 < len(found) < 400
    with pytest.raises(UserError, match=r"No site of 'components:carroll' reads what is moved at block 1"):
        read_directions("components:carroll", carroll, place_named(carroll.module, 1), torch.arange(1, 6))


def test_components_of_another_model_are_refused() -> None:
    toy = load_target("tms-5-2")
    with pytest.raises(UserError, match="whose weights are not those of"):
        read_directions("components:carroll", toy, place_named(toy.module, "input"), torch.zeros(5))


def test_planted_features_are_those_of_the_site_that_reads_the_place(carroll: Target) -> None:
    toy = load_target("denoiser")
    found = read_directions("features", toy, place_named(toy.module, "input"), torch.zeros(128))
    torch.testing.assert_close(found, torch.eye(128))
    deep = load_target("residual-mlp-1")
    with pytest.raises(UserError, match="--site"):
        read_directions("features", deep, place_named(deep.module, "input"), torch.zeros(100))
    assert read_directions("features", deep, place_named(deep.module, "embed"), torch.zeros(100)).shape == (100, 1000)
    with pytest.raises(UserError, match="Nothing is planted in 'carroll'"):
        read_directions("features", carroll, place_named(carroll.module, 0), torch.arange(1, 6))

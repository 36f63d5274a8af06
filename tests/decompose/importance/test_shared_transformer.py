"""Which positions and sites the shared transformer may look at, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.decompose.importance.shared_transformer import SharedTransformerConfig, rotary, rotate
from unbraid.decompose.importance_function import ImportanceFunction, SiteShape

SITES = {"a": SiteShape(6, 5), "b": SiteShape(4, 3), "c": SiteShape(6, 2)}


def built(**changes: object) -> ImportanceFunction:
    config = SharedTransformerConfig.parse({"kind": "shared-transformer", "d_model": 16, "heads": 2, **changes})
    return config.build(SITES, torch.Generator().manual_seed(0))


def inputs(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {path: torch.randn(2, 7, site.d_in, generator=generator) for path, site in SITES.items()}


def moved_at(function: ImportanceFunction, path: str, position: int) -> dict[str, Tensor]:
    """At which positions do the logits move when one input changes there?"""
    before = inputs()
    after = {name: x.clone() for name, x in before.items()}
    after[path][:, position] += torch.randn(2, SITES[path].d_in, generator=torch.Generator().manual_seed(9))
    old, new = function(before, {}), function(after, {})
    return {name: (old[name] - new[name]).abs().amax(dim=(0, 2)) > 1e-6 for name in SITES}


def test_logits_are_one_per_subcomponent_of_every_site() -> None:
    logits = built()(inputs(), {})
    assert {path: tuple(z.shape) for path, z in logits.items()} == {"a": (2, 7, 5), "b": (2, 7, 3), "c": (2, 7, 2)}


@pytest.mark.parametrize("chunks", [1, 2])
def test_every_site_sees_every_other_one_at_every_position(chunks: int) -> None:
    for moved in moved_at(built(chunks=chunks), "c", 3).values():
        assert moved.all()


def test_a_causal_one_does_not_see_the_future() -> None:
    for moved in moved_at(built(causal=True), "b", 3).values():
        assert not moved[:3].any()
        assert moved[3:].all()


def test_only_the_sites_that_are_read_matter() -> None:
    function = built(reads=("a", "b"))
    assert not any(moved.any() for moved in moved_at(function, "c", 3).values())
    assert all(moved.all() for moved in moved_at(function, "a", 3).values())


def test_the_scale_of_an_input_does_not_matter() -> None:
    function, x = built(), inputs()
    larger = {path: 100 * value for path, value in x.items()}
    for path, z in function(x, {}).items():
        assert torch.allclose(z, function(larger, {})[path], atol=1e-4)


def test_rotation_depends_on_the_distance_alone() -> None:
    cos, sin = rotary(9, 8, torch.device("cpu"))
    q, k = torch.randn(8), torch.randn(8)
    turned = [rotate(v.expand(1, 1, 9, 8), cos, sin)[0, 0] for v in (q, k)]
    scores = turned[0] @ turned[1].T
    for offset in range(-3, 4):
        diagonal = scores.diagonal(offset)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-4)


def test_the_same_seed_draws_the_same_weights() -> None:
    first, second = built(layers=1).state_dict(), built(layers=1).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="d_model 16"):
        built(heads=3)


def test_inputs_without_positions_are_sequences_of_one() -> None:
    alone = {path: x[:, 0] for path, x in inputs().items()}
    as_sequences = built()({path: x[:, None] for path, x in alone.items()}, {})
    for path, z in built()(alone, {}).items():
        assert torch.equal(z, as_sequences[path][:, 0])


def test_sites_that_see_different_positions_are_refused() -> None:
    x = inputs()
    with pytest.raises(UserError, match="same positions of a sequence"):
        built()({**x, "b": x["b"][:, :3]}, {})

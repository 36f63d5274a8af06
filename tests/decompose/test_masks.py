from __future__ import annotations

import pytest
import torch

from unbraid.decompose.masks import (
    Between,
    Source,
    constant_masks,
    draw_sources,
    draw_subset,
    interpolate,
    masks_from,
    route_subsets,
)

CPU = torch.device("cpu")


def test_mask_goes_from_importance_to_one() -> None:
    g, r = torch.rand(5, 4), torch.rand(5, 4)
    torch.testing.assert_close(interpolate(g, r), g + (1 - g) * r)
    assert torch.equal(interpolate(g, torch.zeros(5, 4)), g)
    torch.testing.assert_close(interpolate(g, torch.ones(5, 4)), torch.ones(5, 4))


def test_a_source_may_be_shared_over_the_batch() -> None:
    g, r = torch.rand(5, 4), torch.rand(1, 4)
    torch.testing.assert_close(interpolate(g, r), g + (1 - g) * r)


def test_mask_of_delta_is_its_source() -> None:
    sources = {"a": Source(torch.rand(5, 4), torch.rand(5))}
    g = {"a": torch.rand(5, 4)}
    assert masks_from(g, sources)["a"].delta is sources["a"].delta
    assert masks_from(g, sources, delta=False)["a"].delta is None


def test_sources_are_uniform_and_independent(generator: torch.Generator) -> None:
    sources = draw_sources({"a": torch.zeros(20_000, 3), "b": torch.zeros(20_000, 2)}, generator)
    assert list(sources) == ["a", "b"]
    columns = torch.cat([sources["a"].component, sources["a"].delta[:, None], sources["b"].component, sources["b"].delta[:, None]], dim=1)
    assert columns.shape == (20_000, 7)
    assert float(columns.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(columns.var(0).mean()) == pytest.approx(1 / 12, rel=0.02)
    assert float((torch.corrcoef(columns.T) - torch.eye(7)).abs().max()) < 0.04


def test_binomial_sources_are_zero_or_one(generator: torch.Generator) -> None:
    source = draw_sources({"a": torch.zeros(20_000, 3)}, generator, "binomial")["a"]
    assert set(source.component.unique().tolist()) == {0.0, 1.0}
    assert set(source.delta.unique().tolist()) == {0.0, 1.0}
    assert float(source.component.mean()) == pytest.approx(0.5, abs=0.01)


def test_sources_of_sites_with_other_positions(generator: torch.Generator) -> None:
    sources = draw_sources({"a": torch.zeros(4, 3), "b": torch.zeros(4, 2, 5), "c": torch.zeros(4, 1)}, generator)
    assert [(source.component.shape, source.delta.shape) for source in sources.values()] == [
        ((4, 3), (4,)),
        ((4, 2, 5), (4, 2)),
        ((4, 1), (4,)),
    ]
    assert list(sources) == ["a", "b", "c"]


@pytest.mark.parametrize("n", [2, 3, 9])  # 9 is ranked by sorting
def test_subset_has_each_size_and_each_site_equally_often(n: int, generator: torch.Generator) -> None:
    paths = [f"site{index}" for index in range(n)]
    routed = draw_subset(paths, torch.Size((60_000,)), generator, CPU)
    assert list(routed) == paths
    chosen = torch.stack([routed[path] for path in paths], dim=1)
    sizes = chosen.sum(1)
    for k in range(1, n + 1):
        here = sizes == k
        assert float(here.float().mean()) == pytest.approx(1 / n, abs=0.01)
        frequency = chosen[here].float().mean(0)
        torch.testing.assert_close(frequency, torch.full((n,), k / n), rtol=0, atol=0.03)
    assert int(sizes.min()) == 1


def test_every_pair_is_equally_likely(generator: torch.Generator) -> None:
    routed = draw_subset(["a", "b", "c", "d"], torch.Size((80_000,)), generator, CPU)
    chosen = torch.stack(list(routed.values()), dim=1).long()
    codes = (chosen @ torch.tensor([1, 2, 4, 8]))[chosen.sum(1) == 2]
    counts = torch.bincount(codes, minlength=16)
    assert sorted(torch.nonzero(counts).flatten().tolist()) == [3, 5, 6, 9, 10, 12]
    torch.testing.assert_close(counts[counts > 0] / counts.sum(), torch.full((6,), 1 / 6), rtol=0, atol=0.012)


def test_one_site_is_always_routed(generator: torch.Generator) -> None:
    assert bool(draw_subset(["a"], torch.Size((3, 2)), generator, CPU)["a"].all())


def test_routing_with_delta_is_the_mask_one_elsewhere() -> None:
    g, here = {"a": torch.full((2, 3), 0.25)}, {"a": torch.tensor([True, False])}
    limited = masks_from(g, {"a": Source(torch.zeros(2, 3), torch.full((2,), 0.5))}, routed=here)["a"]
    assert limited.component.tolist() == [[0.25] * 3, [1.0] * 3]
    assert limited.delta is not None
    assert limited.delta.tolist() == [0.5, 1.0]
    assert limited.routed is None


def test_routing_without_delta_keeps_the_choice() -> None:
    here = torch.tensor([True, False])
    limited = masks_from({"a": torch.rand(2, 3)}, {"a": Source(torch.rand(2, 3), torch.rand(2))}, delta=False, routed={"a": here})["a"]
    assert limited.routed is here
    assert limited.delta is None


def test_a_large_site_of_sequences_makes_its_mask_itself() -> None:
    g, source = {"a": torch.rand(2, 300, 128)}, {"a": Source(torch.rand(1, 1, 128), torch.rand(2, 300))}
    here = {"a": torch.rand(2, 300) < 0.5}
    mask = masks_from(g, source, routed=here)["a"]
    assert isinstance(mask, Between)
    assert mask.routed is here["a"]
    torch.testing.assert_close(mask.component, interpolate(g["a"], source["a"].component))


def test_constant_masks() -> None:
    masks = constant_masks({"a": torch.rand(2, 3, 4)}, 0.5, delta=1.0)
    assert masks["a"].component.shape == (2, 3, 4)
    assert masks["a"].delta is not None
    assert masks["a"].delta.shape == (2, 3)
    assert bool((masks["a"].component == 0.5).all())
    assert constant_masks({"a": torch.rand(2, 4)}, 0.5, delta=None)["a"].delta is None


def test_subsets_are_drawn_per_position_where_all_sites_see_the_same() -> None:
    g = {"a": torch.rand(500, 7, 2), "b": torch.rand(500, 7, 3)}
    routed = route_subsets(g, torch.Generator().manual_seed(0))
    drawn = draw_subset(["a", "b"], torch.Size((500, 7)), torch.Generator().manual_seed(0), CPU)
    assert all(torch.equal(routed[path], drawn[path]) for path in g)


def test_subsets_are_drawn_per_input_where_sites_see_other_positions() -> None:
    g = {"image": torch.rand(500, 4, 3, 2), "pooled": torch.rand(500, 2, 3, 2), "head": torch.rand(500, 2)}
    routed = route_subsets(g, torch.Generator().manual_seed(0))
    assert {path: tuple(here.shape) for path, here in routed.items()} == {path: tuple(x.shape[:-1]) for path, x in g.items()}
    each = torch.stack([here.flatten(1)[:, 0] if here.dim() > 1 else here for here in routed.values()])
    assert bool(each.any(0).all()) and 0 < float(each.float().mean()) < 1
    for here in routed.values():
        assert bool((here.flatten(1) == here.flatten(1)[:, :1]).all()) if here.dim() > 1 else True
    table = {"words": torch.rand(5, 7, 2), "positions": torch.rand(1, 7, 2)}
    assert {here.unique().numel() for here in route_subsets(table, torch.Generator().manual_seed(0)).values()} == {1}

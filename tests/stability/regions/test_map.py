"""Regions that were planted are found, and where none were planted it says so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.stability.engine.distances import euclidean
from unbraid.stability.regions.barriers import walk
from unbraid.stability.regions.config import RegionsConfig
from unbraid.stability.regions.graph import components, first_pairs, hierarchy, walk_until_settled
from unbraid.stability.regions.map import RegionMap, map_regions, over_anchors, verdict

Response = Callable[[Tensor], Tensor]
QUICK = RegionsConfig(random=150, grid=31, triples=100)
K, PER, D = 6, 10, 12


def prototypes() -> Tensor:
    return 4 * torch.eye(D)[:K] + 0.3 * torch.randn(K, D)


def nearest(centres: Tensor, sharpness: float) -> Response:
    """A read-out with one flat region per prototype: the softly nearest one."""
    return lambda x: torch.softmax(-sharpness * torch.cdist(x, centres).square(), dim=1) @ centres


def planted() -> tuple[Tensor, np.ndarray, Tensor]:
    centres = prototypes()
    truth = np.arange(K).repeat(PER)
    return centres[torch.from_numpy(truth)] + 0.5 * torch.randn(K * PER, D), truth, centres


def test_flat_regions_are_recovered_exactly() -> None:
    anchors, truth, centres = planted()
    found = map_regions(nearest(centres, 5.0), euclidean, anchors, QUICK)
    assert adjusted_rand_score(truth, found.labels()) == 1.0
    assert found.unsettled == 0
    assert found.stability().value > 0.95
    violations, plateaus = found.violations(), found.plateaus()
    assert violations is not None and violations.value == 0
    assert plateaus is not None and plateaus.value > 0.9
    assert verdict(found, None).startswith("plateaus")


def test_the_hierarchy_cut_at_tau_has_the_planted_regions() -> None:
    from scipy.cluster.hierarchy import fcluster

    anchors, truth, centres = planted()
    found = map_regions(nearest(centres, 5.0), euclidean, anchors, QUICK)
    assert adjusted_rand_score(truth, fcluster(found.linkage(), found.tau, "distance")) == 1.0


def test_a_linear_readout_has_no_plateau_and_its_paths_say_no_more_than_their_ends() -> None:
    anchors = torch.randn(60, D)
    matrix = torch.randn(D, 20)
    found = map_regions(lambda x: x @ matrix, euclidean, anchors, QUICK)
    assert np.allclose(found.walks.reach, found.walks.gap, rtol=1e-4)
    assert np.allclose(2 * found.walks.barrier, found.walks.gap, rtol=0.08)  # the grid of 31 has its middle
    flat = found.flat()
    assert flat is not None and flat.value == pytest.approx(0.2, abs=0.002)
    assert np.array_equal(found.labels(), found.gap_labels())
    assert verdict(found, None).startswith("no plateau; barriers equal gaps")


def test_clusters_of_anchors_are_no_plateau_where_the_readout_is_linear() -> None:
    """The negative control that matters: density alone makes clear regions, and the verdict must not call them stable."""
    anchors, truth, _ = planted()
    found = map_regions(lambda x: x, euclidean, anchors, QUICK)
    assert adjusted_rand_score(truth, found.gap_labels()) > 0.9
    assert verdict(found, None).startswith("no plateau; barriers equal gaps")


def test_flats_of_the_untrained_model_are_no_plateau() -> None:
    anchors, _, centres = planted()
    found = map_regions(nearest(centres, 0.1), euclidean, anchors, QUICK)
    flat = found.flat()
    assert flat is not None and 0.2 < flat.value < 0.6
    assert "beyond the untrained model's" in verdict(found, found)


def test_a_wall_between_equal_answers_is_seen_by_the_path_alone() -> None:
    """Two clusters answer alike, and the way from the one to the other leads through something else."""
    anchors = torch.cat(
        [torch.randn(15, 3) * 0.1 + torch.tensor([x, y, 0.0]) for x, y in ((-3.0, 0.0), (3.0, 0.0), (0.0, 5.0), (0.0, 9.0))]
    )

    def response(x: Tensor) -> Tensor:
        inside = torch.sigmoid(20 * (1 - x[:, :1].abs())) * (x[:, 1:2].abs() < 1)
        return torch.cat([4 * inside, 4 * torch.sigmoid(8 * (x[:, 1:2] - 2.5)), 4 * torch.sigmoid(8 * (x[:, 1:2] - 7))], dim=1)

    found = map_regions(response, euclidean, anchors, QUICK)
    assert sorted(found.sizes().tolist()) == [15, 15, 15, 15]
    assert len(np.unique(found.gap_labels())) == 3
    excess = [r for (i, j), r in zip(found.walks.pairs, found.walks.barrier, strict=True) if i < 15 <= j < 30]
    assert min(excess) > 3


def test_settling_gives_what_walking_every_pair_gives() -> None:
    anchors, _, centres = planted()
    response = nearest(centres, 0.3)
    every = np.column_stack(np.triu_indices(len(anchors), 1))
    full = walk(response, euclidean, anchors, every, grid=31)
    few = map_regions(response, euclidean, anchors, RegionsConfig(neighbours=1, random=5, grid=31))
    assert len(few.walks.gap) < len(every)
    for share in (0.5, 1.0):
        tau = share * few.tau
        settled, left = walk_until_settled(
            lambda pairs: walk(response, euclidean, anchors, pairs, grid=31), few.walks, few.gap, tau, most=10**6
        )
        assert left == 0
        assert np.array_equal(components(60, settled.pairs, settled.reach < tau), components(60, full.pairs, full.reach < tau))


def test_paths_left_out_by_the_budget_are_counted() -> None:
    anchors, _, centres = planted()
    found = map_regions(nearest(centres, 5.0), euclidean, anchors, QUICK.model_copy(update={"neighbours": 1, "random": 1, "most": 0}))
    open_ = (found.gap < found.tau) & (found.labels()[:, None] != found.labels()[None])
    assert found.unsettled == np.triu(open_, 1).sum() - sum(bool(open_[i, j]) for i, j in found.walks.pairs)


def test_the_hierarchy_joins_at_the_walked_heights_only() -> None:
    anchors = torch.randn(20, 4)
    found = map_regions(lambda x: x, euclidean, anchors, RegionsConfig(neighbours=2, random=3))
    merges = hierarchy(20, found.walks)[:, 2]
    assert len(merges) == 19 and merges.max() <= found.walks.height.max() * (1 + 1e-9)


def test_random_pairs_come_first_and_every_anchor_is_joined() -> None:
    gap = np.abs(np.subtract.outer(np.arange(30.0), np.arange(30.0)))
    pairs = first_pairs(gap, 2, 10, np.random.default_rng(0))
    assert (pairs[:, 0] < pairs[:, 1]).all() and len(np.unique(pairs, axis=0)) == len(pairs)
    assert components(30, pairs, np.ones(len(pairs), dtype=bool)).max() == 0
    assert np.abs(np.diff(pairs[:10], axis=1)).mean() > 5  # near ones would be 1 or 2 apart


def test_what_does_not_differ_is_an_error() -> None:
    with pytest.raises(UserError, match="same answer"):
        map_regions(lambda x: torch.zeros(len(x), 2), euclidean, torch.randn(8, 3), QUICK)


def test_paths_between_equal_answers_have_no_flat_share() -> None:
    found = walk(lambda x: x[:, :1], euclidean, torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), np.asarray([[0, 1], [0, 2]]))
    assert np.isnan(found.flat[0]) and found.flat[1] == pytest.approx(0.2, abs=1e-5)


def test_intervals_over_anchors_are_wider_than_over_pairs_that_share_them() -> None:
    generator = np.random.default_rng(0)
    own = generator.standard_normal(40)
    pairs = np.column_stack(np.triu_indices(40, 1))
    values = own[pairs].sum(1)
    found = over_anchors(values, pairs, np.ones(len(pairs), dtype=bool), 40)
    assert found is not None
    over_pairs = 2 * 1.96 * values.std() / np.sqrt(len(values))
    # The mean of pair sums is twice the mean of the anchors' own values.
    true = 2 * 1.96 * 2 * own.std() / np.sqrt(40)
    assert 0.7 * true < found.high - found.low < 1.3 * true and found.high - found.low > 3 * over_pairs


def test_one_map_is_not_another() -> None:
    """The number of regions does not depend on the order of the anchors."""
    anchors, _, centres = planted()
    order = torch.randperm(len(anchors))
    maps: list[RegionMap] = [map_regions(nearest(centres, 0.5), euclidean, some, QUICK) for some in (anchors, anchors[order])]
    assert maps[0].sizes().tolist() == maps[1].sizes().tolist()
    assert adjusted_rand_score(maps[0].labels()[order.numpy()], maps[1].labels()) == 1.0

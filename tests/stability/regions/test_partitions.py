"""Agreement is high where it was planted, and never above its own chance level where it was not."""

from __future__ import annotations

import numpy as np
import pytest

from unbraid.stability.regions.partitions import agreement_of, compare_partitions, density_clusters, pattern_clusters


def test_the_same_groups_under_other_names_agree_fully() -> None:
    labels = np.arange(60) % 5
    found = compare_partitions(labels, (labels + 2) % 5, 50, 0)
    assert found is not None
    for each in found.values():
        assert (each.value, each.low, each.high) == pytest.approx((1.0, 1.0, 1.0))
        assert each.p == 1 / 51 and each.null < 0.5


def test_unrelated_groups_agree_as_by_chance_although_nmi_is_far_from_0() -> None:
    generator = np.random.default_rng(3)
    found = compare_partitions(generator.integers(0, 30, 100), generator.integers(0, 30, 100), 100, 0)
    assert found is not None
    assert found["nmi"].value > 0.5 and abs(found["nmi"].value - found["nmi"].null) < 0.05
    assert found["ari"].low < 0 < found["ari"].high and found["ari"].p > 0.02


def test_the_interval_is_as_wide_as_the_spread_over_new_anchors() -> None:
    def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(seed)
        regions = generator.integers(0, 4, 200)
        return regions, np.where(generator.random(200) < 0.7, regions, generator.integers(0, 4, 200))

    spread = 2 * 1.96 * np.std([agreement_of(*drawn(seed))[2] for seed in range(100)])
    found = compare_partitions(*drawn(0), 200, 0)
    assert found is not None
    assert 0.7 * spread < found["ari"].high - found["ari"].low < 1.4 * spread


def test_one_group_or_none_but_singles_leaves_nothing_to_agree_about() -> None:
    assert compare_partitions(np.zeros(9, dtype=int), np.arange(9) % 2, 20, 0) is None
    assert compare_partitions(np.arange(9), np.arange(9) % 2, 20, 0) is None


def test_clusters_of_points_and_of_patterns_are_found() -> None:
    generator = np.random.default_rng(0)
    truth = np.arange(40) % 4
    points = 5 * np.eye(4)[truth] + 0.1 * generator.standard_normal((40, 4))
    assert agreement_of(truth, density_clusters(points, 4, 0))[2] == 1.0
    patterns = (np.eye(4)[truth].repeat(10, 1) > 0) ^ (generator.random((40, 40)) < 0.02)
    assert agreement_of(truth, pattern_clusters(patterns, 4))[2] == 1.0
    assert len(np.unique(density_clusters(np.zeros((5, 2)), 3, 0))) == 1

"""Agreement is scikit-learn's where everything counts once, and what repeating things would give where it does not."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, homogeneity_completeness_v_measure, normalized_mutual_info_score

from unbraid.core.agreement import agreement


@pytest.mark.parametrize("seed", range(6))
def test_agreement_is_that_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    planted = random.integers(0, 5, 60)
    found = np.where(random.random(60) < 0.6, planted, random.integers(0, 7, 60))
    ours = agreement(found.tolist(), planted.tolist())
    homogeneity, completeness, _ = homogeneity_completeness_v_measure(planted, found)
    assert ours.ari == pytest.approx(adjusted_rand_score(planted, found))
    assert ours.nmi == pytest.approx(normalized_mutual_info_score(planted, found))
    assert ours.homogeneity == pytest.approx(homogeneity)
    assert ours.completeness == pytest.approx(completeness)


@pytest.mark.parametrize(
    ("found", "planted", "homogeneity", "completeness"),
    [([0, 0, 1, 1], [5, 5, 2, 2], 1.0, 1.0), ([0, 1, 2, 2], [0, 0, 1, 1], 1.0, None), ([0, 0, 0, 0], [0, 0, 1, 1], 0.0, 1.0)],
)
def test_splitting_and_mixing(found: list[int], planted: list[int], homogeneity: float, completeness: float | None) -> None:
    ours = agreement(found, planted)
    assert ours.homogeneity == pytest.approx(homogeneity)
    assert ours.completeness < 1 if completeness is None else ours.completeness == pytest.approx(completeness)
    assert (ours.ari == pytest.approx(1.0)) == (homogeneity == 1.0 and completeness == 1.0)


def test_what_weighs_nothing_does_not_count() -> None:
    ours = agreement([0, 0, 1, 1, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1e-9])
    assert ours.ari == pytest.approx(1.0, abs=1e-6)
    assert ours.nmi == pytest.approx(1.0, abs=1e-6)
    assert agreement([0, 0, 1, 1, 0], [0, 0, 1, 1, 1]).ari < 0.5


def test_equal_weights_change_nothing() -> None:
    found, planted = [0, 0, 1, 2, 2, 1], [0, 0, 1, 1, 2, 2]
    assert agreement(found, planted, [3.0] * 6).ari == pytest.approx(agreement(found, planted).ari)


def test_nothing_found_agrees_with_nothing() -> None:
    assert agreement([], []).ari == 0.0

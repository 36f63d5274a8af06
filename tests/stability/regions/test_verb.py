"""Regions of a real model: one context, its own answers, controls, other partitions, and what is saved is read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import unbraid
from unbraid.core.errors import UserError
from unbraid.stability.regions.config import RegionsConfig
from unbraid.stability.regions.result import RegionsResult
from unbraid.stability.regions.verb import covariance_matched, regions
from unbraid.targets.models.language_model import LanguageModel
from unbraid.targets.target import Target

CONFIG = RegionsConfig(anchors=24, context=6, grid=11, random=60, neighbours=3, triples=40, permutations=19, tau=0.9)


@pytest.fixture(scope="module")
def carroll() -> Target:
    return LanguageModel(model="carroll", sites=("*.up_proj",), text="carroll").target()


@pytest.fixture(scope="module")
def found(carroll: Target) -> RegionsResult:
    return regions(carroll, CONFIG, unbraid.load("carroll"))


def test_anchors_share_a_context_and_answer_as_the_model_does(found: RegionsResult) -> None:
    assert len(set(found.anchors)) == 24
    assert found.maps["model"].fidelity < 1e-5 and found.maps["untrained"].fidelity < 1e-5
    assert found.numbers["matched"]["fidelity"] is None


def test_controls_and_other_partitions_stand_beside(found: RegionsResult) -> None:
    assert set(found.maps) == {"model", "untrained", "matched"} and not found.is_provisional
    assert set(found.others) == {"prediction", "last token", "density", "gates", "importance"}
    assert set(found.agreement) == set(found.others)
    assert found.labels.shape == (24,)


def test_every_map_walks_the_same_random_pairs(found: RegionsResult) -> None:
    first = [each.walks.pairs[: each.chance].tolist() for each in found.maps.values()]
    assert first[0] == first[1] == first[2] and len(first[0]) == 60


def test_what_is_saved_is_read_back(found: RegionsResult, tmp_path: Path) -> None:
    again = RegionsResult.from_pretrained(found.save_pretrained(tmp_path / "regions"))
    assert again.tree() == found.tree()
    assert again.plot_region_map().svg() == found.plot_region_map().svg()
    assert again.plot_region_map("dark").svg() != found.plot_region_map().svg()


def test_a_given_context_keeps_all_but_its_last_token(carroll: Target) -> None:
    found = regions(carroll, CONFIG.model_copy(update={"untrained": False, "matched": False}), carrier="said the rabbit to")
    assert found.context == "said the rabbit" and found.is_provisional


def test_the_last_block_can_be_the_place_and_tokens_can_come_from_the_text(carroll: Target) -> None:
    """After the last block only a norm and the unembedding are left: no gates, and paths are nearly straight."""
    found = regions(carroll, CONFIG.model_copy(update={"site": -1, "tokens": "text", "untrained": False}))
    flat = found.maps["model"].flat()
    assert "gates" not in found.others
    assert flat is not None and flat.value == pytest.approx(0.2, abs=0.05)


def test_models_that_read_vectors_have_regions_too() -> None:
    found = regions(unbraid.load_target("denoiser"), CONFIG)
    assert set(found.others) >= {"prediction", "density"} and "last token" not in found.others
    found.plot_region_map()
    found.summary()


def test_random_anchors_have_the_mean_and_covariance_of_the_real_ones() -> None:
    real = np.random.default_rng(0).standard_normal((4000, 3)) @ np.diag([1.0, 2.0, 3.0]) + 5
    like = covariance_matched(real, 0)
    assert like.mean(0) == pytest.approx(real.mean(0), abs=0.2)
    assert np.cov(like.T) == pytest.approx(np.cov(real.T), abs=0.5)


def test_mistakes_are_told(carroll: Target) -> None:
    with pytest.raises(UserError, match="one token"):
        regions(carroll, CONFIG, carrier="the")
    with pytest.raises(UserError, match="2000 last tokens"):
        regions(carroll, CONFIG.model_copy(update={"anchors": 2000}))
    with pytest.raises(UserError, match="another model"):
        regions(LanguageModel(model="carroll/step-0", sites=("*.up_proj",), text="carroll").target(), CONFIG, unbraid.load("carroll"))
    with pytest.raises(UserError, match="No site"):
        regions(carroll, CONFIG.model_copy(update={"site": -1}), unbraid.load("carroll"))


def test_the_same_seed_gives_the_same_map(carroll: Target, found: RegionsResult) -> None:
    torch.manual_seed(123)
    assert regions(carroll, CONFIG, unbraid.load("carroll")).tree() == found.tree()

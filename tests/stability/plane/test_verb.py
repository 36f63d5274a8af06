"""Planes of a real model: the anchors answer as the model does, controls stand beside, and what is saved is read back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unbraid.core.errors import UserError
from unbraid.stability.plane.result import PlaneResult
from unbraid.stability.plane.verb import PlaneConfig, plane
from unbraid.targets.models.language_model import LanguageModel
from unbraid.targets.target import Target

CONFIG = PlaneConfig(planes=2, resolution=9, context=6)


@pytest.fixture(scope="module")
def carroll() -> Target:
    return LanguageModel(model="carroll", sites=("*.up_proj",), text="carroll").target()


@pytest.fixture(scope="module")
def found(carroll: Target) -> PlaneResult:
    return plane(carroll, CONFIG)


def test_at_the_anchors_the_answer_is_the_models_own(found: PlaneResult) -> None:
    assert set(found.pictures) == {"model", "untrained"}
    for pictures in found.pictures.values():
        assert pictures.fidelity.max() < 1e-5


def test_prompts_are_given_as_words(carroll: Target) -> None:
    found = plane(carroll, CONFIG, ["Alice was not", "said the", "in the garden"])
    assert found.prompts == (("Alice was not", "said the", "in the garden"),)
    assert found.is_text and all(found.words[int(label)] for label in np.unique(found.pictures["model"].label))
    single = found.numbers["sharpness"]["model"]
    assert single is not None and single.n == 1


def test_a_linear_model_needs_half_of_the_plane() -> None:
    target = Target(nn.Sequential(nn.Linear(6, 5)), sites="*", data=[torch.randn(60, 6)])
    found = plane(target, CONFIG)
    for share in found.pictures["model"].sharpness():
        assert share == pytest.approx(0.5, abs=1e-3)
    assert not found.is_text


def test_what_is_saved_is_read_back(found: PlaneResult, tmp_path: Path) -> None:
    again = PlaneResult.from_pretrained(found.save_pretrained(tmp_path / "plane"))
    assert again.tree() == found.tree()
    assert again.plot_plane().svg() == found.plot_plane().svg()


def test_without_the_untrained_model_it_is_provisional(carroll: Target) -> None:
    found = plane(carroll, CONFIG.model_copy(update={"untrained": False}))
    assert found.is_provisional and "provisional" in str(found.summary().title)


def test_a_plane_without_any_change_is_undefined_and_not_0() -> None:
    module = nn.Sequential(nn.Linear(6, 5))
    nn.init.zeros_(module[0].weight)
    found = plane(Target(module, sites="*", data=[torch.randn(60, 6)]), CONFIG.model_copy(update={"untrained": False}))
    assert all(math.isnan(share) for share in found.pictures["model"].sharpness())
    assert found.numbers["sharpness"]["model"] is None
    found.plot_plane()
    found.summary()


def test_mistakes_are_told(carroll: Target, found: PlaneResult) -> None:
    with pytest.raises(UserError, match="goes through three"):
        plane(carroll, CONFIG, ["one", "two"])
    with pytest.raises(UserError, match="empty prompt"):
        plane(carroll, CONFIG, ["one", "two", ""])
    with pytest.raises(UserError, match="one line"):
        plane(carroll, CONFIG, ["the", "the", "to"])
    with pytest.raises(UserError, match="Plane 2 was asked"):
        found.plot_plane(2)
    with pytest.raises(UserError, match="model 'trained'"):
        found.plot_plane(0, "trained")


def test_both_themes_can_be_drawn(found: PlaneResult) -> None:
    for theme in ("light", "dark"):
        assert "answers as at A" in found.plot_plane(1, "untrained", theme).svg()


def test_drawn_prompts_on_one_line_are_left_out() -> None:
    module = nn.Sequential(nn.Linear(6, 5))
    on_a_line = torch.arange(1.0, 31.0)[:, None] * torch.ones(6)
    data = torch.cat([on_a_line, torch.randn(10, 6)])
    found = plane(Target(module, sites="*", data=[data]), CONFIG.model_copy(update={"untrained": False, "planes": 2}))
    assert len(found.pictures["model"].sharpness()) == 2

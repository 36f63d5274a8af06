from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unbraid.core.errors import UserError
from unbraid.stability.radius_config import RadiusConfig
from unbraid.stability.radius_result import RadiusResult
from unbraid.stability.radius_verb import radius
from unbraid.targets.models.language_model import LanguageModel
from unbraid.targets.target import Target
from unbraid.targets.toy import load_target
from unbraid.targets.toy_kit.denoiser import HotFeatures

QUICK = {"anchors": 3, "rays": 4, "pool": 12, "thickness_rays": 2, "inradius_steps": 3, "planes": 1, "mixtures": (2,)}
BARE = {"thickness_rays": 0, "inradius_steps": 0, "planes": 0, "mixtures": (), "untrained": False}


def config(**settings: object) -> RadiusConfig:
    return RadiusConfig.parse({**QUICK, **settings})


@pytest.fixture(scope="module")
def carroll() -> Target:
    return LanguageModel.parse({"model": "carroll", "text": "carroll", "sites": ["*_proj"]}).target()


@pytest.fixture(scope="module")
def measured(carroll: Target) -> RadiusResult:
    return radius(carroll, config(directions=["random", "difference", "components:carroll"]))


def clean_denoiser() -> Target:
    """The denoiser at inputs without noise, at which its own checks are made."""
    toy = load_target("denoiser")
    return Target(toy.module, sites="read", data=HotFeatures(128, 2, 0.0), truth=toy.truth, name="denoiser")


@pytest.mark.parametrize("planes", [12, pytest.param(48, marks=pytest.mark.slow)])
def test_denoiser_singles_features_out_by_the_verb_as_by_its_own_checks(planes: int) -> None:
    settings = {**BARE, "directions": ["random", "features"], "anchors": planes, "pool": 64, "rays": 2, "planes": planes, "furthest": 2.0}
    found = radius(clean_denoiser(), RadiusConfig.parse(settings)).facts()["planes"]
    assert 2.8 <= found["features"]["p"]["value"] <= 3.5
    for null in ("random", "features mixed"):
        assert 1.85 <= found[null]["p"]["value"] <= 2.15
        assert found["features"]["radius"]["high"] < 0.9 * found[null]["radius"]["low"]
    assert (found["features"]["planes"], found["features"]["undefined"]) == (planes, 0)


def test_denoiser_features_break_out_sooner_while_their_answer_is_not_saturated() -> None:
    settings = {**BARE, "directions": ["random", "features"], "share": 0.25}
    features = radius(load_target("denoiser"), RadiusConfig.parse(settings)).rows[1]
    assert (features["family"], features["null"]) == ("features", "features mixed")
    assert features["median / null's"]["high"] < 1
    assert features["5 % / null's"]["high"] < 1


def test_linear_model_has_no_plateau_and_exponent_two() -> None:
    layer = nn.Sequential(nn.Linear(6, 9))
    target = Target(layer, sites="*", data=lambda size, generator: torch.randn(size, 6, generator=generator), name="linear")
    found = radius(target, RadiusConfig.parse({**QUICK, "directions": ["random"], "planes": 6, "untrained": False}))
    (row,) = found.rows
    assert row["plateaus"]["value"] == 0
    assert row["halfway"]["value"] == pytest.approx(0.5, abs=0.01)
    assert (row["no peak"], row["thickness"]) == (6, None)
    facts = found.facts()
    assert facts["planes"]["random"]["p"]["value"] == pytest.approx(2.0, abs=0.1)
    assert facts["mixtures"]["random"][0]["p"]["value"] == pytest.approx(2.0, abs=0.1)
    assert facts["nearest"][found.thresholds[0][0]]["found / predicted"]["value"] == pytest.approx(1.0, abs=0.02)


def test_language_model_is_measured_by_both_thresholds_with_its_nulls_and_untrained(measured: RadiusResult) -> None:
    own = ("random", "difference", "components:carroll", "components:carroll mixed", "covariance")
    assert measured.families == own
    assert (measured.turns, measured.furthest, measured.place) == (True, 90.0, "block 0")
    assert [row["rays"] for row in measured.rows] == [12] * 10
    assert all(0 < row["median"]["value"] < 90 for row in measured.rows)
    assert measured.rows[2]["null"] == "components:carroll mixed"
    assert measured.control is not None
    assert measured.control.families == ("random", "covariance")
    assert measured.floor < 0.01
    nearest = measured.facts()["nearest"]["0.05 bits of JSD"]
    assert nearest["found"]["value"] < measured.rows[5]["5 %"]["value"]


def test_untrained_model_never_leaves_by_bits_and_says_so(measured: RadiusResult) -> None:
    assert measured.control is not None
    bits = measured.control.rows[-1]
    assert (bits["threshold"], bits["censored"], bits["median"]["value"], bits["plateaus"]) == ("0.05 bits of JSD", 12, None, None)


def test_directions_keep_the_norm_and_do_not_depend_on_which_others_are_asked(carroll: Target, measured: RadiusResult) -> None:
    alone = radius(carroll, config(directions=["difference"], **BARE))
    where = {name: index for index, name in enumerate(measured.families)}
    np.testing.assert_array_equal(alone.arrays["directions"][:, 0], measured.arrays["directions"][:, where["difference"]])
    np.testing.assert_allclose(alone.arrays["radii"][:, 0], measured.arrays["radii"][:, where["difference"]], rtol=0, atol=0.1)


def test_result_comes_back_from_its_folder(measured: RadiusResult, tmp_path: Path) -> None:
    again = RadiusResult.from_pretrained(measured.save_pretrained(tmp_path / "radii"))
    assert again.facts() == measured.facts()
    assert json.loads(json.dumps(again.tree())) == json.loads(json.dumps(measured.tree()))
    for name, values in measured.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], values)


def test_result_without_an_untrained_control_is_provisional(carroll: Target, measured: RadiusResult) -> None:
    assert "PROVISIONAL" not in str(measured.summary().caption)
    assert "PROVISIONAL" in str(radius(carroll, config(directions=["random"], **BARE)).summary().caption)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_survival_figure_shows_every_family_and_what_was_censored(measured: RadiusResult, theme: str) -> None:
    assert measured.control is not None
    plot = measured.plot_survival(theme=theme)  # type: ignore[arg-type]
    assert [curve["name"] for curve in plot.data["curves"]] == list(measured.families)
    assert "difference" in plot.svg()
    lost = measured.control.plot_survival(1)
    assert [curve["censored"] for curve in lost.data["curves"]] == [12, 12]
    assert "12 of 12 censored" in lost.svg()
    assert "undefined" in lost.svg()


def test_every_table_can_be_shown(measured: RadiusResult, capsys: pytest.CaptureFixture[str]) -> None:
    measured.show()
    assert "untrained" in capsys.readouterr().out
    assert "<table>" in measured._repr_html_()


@pytest.mark.parametrize("name", ["tms-5-2", "residual-mlp-1"])
def test_other_toys_are_measured_too(name: str) -> None:
    found = radius(load_target(name), config(directions=["random", "difference"], untrained=False))
    assert not found.turns
    assert len(found.rows) == 3


def test_model_that_answers_everything_alike_is_refused() -> None:
    layer = nn.Sequential(nn.Linear(4, 3))
    nn.init.zeros_(layer[0].weight)  # type: ignore[arg-type]
    target = Target(layer, sites="*", data=lambda size, generator: torch.randn(size, 4, generator=generator))
    with pytest.raises(UserError, match="answered alike"):
        radius(target, config(directions=["random"]))

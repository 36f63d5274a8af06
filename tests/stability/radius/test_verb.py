from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from unbraid.core.errors import UserError
from unbraid.stability.engine.prompts import draw_prompts
from unbraid.stability.radius.config import RadiusConfig
from unbraid.stability.radius.result import RadiusResult
from unbraid.stability.radius.verb import radius
from unbraid.targets.models.language_model import LanguageModel
from unbraid.targets.target import Target
from unbraid.targets.toy import find_toy, load_target

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


PLANTED: dict[str, Any] = {
    **BARE,
    "directions": ["random", "features", "features-rotated"],
    "anchors": 16,
    "rays": 8,
    "planes": 16,
    "pool": 96,
}
MAIN = "0.5 × what one feature more does to an answer"
BESIDE = "0.5 × the distance between two real answers"


def denoiser_rows(found: RadiusResult, threshold: str) -> dict[str, dict[str, Any]]:
    return {row["family"]: row for row in found.rows if row["threshold"] == threshold}


@pytest.fixture(scope="module")
def denoised() -> RadiusResult:
    """What is told of the denoiser by default, of fewer anchors."""
    return radius(load_target("denoiser"), RadiusConfig.parse(PLANTED))


@pytest.fixture(scope="module")
def noisy() -> RadiusResult:
    return radius(load_target("denoiser"), RadiusConfig.parse({**PLANTED, "inputs": "noisy"}))


def test_denoiser_singles_its_features_out_and_neither_mixtures_nor_rotated_ones(denoised: RadiusResult) -> None:
    facts = denoised.facts()["planes"]
    assert 2.8 <= facts["features"]["p"]["value"] <= 3.5
    for null in ("random", "features mixed", "features-rotated"):
        assert 1.85 <= facts[null]["p"]["value"] <= 2.15
    assert [facts[name]["undefined"] for name in denoised.families] == [0] * 4


@pytest.mark.parametrize("knobs", [{"seed": 1}, {"n_features": 256, "neurons": 96, "density": 0.1}])
def test_other_weights_and_shapes_of_the_denoiser_single_their_features_out(knobs: dict[str, Any]) -> None:
    target = type(find_toy("denoiser")).parse(knobs).target()
    found = radius(target, RadiusConfig.parse({**PLANTED, "rays": 4}))
    facts, rows = found.facts()["planes"], denoiser_rows(found, MAIN)
    assert 2.8 <= facts["features"]["p"]["value"] <= 3.5
    assert 1.85 <= facts["features-rotated"]["p"]["value"] <= 2.15
    assert rows["features"]["median / null's"]["high"] < 0.9


def test_denoiser_features_break_out_sooner_at_half_of_what_a_feature_does(denoised: RadiusResult, noisy: RadiusResult) -> None:
    for found in (denoised, noisy):
        rows = denoiser_rows(found, MAIN)
        assert rows["features"]["null"] == rows["features-rotated"]["null"] == "features mixed"
        assert rows["features"]["median / null's"]["high"] < 0.95
        assert rows["features"]["median"]["high"] < rows["random"]["median"]["low"]
        assert rows["features-rotated"]["median / null's"]["high"] > 0.95


def test_rays_further_into_a_feature_that_is_on_are_censored_and_here_no_others(denoised: RadiusResult) -> None:
    anchors = draw_prompts(load_target("denoiser"), 16 + 96, denoised.config.context, denoised.config.seed, "clean")[:16].numpy()
    family = denoised.families.index("features")
    further = np.einsum("ad,ard->ar", anchors, denoised.arrays["directions"][:, family]) > 0.5
    lost = np.isinf(denoised.arrays["radii"][:, family, :, 0])
    assert lost.any()
    assert not (lost & ~further).any()


def test_half_of_the_distance_between_two_sets_of_two_features_is_where_one_feature_saturates(denoised: RadiusResult) -> None:
    assert denoised.units["answers"] / 2 == pytest.approx(denoised.units["feature"], rel=0.1)
    assert [name for name, _, _ in denoised.thresholds] == [MAIN, BESIDE]
    rows = denoiser_rows(denoised, BESIDE)
    assert rows["features"]["censored"] > 0.15 * rows["features"]["rays"]
    assert rows["random"]["censored"] == 0


def test_noise_at_the_anchor_hides_a_part_of_the_exponent(denoised: RadiusResult, noisy: RadiusResult) -> None:
    own, other = (found.facts()["planes"]["features"]["p"] for found in (denoised, noisy))
    assert other["high"] < own["low"]
    assert other["low"] > 2.2


def test_result_says_at_which_inputs_and_in_which_unit(denoised: RadiusResult, noisy: RadiusResult, tmp_path: Path) -> None:
    assert (denoised.where, noisy.where) == ("input, clean inputs", "input, noisy inputs")
    assert denoised.tree()["config"]["inputs"] == "clean"
    assert "clean inputs" in str(denoised.summary().title)
    assert "One feature more moves an answer by" in str(denoised.summary().caption)
    assert "clean inputs" in denoised.plot_survival().data["title"]
    again = RadiusResult.from_pretrained(denoised.save_pretrained(tmp_path / "radii"))
    assert (again.units, again.where) == (denoised.units, denoised.where)


def test_unit_can_be_the_distance_between_answers(carroll: Target) -> None:
    found = radius(load_target("denoiser"), config(directions=["random"], unit="answers", **BARE))
    assert [name for name, _, _ in found.thresholds] == [BESIDE, MAIN]
    with pytest.raises(UserError, match="No features are planted in the inputs of 'carroll'"):
        radius(carroll, config(directions=["random"], unit="feature", **BARE))


def test_noise_is_only_asked_of_targets_that_know_theirs(carroll: Target) -> None:
    for target in (carroll, load_target("tms-5-2")):
        with pytest.raises(UserError, match="does not know noise of its inputs"):
            radius(target, config(inputs="clean", **BARE))


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
    assert len(found.rows) == 3 * len(found.units)
    assert next(iter(found.units)) == "feature"


def test_model_that_answers_everything_alike_is_refused() -> None:
    layer = nn.Sequential(nn.Linear(4, 3))
    nn.init.zeros_(layer[0].weight)  # type: ignore[arg-type]
    target = Target(layer, sites="*", data=lambda size, generator: torch.randn(size, 4, generator=generator))
    with pytest.raises(UserError, match="answered alike"):
        radius(target, config(directions=["random"]))

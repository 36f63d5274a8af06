from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import torch

from tests.models import mlp
from unbraid.core.errors import UserError
from unbraid.decompose import plots
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.plot_importance import importance_data
from unbraid.decompose.plot_observe import observe
from unbraid.decompose.plot_scorecard import error_share
from unbraid.decompose.result import Decomposition
from unbraid.decompose.scorecard import Bar, Scorecard
from unbraid.decompose.verb import decompose
from unbraid.drawing.plot_style import THEMES, Plot, rounded
from unbraid.targets.target import Target
from unbraid.targets.toy import load_target
from unbraid.targets.toys.compiled_blocks import CompiledBlocks

QUICK = {
    "steps": 20,
    "batch_size": 64,
    "components": 8,
    "log_every_steps": 5,
    "importance": {"kind": "layerwise-mlp", "hidden": 8},
    "evaluation": {"batches": 2, "batch_size": 64, "adversary_steps": [2, 4], "ladder_batches": 1},
}
Run = tuple[Decomposition, Scorecard]


def run_of(target: Target) -> Run:
    result = decompose(target, DecomposeConfig.parse(QUICK))
    return result, result.scorecard()


@pytest.fixture(scope="module")
def run() -> Run:
    torch.manual_seed(0)
    return run_of(load_target("tms-5-2"))


@pytest.fixture(scope="module")
def sequence_run() -> Run:
    """No known truth, and importances of shape [batch, pos, C]."""
    torch.manual_seed(0)
    return run_of(Target(mlp(), sites="*", data=[torch.randn(16, 3, 4)]))


@pytest.fixture(scope="module")
def drawn(run: Run) -> dict[str, Plot]:
    decomposition, scorecard = run
    return {
        "importance": plots.plot_importance(decomposition),
        "pieces": plots.plot_pieces(decomposition),
        "directions": plots.plot_directions(decomposition),
        "training": plots.plot_training(decomposition),
        "spectrum": plots.plot_spectrum(scorecard),
        "ladder": plots.plot_ladder(scorecard),
        "scorecard": plots.plot_scorecard(scorecard),
    }


def test_every_figure_is_a_method_of_what_it_shows(drawn: dict[str, Plot], run: Run) -> None:
    decomposition, scorecard = run
    methods = {
        name: getattr(decomposition if hasattr(decomposition, f"plot_{name}") else scorecard, f"plot_{name}") for name in plots.DRAWINGS
    }
    for name, method in methods.items():
        assert method().data == drawn[name].data, name
    assert methods["ladder"](theme="dark").svg() == plots.plot_ladder(scorecard, "dark").svg() != drawn["ladder"].svg()


def test_an_unknown_figure(drawn: dict[str, Plot]) -> None:
    with pytest.raises(UserError, match="'ladders'.*'ladder'"):
        plots.draw("ladders", drawn["ladder"].data)


def artist(plot: Plot, label: str, panel: int = 0) -> Any:
    return plot.figure.axes[panel].findobj(lambda found: found.get_label() == label)[0]


def test_every_figure_is_drawn(drawn: dict[str, Plot], run: Run) -> None:
    assert set(drawn) == set(plots.DRAWINGS) == set(plots.figure_data(*run))


@pytest.mark.parametrize("name", list(plots.DRAWINGS))
@pytest.mark.parametrize("theme", list(THEMES))
def test_an_svg_is_whole_and_the_same_twice(drawn: dict[str, Plot], name: str, theme: str) -> None:
    data = json.loads(json.dumps(drawn[name].data))
    first, second = (plots.draw(name, data, theme).svg() for _ in range(2))  # type: ignore[arg-type]
    assert first == second
    ElementTree.fromstring(first)
    assert "<metadata" not in first and "<text" in first
    assert f"fill: {THEMES[theme].surface}" in first  # type: ignore[index]


@pytest.mark.parametrize("name", ["importance", "pieces"])
def test_matrices_show_their_numbers(drawn: dict[str, Plot], name: str) -> None:
    for index, panel in enumerate(drawn[name].data["panels"]):
        if panel["columns"]:
            np.testing.assert_array_equal(artist(drawn[name], "cells", index).get_array(), np.ravel(panel["values"]))


def test_importances_are_those_of_the_probes(drawn: dict[str, Plot], run: Run) -> None:
    truth = run[0].target.truth
    assert truth is not None
    g = run[0].importance(truth.one_hot)
    for panel in drawn["importance"].data["panels"]:
        for at, column in enumerate(panel["columns"]):
            wanted = g[panel["site"]][:, column] if column >= 0 else torch.zeros(5)
            assert [row[at] for row in panel["values"]] == pytest.approx(wanted.tolist(), rel=1e-3)
        shown = sum(column >= 0 for column in panel["columns"])
        assert shown + panel["never_on"] == 8


def test_pieces_are_compared_with_what_the_scorecard_calls_alive(drawn: dict[str, Plot], run: Run) -> None:
    for panel in drawn["pieces"].data["panels"]:
        assert len(panel["columns"]) == run[1][f"alive/{panel['site']}"].value.value
        assert panel["mean_best_cosine"] >= run[1]["piece_cosine"].value.value - 1e-3


def test_curves_show_their_numbers(drawn: dict[str, Plot]) -> None:
    training, spectrum, ladder = drawn["training"], drawn["spectrum"], drawn["ladder"]
    np.testing.assert_array_equal(artist(training, "curve-stochastic").get_ydata(), training.data["losses"]["stochastic"])
    np.testing.assert_array_equal(artist(ladder, "lost").get_ydata(), ladder.data["lost"])
    np.testing.assert_array_equal(artist(ladder, "oracle").get_ydata(), ladder.data["oracle"])
    panel = spectrum.data["panels"][0]
    points = [*artist(spectrum, "used").get_ydata(), *artist(spectrum, "unused").get_ydata()]
    assert points == [max(value, spectrum.data["floor"]) for value in panel["mean_importance"]]
    assert panel["planted"] == 5


def test_directions_show_their_numbers(drawn: dict[str, Plot], run: Run) -> None:
    panel = drawn["directions"].data["panels"][0]
    truth = run[0].target.truth
    assert truth is not None
    assert np.asarray(panel["planted"]) == pytest.approx(truth.sites["linear1"].U.numpy(), rel=1e-3)
    if panel["recovered"]:
        np.testing.assert_array_equal(artist(drawn["directions"], "recovered").get_offsets(), panel["recovered"])


def test_the_scorecard_figure_agrees_with_the_verdict(drawn: dict[str, Plot], run: Run) -> None:
    for row in drawn["scorecard"].data["lines"]:
        assert (row["value"] <= 1) == run[1][row["key"]].passed
        assert artist(drawn["scorecard"], f"line-{row['key']}").get_xdata()[0] == row["value"]


def test_sequences_without_a_truth(sequence_run: Run) -> None:
    decomposition, scorecard = sequence_run
    data = plots.figure_data(decomposition, scorecard)
    assert not {"pieces", "directions"} & set(data)
    assert len(data["importance"]["panels"][0]["values"]) == 48
    assert all(plots.draw(name, numbers).svg() for name, numbers in data.items())
    for missing in (plots.plot_pieces, plots.plot_directions):
        with pytest.raises(UserError, match="has no"):
            missing(decomposition)


def test_a_figure_is_saved_with_its_numbers(drawn: dict[str, Plot], tmp_path: Path) -> None:
    drawn["ladder"].save(tmp_path, "ladder")
    assert json.loads((tmp_path / "ladder.json").read_text(encoding="utf-8")) == drawn["ladder"].data
    assert (tmp_path / "ladder.svg").read_text(encoding="utf-8") == drawn["ladder"].svg()


def test_many_features_stay_small_and_the_settings_stay_as_they_were() -> None:
    before = dict(mpl.rcParams)
    noisy = torch.rand(100, 120, generator=torch.Generator().manual_seed(0))
    panel = {"site": "s", "pattern": "per_feature", "planted": 100, "rows": "features", "columns": list(range(120)), "own": 100}
    data = {"panels": [{**panel, "values": rounded(noisy, 4), "wrong": [[1, 2]], "never_on": 0}], "sites": 1, "tolerance": 0.1}
    assert len(plots.draw("importance", data).svg()) < 100_000
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("value", "bar", "share"),
    [(0.5, Bar(high=1.0), 0.5), (0.0, Bar(high=0.0), 0.001), (1.0, Bar(high=0.0), 1000.0), (0.98, Bar(low=0.99), 2.0), (5.0, Bar(4, 6), 0.001),
     (6.0, Bar(4, 6), 1.0), (4.0, Bar(low=8.0), 2.0), (1.0, Bar(low=0.99), 0.001)],
)  # fmt: skip
def test_error_as_a_share_of_what_the_bar_allows(value: float, bar: Bar, share: float) -> None:
    assert error_share(value, bar) == pytest.approx(share)
    assert (error_share(value, bar) <= 1) == bar.met_by(value)


def test_a_truth_that_loses_nothing_does_not_stretch_the_ladder(drawn: dict[str, Plot]) -> None:
    numbers = {**drawn["ladder"].data, "oracle": [1e-12, 0.0]}
    ladder = plots.draw("ladder", numbers)
    assert ladder.data["oracle"] == [1e-12, 0.0]
    assert list(artist(ladder, "oracle").get_ydata()) == [1e-4, 1e-4]
    assert ladder.figure.axes[0].get_ylim()[0] > 1e-5
    assert "cut at 10⁻⁴" in ladder.svg() and "planted truth, below 10⁻⁴" in ladder.svg()
    assert "cut at" not in drawn["ladder"].svg()


def test_rows_of_a_sparse_site_are_fresh_inputs_and_its_columns_stand_by_planted_module() -> None:
    torch.manual_seed(0)
    toy = CompiledBlocks.parse({"modules": 3, "d_in": 4, "d_mlp": 4})
    target = toy.target()
    result = decompose(target, DecomposeConfig.parse({**QUICK, "components": 12}))
    assert target.truth is not None
    planted = target.truth.sites["mlp_in"]
    at = torch.randperm(12)  # where each planted piece stands
    with torch.no_grad():
        V, U = result.model.sites["mlp_in"].factors.views()
        V[:, at], U[at] = planted.V, planted.U
    data = importance_data(result, observe(result))
    panel = next(panel for panel in data["panels"] if panel["site"] == "mlp_in")
    assert (panel["rows"], panel["pattern"], panel["planted"]) == ("inputs", "sparse", 12)
    piece_at = {int(column): piece for piece, column in enumerate(at.tolist())}
    modules = [planted.modules[piece_at[column]] for column in panel["columns"]]
    assert len(set(modules)) == 3
    changes = sum(a != b for a, b in itertools.pairwise(modules))
    assert changes == 2
    assert "fresh inputs" in plots.plot_importance(result).svg()

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from unbraid.cli.app import Commands
from unbraid.cli.stability_radius import radius
from unbraid.stability.radius.result import RadiusResult

QUICK = ["--anchors=3", "--rays=2", "--set=pool=12", "--set=planes=1", "--set=mixtures=[2]", "--set=inradius_steps=2"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Run the command, from within `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer(cls=Commands)
    app.command("radius")(radius)
    app.callback()(lambda: None)
    return lambda *arguments: CliRunner().invoke(app, ["radius", *map(str, arguments)])


def test_radii_are_shown_saved_and_drawn(run: object, tmp_path: Path) -> None:
    told: Result = run("denoiser", "--directions=random,features", "--out=radii", *QUICK)  # type: ignore[operator]
    assert told.exit_code == 0, told.output
    assert "features mixed" in told.stdout
    assert told.stdout.splitlines()[-1].startswith("Saved: radii")
    assert RadiusResult.from_pretrained(tmp_path / "radii").families == ("random", "features", "features mixed")
    assert (tmp_path / "radii" / "figures" / "survival-0.svg").is_file()


def test_knobs_of_a_toy_its_inputs_and_the_unit_are_options(run: object) -> None:
    options = ["--directions=random", "--inputs=noisy", "--unit=answers", "--set=target.n_features=64", "--json"]
    told: Result = run("denoiser", *options, *QUICK)  # type: ignore[operator]
    tree = json.loads(told.stdout)
    assert tree["target"] == "denoiser (n_features=64)"
    assert (tree["config"]["inputs"], tree["config"]["unit"], list(tree["units"])) == ("noisy", "answers", ["answers", "feature"])
    assert [row["threshold"] for row in tree["facts"]["radii"]] == [
        "0.5 × the distance between two real answers",
        "0.5 × what one feature more does to an answer",
    ]


def test_json_is_one_object(run: object) -> None:
    told: Result = run("carroll", "--directions=random", "--json", *QUICK)  # type: ignore[operator]
    tree = json.loads(told.stdout)
    assert [row["family"] for row in tree["facts"]["radii"]] == ["random", "random"]
    assert tree["folder"] is None
    assert tree["untrained"]["families"] == ["random", "covariance"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["denoiser", "--directions=featurs"], "Closest: 'features'"),
        (["carroll", "--directions=features"], "Nothing is planted"),
        (["carroll", "--directions=components:nowhere"], "There is no decomposition 'nowhere'"),
        (["denoiser", "--set=anchor=3"], "Closest: 'anchors'"),
        (["denoiser", "--set=target.density=2"], "density"),
        (["denoiser", "--inputs=dirty"], "inputs"),
        (["carroll", "--inputs=clean"], "does not know noise"),
        (["carroll", "--unit=feature"], "No features are planted"),
        (["carroll", "--set=target.density=0.1"], "is no toy"),
        (["denoiser", "--site=7"], "Block 7 was asked for"),
        (["nowhere"], "nowhere"),
    ],
)
def test_mistake_is_one_line(run: object, arguments: list[str], words: str) -> None:
    told: Result = run(*arguments, *QUICK)  # type: ignore[operator]
    assert told.exit_code == 2
    assert words in told.stderr
    assert "Traceback" not in told.stderr

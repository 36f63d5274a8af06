"""Does `unbraid decompose` leave a whole run, and say so to people and to programs?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import QUICK, Cli
from unbraid.core.errors import UserError
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.preset import resolve
from unbraid.decompose.result import Decomposition
from unbraid.decompose.scorecard import Scorecard
from unbraid.targets.target import Target
from unbraid.targets.toy import Toy


def test_prints_the_scorecard_and_what_to_run_next(cli: Cli, tmp_path: Path) -> None:
    told = cli("decompose", "tms-5-2", *QUICK, "--seed", 3)
    assert (told.code, told.err) == (0, "")
    lines = told.out.splitlines()
    assert "Scorecard: tms-5-2, seed 3, step 60" in lines[0]
    assert "untrained" in told.out  # the nulls have room where nobody set a width
    assert lines[-1].endswith("measure again with: unbraid score runs/tms-5-2-seed3-1")
    run = tmp_path / "runs" / "tms-5-2-seed3-1"
    names = {path.name for path in run.iterdir()}
    assert names == {
        "config.yaml",
        "env.json",
        "manifest.json",
        "metrics.jsonl",
        "model.safetensors",
        "scorecard.json",
        "state",
        "target.safetensors",
    }
    assert Decomposition.from_pretrained(run).step == 60


def test_second_run_takes_the_next_folder(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "runs" / "tms-5-2-seed0-1").mkdir(parents=True)
    assert json.loads(cli("decompose", "tms-5-2", *QUICK, "--json").out)["folder"] == "runs/tms-5-2-seed0-2"


def test_json_is_one_object_and_score_measures_the_same(cli: Cli, tmp_path: Path) -> None:
    told = cli("decompose", "tms-5-2", *QUICK, "--out", "run", "--json")
    assert (told.code, told.err) == (0, "")
    first = json.loads(told.out)
    assert (first["target"], first["step"], first["folder"], first["report"]) == ("tms-5-2", 60, "run", None)
    assert json.loads((tmp_path / "run" / "scorecard.json").read_text())["lines"] == first["lines"]
    (tmp_path / "run" / "scorecard.json").unlink()
    again = json.loads(cli("score", "run", "--no-report", "--json").out)
    assert again == first
    assert (tmp_path / "run" / "scorecard.json").exists()


def test_narrow_terminals_get_a_narrow_table(cli: Cli, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = cli("score", finished, "--no-report").out.splitlines()
    assert max(len(line) for line in told[:-1]) <= 80
    assert any("terminals of" in line for line in told)


def test_score_is_strict_only_on_demand(cli: Cli, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("score", finished, "--no-report").code == 0
    assert cli("score", finished, "--no-report", "--strict").code == 1
    monkeypatch.setattr(Scorecard, "passed", True)
    assert cli("score", finished, "--no-report", "--strict", "--json").code == 0


def test_resuming_a_finished_run_says_so_and_scores_it(cli: Cli, finished: Path) -> None:
    model = (finished / "model.safetensors").read_bytes()
    environment = (finished / "env.json").read_bytes()
    told = cli("decompose", "--resume", finished, "--no-report")
    assert told.code == 0
    assert "is finished" in told.err
    assert "Scorecard: tms-5-2" in told.out
    assert (finished / "model.safetensors").read_bytes() == model
    assert (finished / "env.json").read_bytes() == environment


def test_interrupt_while_measuring(cli: Cli, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Decomposition) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Decomposition, "scorecard", interrupted)
    told = cli("score", finished)
    assert (told.code, told.out) == (130, "")
    assert f"the run is whole. Measure it with: unbraid score {finished}" in told.err


def test_two_runs_of_one_seed_are_the_same(cli: Cli, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert cli("decompose", "tms-5-2", *QUICK, "--out", name).code == 0
    for name in ("model.safetensors", "config.yaml", "metrics.jsonl", "scorecard.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_published_size_is_the_papers_with_components_to_match(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[DecomposeConfig] = []

    def stop_before_training(self: Toy, weights: Path | None = None) -> Target:
        raise UserError("enough", "enough")

    def keep(*given: Any, **named: Any) -> DecomposeConfig:
        seen.append(resolve(*given, **named))
        return seen[-1]

    monkeypatch.setattr(Toy, "target", stop_before_training)
    monkeypatch.setattr("unbraid.decompose.preset.resolve", keep)
    cli("decompose", "residual-mlp-2", "--published-size", "--out", str(tmp_path / "run"))
    assert seen[0].target is not None
    assert seen[0].target["n_features"] == 100
    assert seen[0].target["d_mlp"] == 25
    assert seen[0].components == {"*.mlp_in": 300, "*.mlp_out": 50}


@pytest.mark.parametrize("given", [["tms-5-2"], []])
def test_published_size_names_the_targets_that_have_one(cli: Cli, given: list[str]) -> None:
    done = cli("decompose", *given, "--published-size")
    assert done.code == 2
    assert "residual-mlp-2, residual-mlp-3" in done.err

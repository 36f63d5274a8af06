from __future__ import annotations

import json
from pathlib import Path

import pytest

from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.result import Decomposition
from unbraid.decompose.verb import decompose
from unbraid.targets.target import Target
from unbraid.verify import run as running
from unbraid.verify.case import Case
from unbraid.verify.run import known_record, run_case
from unbraid.verify.verb import VerifyConfig, verify

SHORT = ("steps=4", "warmup.steps=2", "evaluation.batches=2", "evaluation.batch_size=64", "evaluation.adversary_steps=[1,2]")
CASE = Case("tms-5-2", overrides=SHORT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("verify")
    run_case(CASE, place)
    return place


def test_a_record_holds_the_case_the_lines_and_the_cost(folder: Path) -> None:
    record = known_record(CASE, folder)
    assert record is not None
    assert record["case"] == CASE.tree()
    assert record["steps"] == 4
    assert not record["passed"]
    assert set(record["failed_lines"]) <= set(record["lines"])
    assert record["cpu_seconds"] > 0
    assert record["lines"]["identity_error"]["bar"] == "≤ 0"
    assert {"untrained", "shuffled", "zero"} <= set(record["lines"]["identity_error"]["nulls"])


def test_finished_cases_are_not_run_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[int, int]] = []
    config = VerifyConfig(seeds=1, controls=False, overrides=SHORT)
    result = verify(["tms-5-2"], config, folder, report=lambda record, done, count: said.append((done, count)))
    assert said == [(1, 1)]
    assert json.loads((folder / "verification.json").read_text())["toys"][0]["title"] == "tms-5-2"
    assert result.rows[0].seeds == 1


def test_a_record_of_other_code_or_settings_is_not_taken_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert known_record(Case("tms-5-2", overrides=("steps=5", *SHORT[1:])), folder) is None
    monkeypatch.setattr(running, "code_of", lambda toy: "other")
    assert known_record(CASE, folder) is None


def test_a_case_that_is_finished_but_not_scored_is_only_scored(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / CASE.name / running.RECORD).unlink()

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("decomposed again")

    monkeypatch.setattr(running, "decompose", never)
    again = run_case(CASE, tmp_path / "copy")
    before = known_record(CASE, folder)
    assert before is not None
    assert again["lines"]["mmcs"] == before["lines"]["mmcs"]


@pytest.mark.parametrize(("changed", "again"), [("code_of", 0), ("training_code_of", 1)])
def test_a_run_is_trained_again_only_where_training_code_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str, again: int
) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    trained: list[Path] = []

    def watched(target: Target, config: DecomposeConfig, run: Path, resume: bool) -> Decomposition:
        trained.append(run)
        return decompose(target, config, run, resume=resume)

    monkeypatch.setattr(running, "decompose", watched)
    monkeypatch.setattr(running, changed, lambda toy: "other")
    run_case(CASE, tmp_path / "copy")
    assert len(trained) == again


def test_controls_are_spoilt_and_stopped_ones_are_quick(tmp_path: Path) -> None:
    record = run_case(Case("tms-5-2", control="stopped at 5 %", overrides=("steps=40", *SHORT[1:])), tmp_path)
    assert record["steps"] == 2
    assert not record["passed"]

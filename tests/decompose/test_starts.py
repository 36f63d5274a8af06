from __future__ import annotations

from pathlib import Path

import pytest

import unbraid
from unbraid.core.metrics import read_metrics
from unbraid.decompose import verb
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.preset import resolve
from unbraid.decompose.starts import choose_start, objective
from unbraid.decompose.training import prepare

SHORT = ["steps=20", "batch_size=64", "warmup.steps=5", "log_every_steps=5", "save_every_steps=4", "prune=null"]


def short(*overrides: str) -> DecomposeConfig:
    return resolve("tms-5-2", overrides=[*SHORT, "starts={count: 3, until: 0.5}", *overrides])


def test_the_start_with_the_lowest_objective_goes_on() -> None:
    target, config = unbraid.load_target("tms-5-2"), short()
    seen: dict[int, float] = {}

    def watch_of(start: int, folder: Path | None) -> verb.Watch:
        return verb.Watch(
            lambda step, metrics: None, lambda training: seen.update({start: objective(training, target, config)}), lambda: False
        )

    best, finished = choose_start(prepare(target, config), target, config, None, watch_of)
    assert finished
    assert best.step == 10
    assert len(set(seen.values())) == 3
    assert best.start == min(seen, key=lambda start: seen[start])


def test_a_run_keeps_the_metrics_of_the_chosen_start_alone(tmp_path: Path) -> None:
    result = verb.decompose(unbraid.load_target("tms-5-2"), short(), tmp_path / "run")
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [5, 10, 15, 20]
    assert [row["step"] for row in result.metrics] == [5, 10, 15, 20]
    assert not (tmp_path / "run" / "starts").exists()


@pytest.mark.parametrize("stop_at", [2, 9, 13, 21, 27, 31, 37])
def test_stopped_in_any_start_and_resumed_ends_in_the_same_bits(tmp_path: Path, stop_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    target, config = unbraid.load_target("tms-5-2"), short()
    verb.decompose(target, config, tmp_path / "whole")
    asked = 0

    class StopAt(verb.StopRequest):
        def __call__(self) -> bool:
            nonlocal asked
            asked += 1
            return asked >= stop_at

    with monkeypatch.context() as patch:
        patch.setattr(verb, "StopRequest", StopAt)
        with pytest.raises(verb.Stopped):
            verb.decompose(target, config, tmp_path / "parts")
    verb.resume_run(tmp_path / "parts")
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

from __future__ import annotations

from pathlib import Path

from unbraid.core.metrics import append_metrics, cut_metrics, read_metrics


def test_lines_are_appended_and_cut_for_a_resumed_run(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    for step in (10, 20, 30):
        append_metrics(path, step, {"train/loss": step / 7})
    with path.open("a") as file:
        file.write('{"step": 40, "train/l')  # a killed run
    assert read_metrics(path) == [{"step": step, "train/loss": step / 7} for step in (10, 20, 30)]
    cut_metrics(path, 20)
    append_metrics(path, 30, {"train/loss": 1.0})
    assert [row["step"] for row in read_metrics(path)] == [10, 20, 30]
    assert read_metrics(path)[-1]["train/loss"] == 1.0

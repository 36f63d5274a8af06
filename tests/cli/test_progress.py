"""What does the live display say?"""

from __future__ import annotations

import pytest
from rich.console import Console

from unbraid.cli import progress
from unbraid.decompose.verb import Progress


def test_rate_and_remaining_time_are_counted_from_the_first_report() -> None:
    first = Progress(100, 700, {}, 5.0)
    assert progress.describe(first, 100, 5.0) == ""
    later = Progress(300, 700, {"train/loss": 0.01234, "train/l0": 1.5}, 9.0)
    assert progress.describe(later, 100, 5.0) == "50/s  0:00:08  loss 0.0123  L0 1.5"


def test_nothing_is_shown_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.live("run") as report, progress.watched("waiting") as update:
        assert report is None
        progress.reading(update)(3, 1_000_000)
    assert capsys.readouterr() == ("", "")


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("rich.console.Console", lambda stderr: Console(stderr=stderr, force_terminal=True, width=80, color_system=None))
    with progress.live("runs/tms-5-2-seed0-1") as report:
        assert report is not None
        report(Progress(10, 40, {"train/loss": 1.0, "train/l0": 2.0}, 1.0))
        report(Progress(40, 40, {"train/loss": 0.5, "train/l0": 2.0}, 2.0))
    told = capsys.readouterr()
    assert told.out == ""
    last = next(line for line in reversed(told.err.splitlines()) if "40/40" in line)
    assert "30/s" in last
    assert "loss 0.5" in last

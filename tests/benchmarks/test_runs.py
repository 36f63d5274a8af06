from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks import runs
from benchmarks.recovery import failing_lines, summarise
from benchmarks.runs import all_runs, decompose, engine_hash, write_between


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n<!-- speed:begin -->\nold\nolder\n<!-- speed:end -->\nafter\n<!-- other:begin -->\nkept\n<!-- other:end -->\n"
    )
    expected = "# Title\n<!-- speed:begin -->\n| new |\n<!-- speed:end -->\nafter\n<!-- other:begin -->\nkept\n<!-- other:end -->\n"
    for _ in range(2):
        write_between(page, "speed", "| new |")
        assert page.read_text() == expected


@pytest.mark.parametrize("text", ["no marks\n", "<!-- speed:begin -->\nno end\n", "<!-- other:begin -->\nx\n<!-- other:end -->\n"])
def test_page_without_the_marks_stays_as_it_is(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    write_between(page, "speed", "| new |")
    assert page.read_text() == text


def entry(seed: int, passed: bool = True, **changes: Any) -> dict[str, Any]:
    """One run's result, with a line of every kind of bar."""
    result = {
        "target": "tms-5-2",
        "seed": seed,
        "passed": passed,
        "failed_lines": [] if passed else ["mmcs"],
        "cpu_seconds": 10.0 + seed,
        "peak_memory_mb": 500.0 - seed,
        "values": {"identity_error": float(seed), "mmcs": 0.99, "ml2r": 1.0, "stoch_masked": 0.02, "pgd_20": 0.03, "l0/a": 1.0},
        "oracle": {"identity_error": 0.0, "mmcs": 1.0, "ml2r": 1.0, "stoch_masked": 0.01},
        "bars": {"identity_error": "≤ 0", "mmcs": "≥ 0.99", "ml2r": "0.95 – 1.05", "alive/a": "5"},
        "nulls": {
            "identity_error": {"untrained": 3.0, "shuffled": 0.0, "zero": 10.0},
            "mmcs": {"untrained": 0.5, "shuffled": 0.99, "zero": 0.0},
            "ml2r": {"untrained": 1.2, "shuffled": 1.05, "zero": 0.9},
            "alive/a": {"untrained": 6.0, "shuffled": 5.0},
            "l0/a": {"untrained": 100.0, "shuffled": 100.0, "zero": 100.0},
        },
    }
    return {**result, **changes}


def test_failing_lines_are_those_whose_bar_a_null_misses() -> None:
    assert failing_lines(entry(0), "untrained") == ["identity_error", "mmcs", "ml2r", "alive/a"]
    assert failing_lines(entry(0), "shuffled") == []
    assert failing_lines(entry(0), "zero") == ["identity_error", "mmcs", "ml2r"]  # a line that a null was not measured on is left out


@pytest.mark.parametrize(
    ("bar", "value", "fails"),
    [("≤ 0.1", 0.11, True), ("≤ 0.1", 0.1, False), ("≥ 0.99", 0.98, True), ("≥ 0.99", 0.99, False)]
    + [("4 – 6", value, not 4 <= value <= 6) for value in (3.0, 4.0, 5.0, 6.0, 7.0)]
    + [("2", 2.0, False), ("2", 3.0, True), ("2", 1.0, True), ("≤ 1e-03", 2e-3, True)],
)
def test_every_text_of_a_bar_is_read(bar: str, value: float, fails: bool) -> None:
    run = entry(0, bars={"a": bar}, nulls={"a": {"zero": value}})
    assert failing_lines(run, "zero") == (["a"] if fails else [])


def test_summary_counts_the_passes_and_keeps_every_seed() -> None:
    summary = summarise("tms-5-2", [entry(0), entry(1, passed=False), entry(4)])
    assert summary["seeds"] == [0, 1, 4]
    assert summary["passed"] == 2
    assert summary["cpu_seconds_median"] == 11.0
    assert summary["cpu_seconds"] == [10.0, 11.0, 14.0]
    assert summary["cpu_seconds_budget"] == 30
    assert summary["peak_memory_mb"] == 500.0
    assert summary["values"]["identity_error"] == [0.0, 1.0, 4.0]
    assert "dense_error" not in summary["values"]
    assert summary["oracle"] == {"identity_error": 0.0, "mmcs": 1.0, "ml2r": 1.0, "stoch_masked": 0.01}
    assert summary["controls"]["untrained"] == ["identity_error", "mmcs", "ml2r", "alive/a"]
    assert set(summary["controls"]) == {"untrained", "shuffled", "zero"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small source tree in the place of the real one."""
    source = tmp_path / "src" / "unbraid"
    for name in ("core/seeds.py", "decompose/kernels/elementwise.c", "decompose/plots.py", "cli/app.py", "targets/weights/a.safetensors"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(f"text of {name}")
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    return source


def test_hash_of_the_same_source_is_the_same_wherever_it_lies(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = engine_hash()
    shutil.copytree(tmp_path / "src", tmp_path / "elsewhere" / "src")
    monkeypatch.setattr(runs, "ROOT", tmp_path / "elsewhere")
    assert engine_hash() == before


@pytest.mark.parametrize("name", ["core/seeds.py", "targets/weights/a.safetensors", "decompose/kernels/elementwise.c"])
def test_hash_changes_with_what_decides_the_numbers(name: str, root: Path) -> None:
    before = engine_hash()
    (root / name).write_text("another text")
    assert engine_hash() != before


def test_hash_changes_with_a_new_file_and_a_new_name(root: Path) -> None:
    before = engine_hash()
    (root / "core" / "more.py").write_text("")
    more = engine_hash()
    (root / "core" / "more.py").rename(root / "core" / "most.py")
    assert len({before, more, engine_hash()}) == 3


@pytest.mark.parametrize("name", ["decompose/plots.py", "cli/app.py", "core/notes.txt"])
def test_hash_leaves_out_what_only_draws(name: str, root: Path) -> None:
    before = engine_hash()
    (root / name).write_text("another text")
    assert engine_hash() == before


CARD = {
    "passed": False,
    "step": 3000,
    "lines": [
        {
            "key": "mmcs",
            "passed": False,
            "value": {"value": 0.9},
            "oracle": 1.0,
            "bar": {"text": "≥ 0.99"},
            "nulls": {"zero": 0.0},
        },
        {"key": "ci_masked", "passed": None, "value": {"value": 0.1}, "oracle": None, "bar": None, "nulls": {}},
    ],
}


@pytest.fixture
def commands(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of every decomposition that is started; none is really run."""
    started: list[list[str]] = []

    def timed(command: list[str]) -> tuple[resource.struct_rusage, str]:
        started.append(command[command.index("decompose") + 1 :])
        return resource.getrusage(resource.RUSAGE_SELF), json.dumps(CARD)

    monkeypatch.setattr(runs, "_timed", timed)
    return started


def test_result_holds_the_scorecard(commands: list[list[str]], tmp_path: Path) -> None:
    result = decompose("tms-5-2", 3, tmp_path / "out", ("steps=7",))
    out = str(tmp_path / "out" / "tms-5-2-seed3")
    assert commands == [["tms-5-2", "--seed", "3", "--out", out, "--set", "steps=7", "--json"]]
    assert result["failed_lines"] == ["mmcs"]
    assert result["values"] == {"mmcs": 0.9, "ci_masked": 0.1}
    assert result["oracle"] == {"mmcs": 1.0}
    assert result["bars"] == {"mmcs": "≥ 0.99"}
    assert result["engine"] == engine_hash()
    assert json.loads((tmp_path / "out" / "tms-5-2-seed3.json").read_text()) == result


def test_finished_results_are_taken_over_and_the_others_run(
    commands: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = decompose("tms-5-2", 1, tmp_path)
    commands.clear()
    results = all_runs(("tms-5-2", "tms-5-2-id"), range(2), tmp_path, jobs=2)
    assert [(result["target"], result["seed"]) for result in results] == [
        (name, seed) for name in ("tms-5-2", "tms-5-2-id") for seed in (0, 1)
    ]
    assert {(command[0], command[2]) for command in commands} == {("tms-5-2", "0"), ("tms-5-2-id", "0"), ("tms-5-2-id", "1")}
    assert len(commands) == 3
    assert results[1] == first
    assert capsys.readouterr().out.count("NOT FOUND: mmcs") == 4
    commands.clear()
    all_runs(("tms-5-2", "tms-5-2-id"), range(2), tmp_path, jobs=1)
    assert commands == []


@pytest.mark.parametrize("changed", ["source", "overrides"])
def test_result_of_other_code_or_settings_is_made_anew(changed: str, commands: list[list[str]], root: Path, tmp_path: Path) -> None:
    decompose("tms-5-2", 0, tmp_path)
    run = tmp_path / "tms-5-2-seed0"
    run.mkdir()
    (run / "config.yaml").write_text("")
    if changed == "source":
        (root / "core" / "seeds.py").write_text("another text")
    decompose("tms-5-2", 0, tmp_path, ("steps=7",) if changed == "overrides" else ())
    assert len(commands) == 2
    assert "--resume" not in commands[1]
    assert not run.exists()  # what was there is not mixed with the new run


@pytest.mark.parametrize("same_code", [True, False])
def test_interrupted_run_goes_on_only_under_the_same_code(same_code: bool, commands: list[list[str]], root: Path, tmp_path: Path) -> None:
    decompose("tms-5-2", 0, tmp_path)
    (tmp_path / "tms-5-2-seed0.json").unlink()
    run = tmp_path / "tms-5-2-seed0"
    run.mkdir()
    (run / "config.yaml").write_text("")
    (run / "env.json").write_text(json.dumps({"cost": {"earlier_cpu_seconds": 1000.0}}))
    if not same_code:
        (root / "core" / "seeds.py").write_text("another text")
    result = decompose("tms-5-2", 0, tmp_path)
    assert (commands[1] == ["--resume", str(run), "--json"]) is same_code
    assert (result["cpu_seconds"] > 1000) is same_code

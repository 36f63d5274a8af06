"""Does a stopped or killed run go on to the same bits?"""

from __future__ import annotations

import random
import shlex
import signal
import time
from pathlib import Path

import pytest

from tests.cli.conftest import MEMORY, OVERRIDES, QUICK, Cli, Outcome, begin, finish, make_run

SAME = ("model.safetensors", "metrics.jsonl", "config.yaml")


def assert_same(run: Path, undisturbed: Path) -> None:
    for name in SAME:
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert not [path for path in run.rglob(".*")]  # nothing of a killed write is left


def wait_for(path: Path, lines: int = 1) -> None:
    """Wait until a run has written so many lines."""
    for _ in range(6000):
        if path.exists() and path.read_text().count("\n") >= lines:
            return
        time.sleep(0.01)
    raise TimeoutError(path)


def stop_by(number: signal.Signals, folder: Path) -> Outcome:
    """Start a run in a process of its own, and send it a signal in its first steps."""
    process = begin("decompose", "tms-5-2", *QUICK, "--set=steps=200", "--out", "run", cwd=folder)
    wait_for(folder / "run" / "metrics.jsonl")
    process.send_signal(number)
    return finish(process)


def test_sigterm_saves_and_says_how_to_go_on(cli: Cli, tmp_path: Path) -> None:
    told = stop_by(signal.SIGTERM, tmp_path)
    assert (told.code, told.out) == (143, ""), told
    assert told.err.startswith("Stopped at step ")
    assert told.err.endswith("; the state is saved. Go on with: unbraid decompose --resume run\n")
    command = shlex.split(told.err.partition("Go on with: unbraid ")[2])
    assert cli(*command, "--no-report").code == 0
    assert_same(tmp_path / "run", make_run(tmp_path / "undisturbed", extra=("steps=200",)))


def test_ctrl_c_saves_too(tmp_path: Path) -> None:
    told = stop_by(signal.SIGINT, tmp_path)
    assert (told.code, told.out) == (130, ""), told
    assert told.err.startswith("Stopped at step ")
    assert list((tmp_path / "run" / "state").glob("step-*/manifest.json"))


@pytest.mark.parametrize("step", [10, 20, 50])
def test_resumed_run_is_the_undisturbed_one(cli: Cli, made: dict[str, Path], tmp_path: Path, step: int) -> None:
    run = make_run(tmp_path / "run", stop=step)
    assert not (run / "model.safetensors").exists()
    assert cli("decompose", "--resume", run, "--no-report").code == 0
    assert_same(run, made["finished"])


def test_resume_through_every_loss_with_a_memory(cli: Cli, tmp_path: Path) -> None:
    """A persistent adversary's sources and moments, and the running average behind the frequency, are part of the state."""
    undisturbed = make_run(tmp_path / "undisturbed", extra=tuple(MEMORY))
    run = make_run(tmp_path / "run", stop=30, extra=tuple(MEMORY))
    assert cli("decompose", "--resume", run, "--no-report").code == 0
    assert_same(run, undisturbed)
    plain = make_run(tmp_path / "plain")
    assert (plain / "metrics.jsonl").read_bytes() != (run / "metrics.jsonl").read_bytes()


def test_resume_of_a_run_that_has_saved_nothing_begins_again(cli: Cli, made: dict[str, Path], tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", stop=10)
    for state in (run / "state").iterdir():
        for file in state.iterdir():
            file.unlink()
        state.rmdir()
    (run / "metrics.jsonl").write_text('{"step": 10, "train/loss": 1.0}\n{"step": 2')  # the last line was cut off by a kill
    assert cli("decompose", "--resume", run, "--no-report").code == 0
    assert_same(run, made["finished"])


def test_what_a_killed_write_left_is_swept_away(cli: Cli, made: dict[str, Path], stopped: Path) -> None:
    (stopped / ".model.safetensors.0123abcd").write_text("half")
    (stopped / "state" / ".step-000000040.89abcdef").mkdir()
    (stopped / "state" / ".step-000000040.89abcdef" / "tensors.safetensors").write_text("half")
    assert cli("decompose", "--resume", stopped, "--no-report").code == 0
    assert_same(stopped, made["finished"])


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(), tuple(MEMORY), ("starts={count: 2, until: 0.5}",)], ids=["plain", "memory", "starts"])
def test_ten_kills_leave_the_same_bits(cli: Cli, tmp_path: Path, extra: tuple[str, ...]) -> None:
    steps = ("steps=4000", "save_every_steps=5", *extra)
    undisturbed = make_run(tmp_path / "undisturbed", extra=steps)
    moments, run = random.Random(0), tmp_path / "run"
    command: list[object] = ["decompose", "tms-5-2", *(f"--set={text}" for text in (*OVERRIDES, *steps)), "--no-report", "--out", run]
    kills = 0
    while kills < 10:
        before = newest(run)
        process = begin(*command, cwd=tmp_path)
        while newest(run) == before and process.poll() is None:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.3))
        assert process.poll() is None, "the run ended before it could be killed; give it more steps"
        process.kill()
        process.communicate()
        kills += 1
        command = ["decompose", "--resume", run, "--no-report"]
    assert cli(*command).code == 0
    assert_same(run, undisturbed)


def newest(run: Path) -> list[str]:
    """Return the names of the saved states of a run."""
    try:
        return sorted(path.relative_to(run).as_posix() for places in ("state", "starts/*/state") for path in run.glob(f"{places}/step-*"))
    except FileNotFoundError:  # a folder went while it was looked through
        return newest(run)

"""Does the same command run as several ranks, and what do people see when one is lost, or one differs?"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.conftest import MEMORY, QUICK
from tests.ranks import Told, begin, finish

UNBRAID = ["-m", "unbraid", "decompose"]
SETTINGS = [*QUICK, *(f"--set={setting}" for setting in MEMORY), "--set=steps=40"]


def start(
    count: int, folder: Path, *words: str, env: dict[str, str] | None = None, each: list[list[str]] | None = None
) -> list[subprocess.Popen[str]]:
    return begin(count, [*UNBRAID, *words], folder, each, **(env or {}))


def undisturbed(folder: Path) -> Path:
    """The same run by one process."""
    (told,) = finish(start(1, folder, "tms-5-2", *SETTINGS, "--out", "whole"))
    assert told.code == 0, told.err
    return folder / "whole"


def wait_for_state(processes: list[subprocess.Popen[str]], run: Path) -> None:
    """Wait until a run has saved, and go on as soon as it has."""
    for _ in range(6000):
        if list(run.glob("state/step-*/manifest.json")):
            return
        assert all(process.poll() is None for process in processes), finish(processes)
        time.sleep(0.01)
    raise TimeoutError(run)


def assert_same_trajectory(run: Path, other: Path) -> None:
    one, two = load_file(run / "model.safetensors"), load_file(other / "model.safetensors")
    for name, value in two.items():
        torch.testing.assert_close(one[name], value, rtol=1e-5, atol=1e-5, msg=lambda text, at=name: f"{at}: {text}")
    curves = [[json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (run, other)]
    assert [row["step"] for row in curves[0]] == [row["step"] for row in curves[1]]
    for mine, theirs in zip(*curves, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-6)


def lose_one(folder: Path, by: signal.Signals, timeout: str) -> Told:
    """Start a long run on two ranks, lose the second after the first state, and return what the first one said."""
    words = ("tms-5-2", *SETTINGS, "--set=steps=100000", "--out", "run")
    processes = start(2, folder, *words, env={"UNBRAID_RANK_TIMEOUT": timeout})
    wait_for_state(processes, folder / "run")
    processes[1].send_signal(by)
    try:
        (told,) = finish(processes[:1], seconds=60)
    finally:
        processes[1].kill()
        processes[1].communicate()
    return told


@pytest.mark.parametrize(("by", "timeout"), [(signal.SIGKILL, "45"), (signal.SIGSTOP, "2")])
def test_when_one_rank_dies_or_hangs_the_other_stops_and_names_the_saved_state(tmp_path: Path, by: signal.Signals, timeout: str) -> None:
    told = lose_one(tmp_path, by, timeout)
    assert told.code == 2, told
    assert told.err.startswith("error: A rank was lost ("), told.err
    state = max((tmp_path / "run" / "state").glob("step-*"))
    assert f"The last saved state is run/state/{state.name}. " in told.err
    assert told.err.endswith("torchrun --nproc-per-node N -m unbraid decompose --resume run\n")
    assert len(told.err.splitlines()) == 1, told.err


@pytest.mark.slow
def test_a_killed_run_goes_on_with_one_rank_and_with_four(tmp_path: Path) -> None:
    whole = undisturbed(tmp_path)
    processes = start(2, tmp_path, "tms-5-2", *SETTINGS, "--set=save_every_steps=10", "--out", "run")
    wait_for_state(processes, tmp_path / "run")
    processes[1].kill()
    told = finish(processes)
    assert told[0].code == 2 and "The last saved state is" in told[0].err, told
    for count in (1, 4):
        shutil.copytree(tmp_path / "run", tmp_path / f"on-{count}")
        for told in finish(start(count, tmp_path, "--resume", f"on-{count}", "--no-report")):
            assert told.code == 0, told.err
        assert_same_trajectory(tmp_path / f"on-{count}", whole)


def test_rank_0_alone_writes_and_prints(tmp_path: Path) -> None:
    first, second = finish(start(2, tmp_path, "tms-5-2", *SETTINGS))  # the folder's name is rank 0's choice
    assert (first.code, second.code, second.out, second.err) == (0, 0, "", ""), (first.err, second)
    assert "Scorecard: tms-5-2" in first.out
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tms-5-2-seed0-1"]
    assert_same_trajectory(tmp_path / "runs" / "tms-5-2-seed0-1", undisturbed(tmp_path))


def test_sigterm_to_any_rank_saves_and_stops_all(tmp_path: Path) -> None:
    processes = start(2, tmp_path, "tms-5-2", *SETTINGS, "--set=steps=100000", "--out", "run")
    wait_for_state(processes, tmp_path / "run")
    processes[1].send_signal(signal.SIGTERM)
    first, second = finish(processes)
    assert first.err.startswith("Stopped at step ") and second.err == "", (first, second)
    step = int(first.err.split()[3].rstrip(";"))
    assert (tmp_path / "run" / "state" / f"step-{step:09d}" / "manifest.json").exists()


def test_ranks_with_other_settings_are_told_which(tmp_path: Path) -> None:
    each = [[], ["--set=losses.minimality.coefficient=0.5"]]
    for told in finish(start(2, tmp_path, "tms-5-2", *SETTINGS, "--out", "run", each=each)):
        assert told.code == 2, told
        assert told.err.startswith(
            "error: The ranks do not agree on the setting losses.minimality.coefficient: rank 0 has 0.0008, rank 1 has 0.5."
        )


def test_a_folder_that_is_taken_is_told_on_every_rank(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 0\n")
    first, second = finish(start(2, tmp_path, "tms-5-2", *SETTINGS, "--out", "run"))
    assert first.err.startswith("error: The folder 'run' already holds a run."), first
    assert second.err.startswith("error: Rank 0 stopped: The folder 'run' already holds a run."), second

"""Run folders to try commands on, and the command line itself, in this process or in one of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import unbraid
from unbraid.decompose.preset import resolve
from unbraid.decompose.verb import Progress, Stopped, decompose
from unbraid.targets.toy import toys

# Settings that make a run of a second or two; what comes out is no good decomposition.
QUICK = [
    "--set=steps=60",
    "--set=batch_size=64",
    "--set=components=8",
    "--set=starts=null",
    "--set=warmup.steps=10",
    "--set=log_every_steps=10",
    "--set=save_every_steps=20",
    "--set=evaluation.batches=2",
    "--set=evaluation.batch_size=64",
    "--set=evaluation.adversary_steps=[3,5]",
    "--no-report",
]
OVERRIDES = [option.removeprefix("--set=") for option in QUICK if option.startswith("--set=")]
# What every published ingredient with a memory of its own needs: a persistent adversary, and the average behind the frequency.
MEMORY = [
    "losses.persistent-adversarial={coefficient: 0.5, scope: bsc}",
    "losses.minimality.frequency.half_life_steps=5",
    "optimizer.factors.clip=0.01",
]


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The error of a command that must have failed with one line and exit code 2."""
        lines = self.err.splitlines()
        assert (self.code, len(lines), self.out) == (2, 1, ""), self
        assert lines[0].startswith("error: ")
        assert "Traceback" not in self.err
        return lines[0].removeprefix("error: ")


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process, from within `tmp_path`."""
    from unbraid.cli.app import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["unbraid", *(str(argument) for argument in arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        told = capsys.readouterr()
        code = stop.value.code
        return Outcome(code if isinstance(code, int) else 0, told.out, told.err)

    return run


def environment() -> dict[str, str]:
    """Return the variables under which a process finds this very package."""
    source = str(Path(unbraid.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}


def begin(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    command = [sys.executable, "-m", "unbraid", *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a command's end."""
    out, err = process.communicate(timeout=120)
    return Outcome(process.returncode, out, err)


def hashes(folder: Path) -> dict[str, str]:
    """Return the hash of every file under a folder."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def stop_at(step: int) -> Callable[[Progress], None]:
    """Return a display that sends this process a SIGTERM when it is told of a step."""

    def report(progress: Progress) -> None:
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return report


def make_run(folder: Path, target: str = "tms-5-2", stop: int | None = None, extra: tuple[str, ...] = ()) -> Path:
    """Make a small run, stopped at a step or undisturbed."""
    config = resolve(target, overrides=[*OVERRIDES, *extra])
    toy = toys.parse(config.target).target()
    if stop is None:
        decompose(toy, config, folder)
    else:
        with pytest.raises(Stopped):
            decompose(toy, config, folder, report=stop_at(stop))
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that are made once: finished, stopped, and stopped on another target."""
    root = tmp_path_factory.mktemp("made")
    return {
        "finished": make_run(root / "finished"),
        "stopped": make_run(root / "stopped", stop=30),
        "other": make_run(root / "other", target="tms-40-10", stop=30),
    }


def _copy(made: dict[str, Path], name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[name], tmp_path / name))


@pytest.fixture
def finished(made: dict[str, Path], tmp_path: Path) -> Path:
    """A finished run of this test's own."""
    return _copy(made, "finished", tmp_path)


@pytest.fixture
def stopped(made: dict[str, Path], tmp_path: Path) -> Path:
    """A stopped run of this test's own."""
    return _copy(made, "stopped", tmp_path)


@pytest.fixture
def other(made: dict[str, Path], tmp_path: Path) -> Path:
    """A stopped run on another target."""
    return _copy(made, "other", tmp_path)

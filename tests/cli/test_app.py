"""Does the command line start lightly, explain itself, and fail in words?"""

from __future__ import annotations

import subprocess
import sys

import pytest

import unbraid
from tests.cli.conftest import Cli, environment
from unbraid.cli import score


def test_starting_imports_nothing_heavy() -> None:
    code = "import sys, unbraid.cli.app; print(*sorted({'torch', 'pydantic', 'matplotlib', 'numpy', 'scipy', 'jinja2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "unbraid", "--version"], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == f"unbraid {unbraid.__version__}\n"


@pytest.mark.parametrize(
    "command",
    [[], ["targets"], ["targets", "train"], ["models", "pull"], ["sites"], ["generate"], ["decompose"], ["score"], ["config", "show"]],
)
def test_help(cli: Cli, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = cli(*command, "--help")
    assert (told.code, told.err) == (0, "")
    assert "Usage: unbraid" in told.out
    assert max(len(line) for line in told.out.splitlines()) <= 80


def test_help_keeps_the_examples_on_their_lines(cli: Cli) -> None:
    assert "unbraid decompose --resume runs/tms-5-2-seed3-1" in [line.strip() for line in cli("decompose", "--help").out.splitlines()]


@pytest.mark.parametrize("arguments", [["decompose", "--sede", "3"], ["score"], ["nothing"], ["decompose", "tms-5-2", "--steps", "many"]])
def test_usage_errors(cli: Cli, arguments: list[str]) -> None:
    told = cli(*arguments)
    assert (told.code, told.out) == (2, "")
    assert "Usage:" in told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "error: Interrupted."),
        (PermissionError(13, "Permission denied", "/x/y"), 2, "error: Could not use '/x/y': Permission denied."),
    ],
)
def test_what_breaks_a_command_is_told_in_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, line: str
) -> None:
    def breaks(plugins: object) -> None:
        raise raised

    monkeypatch.setattr(score, "start", breaks)
    told = cli("score", "x")
    assert told.code == code
    assert told.err.startswith(line)
    assert len(told.err.splitlines()) == 1

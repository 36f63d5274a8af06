"""Does what the documents tell people to type really run? With settings so small that it takes seconds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TINY = {"steps": 5, "components": 6, "warmup": {"steps": 2}}
EVALUATION = {"batches": 2, "batch_size": 32, "adversary_steps": [2, 3], "ladder_batches": 1}
TINY_OPTIONS = [
    "--set=steps=5",
    "--set=starts=null",
    "--set=warmup.steps=2",
    "--set=evaluation={batches: 2, batch_size: 32, adversary_steps: [2, 3], ladder_batches: 1}",
]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("index", range(len(blocks(README, "python"))))
def test_the_python_of_the_readme(index: int, tmp_path: Path) -> None:
    code = blocks(README, "python")[index]
    tiny = f"**{ {**TINY, 'evaluation': EVALUATION}!r})"
    shortened = re.sub(r"unbraid\.preset\((\"[^\"]+\")[^)]*\)", rf"unbraid.preset(\1, {tiny}", code)
    assert shortened != code
    done = run([sys.executable, "-W", "error", "-c", shortened], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Scorecard" in done.stdout


def test_the_commands_of_the_readme(tmp_path: Path) -> None:
    lines = [line.partition("#")[0].strip() for block in blocks(README, "sh") for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("unbraid ")]
    assert len(commands) == 6
    for line in commands:
        command, _, output = line.partition(" > ")
        tiny = TINY_OPTIONS if command.startswith("unbraid decompose tms") else []
        done = run([sys.executable, "-m", *command.split(), *tiny], tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), line
        if output:
            (tmp_path / output).write_text(done.stdout, encoding="utf-8")
    assert (tmp_path / "my-run" / "report.html").is_file()


def test_every_file_that_the_documents_name_is_there() -> None:
    for text, folder in ((README, ROOT), (ARCHITECTURE, ROOT / "docs")):
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("https://") or (folder / target).exists(), target


def test_what_the_run_folder_is_said_to_hold(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "unbraid", "decompose", "tms-5-2", *TINY_OPTIONS, "--out", "run"], tmp_path)
    assert done.returncode == 0
    found = {path.name for path in (tmp_path / "run").iterdir()}
    table = README.partition("## A run folder")[2].partition("##")[0]
    said = {name.rstrip("/") for row in re.findall(r"^\|(.*?)\|", table, flags=re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)}
    assert said == found | {"modules"}  # which only toys with planted modules have
    picture = ARCHITECTURE.partition("## The run folder")[2].partition("```\n\n")[0]
    assert all(name in picture for name in found)


def test_the_plugins_of_the_architecture(tmp_path: Path) -> None:
    for code in blocks(ARCHITECTURE, "python"):
        path = tmp_path / code.partition("\n")[0].removeprefix("# ")
        path.parent.mkdir(exist_ok=True)
        path.write_text(code, encoding="utf-8")
    command = next(re.finditer(r"^    (unbraid decompose diagonal.*?)$\n\n", ARCHITECTURE, flags=re.MULTILINE | re.DOTALL))[1]
    words = ["--set=importance.kind=linear", "--set=losses.total-importance={coefficient: 1e-3, power: 2}"]
    assert all(word.removeprefix("--set=") in command for word in words) and "--plugins plugins" in command
    done = run(
        [sys.executable, "-m", "unbraid", "decompose", "diagonal", "--plugins", "plugins", *words, *TINY_OPTIONS, "--out", "run"], tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    config = (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8")
    assert all(kind in config for kind in ("total-importance", "linear", "diagonal"))


def test_the_readme_has_room_for_the_measured_tables() -> None:
    for name in ("recovery", "speed", "language-model"):
        assert len(re.findall(rf"<!-- {name}:begin -->\n.+\n<!-- {name}:end -->", README, flags=re.DOTALL)) == 1

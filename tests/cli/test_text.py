"""Does text become a folder of tokens from the command line, and is every mistake one line?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli, hashes
from tests.targets.text.conftest import EOS, byte_tokenizer


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus of 60 files in the folder `corpus`, and a tokenizer in the folder `model`."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "model").mkdir()
    for index in range(60):
        (tmp_path / "corpus" / f"{index:02d}.txt").write_text(f"This is document number {index}. " * 5)
    byte_tokenizer().save(str(tmp_path / "model" / "tokenizer.json"))
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps({"eos_token": EOS}))
    return tmp_path / "corpus"


def test_build_and_show(cli: Cli, corpus: Path) -> None:
    told = cli("text", "build", "corpus", "--tokenizer", "model", "--window", 32, "--out", "tokens", "--held-out", 0.2, "--json")
    assert (told.code, told.err) == (0, "")
    built: dict[str, Any] = json.loads(told.out)
    assert (built["folder"], built["window"], built["mode"]) == ("tokens", 32, "packed")
    assert sum(split["documents"] for split in built["splits"].values()) == 60
    assert json.loads(cli("text", "show", "tokens", "--verify", "--json").out) == built
    shown = cli("text", "show", "tokens")
    assert shown.err == ""
    assert all(text in shown.out for text in ("tokens: corpus, 60 files", "windows of 32 tokens, packed", "uint16", "held-out", "257 ids"))
    assert "Nothing is held out" not in shown.out


def test_too_few_documents_to_hold_out_are_said(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("A line.\n\n" * 100)
    told = cli("text", "build", "one.txt", "--tokenizer", "model", "--out", "tokens")
    assert told.code == 0
    assert "Nothing is held out" in told.out
    again = cli("text", "build", "one.txt", "--tokenizer", "model", "--out", "cut", "--separator", "", "--json")
    assert sum(split["documents"] for split in json.loads(again.out)["splits"].values()) == 100


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none", "--tokenizer", "model"], "There is no 'none'."),
        (["corpus", "--tokenizer", "none"], "There is no tokenizer at 'none'."),
        (["corpus", "--tokenizer", "model", "--mode", "packt"], "Unknown mode 'packt'. Closest: 'packed'."),
        (
            ["corpus", "--tokenizer", "model", "--window", "100000"],
            "one window needs 100000. Give more text, or a shorter window: --window",
        ),
        (["corpus", "--tokenizer", "model", "--eos", "</s>"], "The tokenizer has no token '</s>'"),
        (["corpus", "--tokenizer", "model", "--held-out", "2"], "A held-out share of 2.0"),
    ],
)
def test_bad_input(cli: Cli, corpus: Path, tmp_path: Path, arguments: list[str], told: str) -> None:
    before = hashes(tmp_path)
    assert told in cli("text", "build", *arguments, "--out", "tokens").error
    assert hashes(tmp_path) == before and not (tmp_path / "tokens").exists()


def test_a_wrong_field_names_those_that_there_are(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "prompt": "words"}\n')
    error = cli("text", "build", "a.jsonl", "--tokenizer", "model", "--out", "tokens").error
    assert "'a.jsonl', line 1 has no field 'text'; it has: id, prompt. Name the one with the text: --field prompt" in error


def test_show_what_is_not_there(cli: Cli) -> None:
    assert "unbraid text build" in cli("text", "show", "none").error


@pytest.mark.parametrize("command", ["build", "show"])
def test_help(cli: Cli, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = cli("text", command, "--help")
    assert (told.code, told.err) == (0, "")
    assert max(len(line) for line in told.out.splitlines()) <= 80

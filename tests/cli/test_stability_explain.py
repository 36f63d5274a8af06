"""Does the command ask, save and print one JSON object?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from unbraid.cli.stability_explain import explain
from unbraid.core.errors import UserError
from unbraid.stability.explain.result import ExplainResult

QUICK = ("--points", "11", "--components", "1", "--site")
LATE = "model.layers.1.self_attn.o_proj"  # two sites come after it


def run(*words: str) -> tuple[str, BaseException | None]:
    app = typer.Typer()
    app.command()(explain)
    told = CliRunner().invoke(app, [*words])
    return told.output, told.exception


def test_two_texts_are_asked_and_kept(tmp_path: Path) -> None:
    out, fault = run("carroll", "--pair", "said the Mock", "said the King", *QUICK, LATE, "--json", "--out", str(tmp_path / "a"))
    assert fault is None, out
    tree = json.loads(out)
    assert tree["pairs"] == 1
    assert tree["place"] == LATE
    assert ExplainResult.from_pretrained(tmp_path / "a").tree()["shares"] == tree["shares"]
    assert {path.name for path in (tmp_path / "a").glob("*.svg")} == {"shares.svg", "importance-path.svg"}


def test_a_place_that_is_not_there_is_told() -> None:
    _, fault = run("carroll", "--pair", "a", "b", *QUICK, "7")
    assert isinstance(fault, UserError)
    with pytest.raises(UserError, match="Block 7"):
        raise fault

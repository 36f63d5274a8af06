"""Does `unbraid stability` answer what a person types, and say what is wrong with it?"""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Cli


def test_a_toy_is_asked_and_its_curves_are_kept(cli: Cli) -> None:
    told = cli("stability", "path", "denoiser", "--pairs", "6", "--control-pairs", "4", "--out", "curves", "--json")

    assert told.code == 0, told.err
    tree = json.loads(told.out)
    assert tree["target"] == "denoiser"
    assert tree["rows"][0]["pairs"] == 6
    assert Path("curves", "curves.svg").is_file()


def test_a_shipped_model_is_asked_through_its_training(cli: Cli) -> None:
    told = cli("stability", "training", "carroll/step-0", "carroll", "--pairs", "6", "--site", "model.embed_tokens", "--json")

    assert told.code == 0, told.err
    assert [row["checkpoint"] for row in json.loads(told.out)["rows"]] == ["carroll-step-0", "carroll"]


def test_a_site_that_is_not_there_is_told(cli: Cli) -> None:
    told = cli("stability", "path", "carroll", "--site", "9", "--pairs", "4")

    assert told.code == 2
    assert "Block 9" in told.err
    assert "0 … 1" in told.err

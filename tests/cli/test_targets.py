"""What can be taken apart, and does training a toy give weights that decompose takes?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import QUICK, Cli
from unbraid.core.errors import UserError
from unbraid.targets.toy import toys
from unbraid.targets.toy_kit.tms import TMS


def test_list_names_every_target(cli: Cli) -> None:
    rows = json.loads(cli("targets", "list", "--json").out)["targets"]
    assert [row["name"] for row in rows] == sorted(toys.kinds())
    assert all(row["planted"] and row["lesson"] and row["sites"] for row in rows)
    assert next(row for row in rows if row["name"] == "tms-5-2")["weights"] == "bundled"
    told = cli("targets", "list")
    assert all(name in told.out for name in toys.kinds())
    assert told.err == ""


def test_show(cli: Cli) -> None:
    card = json.loads(cli("targets", "show", "tms-5-2", "--json").out)
    assert [(site["path"], site["d_in"], site["d_out"], site["tied_to"], site["pieces"]) for site in card["sites"]] == [
        ("linear1", 5, 2, None, 5),
        ("linear2", 2, 5, "linear1", 5),
    ]
    assert len(card["loss_per_feature"]) == 5
    assert all(loss < 0.3 * naive for loss, naive in zip(card["loss_per_feature"], card["naive_per_feature"], strict=True))
    told = cli("targets", "show", "tms-5-2").out
    assert all(
        text in told for text in ("5 → 2", "each by its own feature", "squared error", "loss by feature", "unbraid decompose tms-5-2")
    )


def test_the_truth_of_every_target(cli: Cli) -> None:
    rows = json.loads(cli("targets", "list", "--truth", "--json").out)["targets"]
    assert [row["name"] for row in rows] == sorted(toys.kinds())
    assert all(row["sites"] and {"path", "pieces", "pattern", "modules", "any_basis"} <= set(site) for row in rows for site in row["sites"])
    planted = {site["path"]: site["pieces"] for site in next(row for row in rows if row["name"] == "tms-40-10-id")["sites"]}
    assert planted == {"linear1": 40, "hidden": 10, "linear2": 40}
    assert all(set().union(*row["unresolvable"]) <= set(row["modules"]) for row in rows)
    told = cli("targets", "list", "--truth").out
    assert all(name in told for name in toys.kinds())
    assert "each by its own feature" in " ".join(told.split())


def test_show_tells_what_a_sceptic_asks(cli: Cli, tmp_path: Path) -> None:
    card = json.loads(cli("targets", "show", "tms-5-2", "--json").out)
    assert len(card["panel"]["cross_terms"]) == 5
    assert card["checks"] and all(check["passed"] for check in card["checks"])
    told = cli("targets", "show", "tms-5-2", "--out", "panel").out
    assert all(text in told for text in ("naive", "oracle", "active features", "Cross-terms", "is it real?", "panel.html"))
    names = ["panel-dark.svg", "panel.html", "panel.json", "panel.png", "panel.svg"]
    assert sorted(path.name for path in (tmp_path / "panel").iterdir()) == names
    assert json.loads((tmp_path / "panel" / "panel.json").read_text()) == card["panel"]
    page = (tmp_path / "panel" / "panel.html").read_text()
    assert "✓ real" in page and "<svg" in page


def test_show_at_other_knobs(cli: Cli) -> None:
    card = json.loads(cli("targets", "show", "compiled-blocks", "--set", "coupling=0.1", "--set", "target.basis=rotated", "--json").out)
    assert (card["settings"]["coupling"], card["settings"]["basis"]) == (0.1, "rotated")
    assert "--set target.coupling=0.1" in cli("targets", "show", "compiled-blocks", "--set", "coupling=0.1").out
    assert "coupling" in cli("targets", "show", "compiled-blocks", "--set", "couplin=0.1").error
    told = cli("targets", "show", "tms-5-2", "--set", "probability=0.07").out
    assert "which trains it first" in " ".join(told.split())


def test_train_writes_weights_that_decompose_takes(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(TMS, "training_steps", 300)
    told = cli("targets", "train", "tms-5-2", "--seed", 4, "--json")
    assert told.code == 0, told
    assert json.loads(told.out)["weights"] == "tms-5-2.safetensors"
    run = cli("decompose", "tms-5-2", *QUICK, "--weights", "tms-5-2.safetensors", "--out", "run", "--json")
    assert run.code == 0, run
    (tmp_path / "tms-5-2.safetensors").unlink()  # the run folder needs nothing else
    again = cli("score", "run", "--no-report", "--json")
    assert again.code == 0, again
    assert json.loads(again.out)["lines"] == json.loads(run.out)["lines"]


def test_training_that_did_not_work_writes_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(TMS, "training_steps", 1)
    assert "unlearned" in cli("targets", "train", "tms-5-2").error
    assert list(tmp_path.iterdir()) == []


def test_train_writes_into_the_package_for_maintainers(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def place(self: TMS) -> Path:
        return tmp_path / "package" / "tms-5-2.safetensors"

    monkeypatch.setattr(TMS, "training_steps", 300)
    monkeypatch.setattr(TMS, "weights_path", place)
    assert cli("targets", "train", "tms-5-2", "--bundled").code == 0
    assert (tmp_path / "package" / "tms-5-2.safetensors").exists()
    assert "--bundled" in cli("targets", "train", "tms-5-2", "--bundled", "--out", "x.safetensors").error


def test_train_refuses_to_name_a_pickle(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: TMS, seed: int) -> None:
        raise AssertionError

    monkeypatch.setattr(TMS, "train", never)
    assert "pickle" in cli("targets", "train", "tms-5-2", "--out", "x.pt").error


def test_target_that_is_not_there(cli: Cli) -> None:
    for command in ("show", "train"):
        assert "Closest: 'tms-40-10'" in cli("targets", command, "tms-40-1").error


def test_weights_that_are_missing_are_said_to_be(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def nowhere(self: TMS) -> Path:
        return tmp_path / "none.safetensors"

    monkeypatch.setattr(TMS, "weights_path", nowhere)
    card = json.loads(cli("targets", "show", "tms-5-2", "--json").out)
    assert (card["weights"], card["loss_per_feature"]) == ("missing", None)
    assert "no panel" in cli("targets", "show", "tms-5-2", "--out", "panel").error
    assert "unbraid targets train tms-5-2" in cli("decompose", "tms-5-2", *QUICK).error
    with pytest.raises(UserError, match="There are no weights"):
        toys.parse("tms-5-2").target()

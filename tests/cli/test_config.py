"""Is what `config show` prints exactly what a run does?"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import QUICK, Cli
from unbraid.core.config import read_yaml
from unbraid.targets.toy import find_toy


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--preset", "vpd"],
        ["--preset", "spd", "--set", "losses.stochastic=null", "--set", "optimizer.factors.clip=0.5"],
        ["--set", "losses.minimality.frequency.weight=0.25", "--set", "components={linear1: 8, linear2: 8}"],
    ],
)
def test_the_printed_file_stands_for_the_same_settings(cli: Cli, tmp_path: Path, options: list[str]) -> None:
    first = cli("config", "show", "tms-5-2", *options)
    assert (first.code, first.err) == (0, "")
    (tmp_path / "my.yaml").write_text(first.out)
    assert cli("config", "show", "tms-5-2", "--config", "my.yaml").out == first.out


def test_decompose_takes_the_printed_file_and_keeps_it(cli: Cli, tmp_path: Path) -> None:
    settings = [option for option in QUICK if option.startswith("--set")]
    printed = cli("config", "show", "tms-5-2", "--preset", "spd", *settings).out
    (tmp_path / "my.yaml").write_text(printed)
    assert cli("decompose", "--config", "my.yaml", "--no-report", "--out", "run").code == 0  # the file names its target
    assert (tmp_path / "run" / "config.yaml").read_text() == printed


def test_a_partial_file_lies_over_the_recipe(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("losses: {minimality: {coefficient: 0.5}}\n")
    tree = yaml.safe_load(cli("config", "show", "tms-5-2", "--config", "my.yaml", "--set", "seed=7").out)
    assert (tree["seed"], tree["steps"], tree["losses"]["minimality"]["coefficient"]) == (7, find_toy("tms-5-2").recipe["steps"], 0.5)
    assert "stochastic" in tree["losses"]


def test_a_preset_alone_names_no_target_and_fits_each(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(cli("config", "show", "vpd").out)
    assert read_yaml(tmp_path / "my.yaml")["target"] is None
    assert cli("config", "show", "tms-5-2", "--config", "my.yaml").out == cli("config", "show", "tms-5-2", "--preset", "vpd").out


def test_faults(cli: Cli, tmp_path: Path) -> None:
    assert "Closest: 'vpd'" in cli("config", "show", "vdp").error
    assert "Closest: 'steps'" in cli("config", "show", "tms-5-2", "--set", "step=3").error
    (tmp_path / "my.yaml").write_text(cli("config", "show", "tms-40-10").out)
    assert "are for the target 'tms-40-10', not for 'tms-5-2'" in cli("config", "show", "tms-5-2", "--config", "my.yaml").error
    assert "would change nothing" in cli("config", "show", "tms-40-10", "--config", "my.yaml", "--preset", "spd").error
    assert "cannot be read" in cli("config", "show", "tms-5-2", "--config", tmp_path).error

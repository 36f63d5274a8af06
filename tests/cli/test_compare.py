"""Does `unbraid compare` put two runs beside each other, and say what is missing?"""

from __future__ import annotations

import json

from tests.cli.conftest import Cli

QUICK = ("--steps=20", "--set=evaluation={batches: 2, batch_size: 64, adversary_steps: [1], ladder_batches: 1}", "--no-report")


def test_two_seeds_are_compared_site_by_site(cli: Cli) -> None:
    for seed in (0, 1):
        assert cli("decompose", "tms-5-2", "--seed", str(seed), *QUICK, "--out", f"run{seed}").code == 0
    told = cli("compare", "run0", "run1")
    assert told.code == 0, told.err
    assert "linear1" in told.out
    assert "by chance" in told.out
    (pair,) = json.loads(cli("compare", "run0", "run1", "--json").out)["pairs"]
    assert pair["runs"] == ["tms-5-2 seed 0", "tms-5-2 seed 1"]
    assert {site["path"] for site in pair["sites"]} == {"linear1", "linear2"}


def test_one_run_is_not_enough(cli: Cli) -> None:
    told = cli("compare", "run0")
    assert told.code == 2
    assert "two or more" in told.err


def test_a_name_that_is_nothing_is_told(cli: Cli) -> None:
    told = cli("compare", "nothing", "nobody")
    assert told.code == 2
    assert "comes with the package" in told.err

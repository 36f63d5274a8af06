"""Does `unbraid verify` go on where it was stopped, and say its mistakes in a line?"""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import QUICK, Cli, begin, finish
from tests.cli.test_stopping import wait_for

SMALL = [option for option in QUICK if option.startswith("--set=")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_repeated_it_does_only_what_is_missing(cli: Cli, tmp_path: Path, number: signal.Signals) -> None:
    command = ["verify", "tms-5-2", "--seeds", "2", "--no-controls", *SMALL, "--set=steps=200", "--out", "out"]
    process = begin(*command, cwd=tmp_path)
    wait_for(tmp_path / "out" / "tms-5-2-seed1" / "metrics.jsonl")
    process.send_signal(number)
    told = finish(process)
    assert told.code == 128 + number, told
    assert "Traceback" not in told.err and told.err.endswith("Type the same command to go on.\n")
    first = tmp_path / "out" / "tms-5-2-seed0" / "verified.json"
    made = first.stat().st_mtime_ns
    assert list((tmp_path / "out" / "tms-5-2-seed1" / "state").glob("step-*/manifest.json"))

    again = cli(*command)
    assert again.code == 0, again
    assert first.stat().st_mtime_ns == made
    assert (tmp_path / "out" / "verification.html").is_file()
    assert json.loads((tmp_path / "out" / "verification.json").read_text())["toys"][0]["seeds"] == 2


def test_mistakes_are_one_line(cli: Cli) -> None:
    assert "Closest: 'tms-5-2'" in cli("verify", "tms-52").error
    # A mistake that only the worker process can see comes back whole.
    told = cli("verify", "tms-5-2", "--seeds", "1", "--no-controls", "--set=device=abacus", "--out", "out")
    assert told.code == 2 and "There is no device 'abacus' here" in told.err and "Traceback" not in told.err

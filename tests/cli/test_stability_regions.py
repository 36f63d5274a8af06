"""`unbraid stability plane` and `unbraid stability regions`: one JSON object, a folder with the figure, and mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from unbraid.cli.app import Commands
from unbraid.cli.stability_plane import plane
from unbraid.cli.stability_regions import regions

SMALL_PLANE = ["--resolution", "7", "--planes", "2", "--context", "5"]
SMALL_MAP = ["--anchors", "12", "--context", "5", "--no-controls"]

app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
app.command("plane")(plane)
app.command("regions")(regions)


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_plane_through_three_prompts_is_saved_with_its_pictures(tmp_path: Path) -> None:
    out = tmp_path / "plane"
    told = ask("plane", "carroll", "--through", "Alice was not", "said the", "in the garden", *SMALL_PLANE, "--out", str(out))
    assert told.exit_code == 0, told.output
    assert {"plane.svg", "plane-untrained.svg", "stability.json"} <= {path.name for path in out.iterdir()}
    assert told.stdout.splitlines()[-1].startswith(f"Picture: {out / 'plane.svg'}")


def test_planes_are_one_json_object() -> None:
    told = ask("plane", "denoiser", *SMALL_PLANE, "--json")
    tree = json.loads(told.stdout)
    assert tree["kind"] == "plane" and tree["folder"] is None and set(tree["numbers"]["sharpness"]) == {"model", "untrained", "difference"}


def test_regions_are_saved_with_the_figure_and_compared_with_components(tmp_path: Path) -> None:
    out = tmp_path / "regions"
    told = ask("regions", "carroll", "--components", "carroll", *SMALL_MAP, "--json", "--out", str(out))
    assert told.exit_code == 0, told.output
    tree = json.loads(told.stdout)
    assert tree["provisional"] and "importance" in tree["agreement"]
    assert (out / "regions.svg").is_file()


def test_regions_say_what_to_run_next() -> None:
    told = ask("regions", "carroll", *SMALL_MAP)
    assert told.exit_code == 0 and told.stdout.splitlines()[-1].endswith("next: unbraid stability plane carroll")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plane", "carroll", "--site", "7"], "Block 7 was asked for"),
        (["plane", "carroll", "--read", "logit"], "read-out 'logit'"),
        (["plane", "caroll"], "Closest: 'carroll'"),
        (["plane", "tms-5-2", "--through", "a", "b", "c"], "reads no text"),
        (["regions", "carroll", "--tokens", "rare"], "tokens"),
        (["regions", "carroll", "--tau", "-1"], "tau"),
        (["regions", "carroll", "--carrier", "the"], "one token"),
        (["regions", "carroll", "--components", "nobody"], "no decomposition 'nobody'"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], words: str) -> None:
    told = ask(*arguments)
    assert told.exit_code == 2 and words in told.stderr and "Traceback" not in told.output
    assert told.stderr.splitlines()[-1].startswith("error: ")

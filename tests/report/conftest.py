"""A tiny run whose report is looked at from every side."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.models import mlp
from unbraid.components.scorecard import Judged
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.result import Decomposition
from unbraid.decompose.scorecard import Scorecard
from unbraid.decompose.verb import decompose
from unbraid.report.write import write_report
from unbraid.targets.target import Target
from unbraid.targets.toy import load_target

QUICK = {
    "steps": 10,
    "batch_size": 64,
    "components": 8,
    "log_every_steps": 2,
    "importance": {"kind": "layerwise-mlp", "hidden": 8},
    "warmup": {"steps": 5},
    "evaluation": {"batches": 2, "batch_size": 64, "adversary_steps": [2, 4], "ladder_batches": 1},
}
HOSTILE = '<script>alert("x")</script> $\\frac$ | `a`'


@pytest.fixture(scope="session")
def run() -> tuple[Decomposition, Scorecard]:
    """A decomposition of a toy, and its scorecard."""
    torch.manual_seed(0)
    result = decompose(load_target("tms-5-2"), DecomposeConfig.parse(QUICK))
    return result, result.scorecard()


@pytest.fixture(scope="session")
def untold() -> tuple[Decomposition, Scorecard]:
    """The same without a known truth, from a target with a hostile name, and with nothing logged but the end."""
    torch.manual_seed(0)
    target = Target(mlp(), sites="*", data=[torch.randn(64, 2, 4)], name=HOSTILE)
    result = decompose(target, DecomposeConfig.parse({**QUICK, "log_every_steps": 100}))
    return result, result.scorecard()


@pytest.fixture(scope="session")
def folder(run: tuple[Decomposition, Scorecard], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toy's report."""
    path = tmp_path_factory.mktemp("run")
    write_report(path, run[0], Judged(run[1]))
    return path


@pytest.fixture(scope="session")
def untold_folder(untold: tuple[Decomposition, Scorecard], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report of the hostile target."""
    path = tmp_path_factory.mktemp("untold")
    write_report(path, untold[0], Judged(untold[1]))
    return path


@pytest.fixture(params=["told", "untold"])
def either(
    request: pytest.FixtureRequest,
    folder: Path,
    untold_folder: Path,
    run: tuple[Decomposition, Scorecard],
    untold: tuple[Decomposition, Scorecard],
) -> tuple[Path, Scorecard]:
    """The folder and the scorecard of each run in turn."""
    return (folder, run[1]) if request.param == "told" else (untold_folder, untold[1])

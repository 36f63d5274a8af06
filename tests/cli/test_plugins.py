"""Does one new file each add a target, a loss and an importance function, from the command line's point of view?"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import QUICK, begin, finish

TOY = '''
"""Three features on three neurons, one each."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import nn

from unbraid.targets.data import SparseFeatures
from unbraid.targets.toy_kit.probes import co_active_probes, one_hot_probes
from unbraid.targets.toy import Toy, toys
from unbraid.targets.truth import SiteTruth, Truth, feature_on


@toys.register
class Diagonal(Toy):
    kind: Literal["diagonal"] = "diagonal"
    size: int = 3

    summary: ClassVar[str] = "a diagonal matrix"
    lesson: ClassVar[str] = "none"
    sites: ClassVar[tuple[str, ...]] = ("0",)

    def build(self):
        module = nn.Sequential(nn.Linear(self.size, self.size, bias=False))
        with torch.no_grad():
            module[0].weight.copy_(torch.eye(self.size))
        return module

    def data(self):
        return SparseFeatures(self.size, 0.2)

    def truth(self, module):
        eye = torch.eye(self.size)
        site = SiteTruth(V=eye, U=eye, pattern="per_feature", on=feature_on, needed=feature_on)
        return Truth(sites={"0": site}, one_hot=one_hot_probes(self.size), co_active=co_active_probes(self.size))
'''
LOSS = """
from typing import Literal

from unbraid.decompose.step import Loss, LossConfig, losses


@losses.register
class TotalConfig(LossConfig):
    kind: Literal["total-importance"] = "total-importance"
    power: float = 1.0

    def build(self, model):
        return Total(self)


class Total(Loss):
    def __init__(self, config):
        super().__init__()
        self.coefficient = config.coefficient
        self.power = config.power

    def forward(self, step):
        return sum(g.mean() for g in step.importances.upper.values()) ** self.power
"""
IMPORTANCE = '''
from typing import Literal

import torch
from torch import nn

from unbraid.decompose.importance_function import ImportanceConfig, ImportanceFunction, importance_functions


@importance_functions.register
class ConstantConfig(ImportanceConfig):
    kind: Literal["constant"] = "constant"
    start: float = 0.5

    def build(self, sites, generator):
        return Constant(self.start, sites)


class Constant(ImportanceFunction):
    """The same importance on every input."""

    def __init__(self, start, sites):
        super().__init__()
        self.paths = list(sites)
        self.logits = nn.ParameterList([nn.Parameter(torch.full((site.C,), start)) for site in sites.values()])

    def forward(self, inputs, activations):
        return {path: logit.expand(*inputs[path].shape[:-1], -1) for path, logit in zip(self.paths, self.logits)}
'''


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    folder = tmp_path / "my plugins"
    folder.mkdir()
    for name, text in (("toy", TOY), ("loss", LOSS), ("importance", IMPORTANCE)):
        (folder / f"{name}.py").write_text(text)
    return folder


def test_one_file_each(plugins: Path, tmp_path: Path) -> None:
    """In processes of their own, so that nothing which was registered here can help."""
    mine = ["--set=losses.total-importance={coefficient: 1e-3, power: 2}", "--set=importance.kind=constant", "--set=target.size=4"]
    run = finish(begin("decompose", "diagonal", *QUICK, *mine, "--plugins", plugins, "--out", "run", cwd=tmp_path))
    assert (run.code, run.err) == (0, ""), run
    assert run.out.splitlines()[-1].endswith(f"unbraid score run --plugins '{plugins}'")
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert all(text in config for text in ("total-importance", "constant", "diagonal", "size: 4"))
    card = (tmp_path / "run" / "scorecard.json").read_bytes()
    again = finish(begin("score", "run", "--plugins", plugins, "--no-report", cwd=tmp_path))
    assert (again.code, again.out) == (0, run.out)
    assert (tmp_path / "run" / "scorecard.json").read_bytes() == card


def test_the_environment_names_plugin_folders_too(plugins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / "toy.py").write_text(TOY.replace('"diagonal"', '"another"'))  # another file of the same name
    monkeypatch.setenv("UNBRAID_PLUGINS", os.pathsep.join([str(plugins), str(more)]))
    told = finish(begin("targets", "list", "--json", cwd=tmp_path))
    rows = {row["name"]: row["weights"] for row in json.loads(told.out)["targets"]}
    assert (rows["diagonal"], rows["another"]) == ("built", "built")

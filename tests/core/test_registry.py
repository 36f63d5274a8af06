from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import pytest
import torch

from tests.models import decomposed, step_for
from unbraid.core.config import Config
from unbraid.core.errors import UserError
from unbraid.core.registry import Registry, load_plugins
from unbraid.decompose.config import DecomposeConfig
from unbraid.targets.target import Target

LOSS = """
from typing import Literal
from unbraid.decompose.step import Loss, LossConfig, losses

@losses.register
class OnesConfig(LossConfig):
    kind: Literal["ones"] = "ones"
    power: int = 1

    def build(self, model):
        return Ones(self)

class Ones(Loss):
    def __init__(self, config):
        super().__init__()
        self.coefficient, self.power = config.coefficient, config.power

    def forward(self, step):
        return sum(g.sum() for g in step.importances.upper.values()) ** self.power
"""


class Shape(Config):
    kind: str


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[Shape]:
    """A registry over a package of two files, found only when they are asked for."""
    package = tmp_path / "shapes_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("shapes = None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[Shape] = Registry("shape", "shapes_of_a_test")

    @registry.register
    class Circle(Shape):
        kind: Literal["circle"] = "circle"
        radius: float = 1.0

    del Circle
    return registry


def test_parse_takes_names_mappings_and_ready_settings(shapes: Registry[Shape]) -> None:
    circle = shapes.parse("circle")
    assert circle.tree() == {"kind": "circle", "radius": 1.0}
    assert shapes.parse({"kind": "circle", "radius": 2}).tree()["radius"] == 2.0
    assert shapes.parse({"radius": 3}, default_kind="circle").tree()["radius"] == 3.0
    assert shapes.parse(circle) is circle


def test_parse_explains_what_is_wrong(shapes: Registry[Shape]) -> None:
    with pytest.raises(ValueError, match="Unknown shape 'cirle'. Closest: 'circle'"):
        shapes.parse("cirle")
    with pytest.raises(ValueError, match="unknown key 'radus'. Closest: 'radius'"):
        shapes.parse({"kind": "circle", "radus": 1})
    with pytest.raises(ValueError, match="a shape is a name or a mapping with 'kind'; the kinds are circle"):
        shapes.parse(3)


def test_one_new_file_in_a_plugin_folder_is_a_loss(tmp_path: Path, restore_kinds: None, target: Target) -> None:
    (tmp_path / "ones.py").write_text(LOSS)
    assert load_plugins(tmp_path) == ["ones.py"]
    try:
        config = DecomposeConfig.parse({"losses": {"ones": {"power": 2}}})
        model, _ = decomposed(target)
        step = step_for(target, model)
        total = torch.stack([g.sum() for g in step.importances.upper.values()]).sum()
        torch.testing.assert_close(config.losses["ones"].build(model)(step), total**2)
        assert DecomposeConfig.parse(config.tree()) == config
        assert load_plugins(tmp_path) == []  # a file is loaded once
    finally:
        del sys.modules["unbraid_plugin_ones"]


def test_broken_plugin_is_named_and_forgotten(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import a_module_that_is_not_there\n")
    with pytest.raises(UserError, match=r"broken\.py' cannot be imported: ModuleNotFoundError"):
        load_plugins(tmp_path)
    assert "unbraid_plugin_broken" not in sys.modules


def test_plugin_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no plugin folder"):
        load_plugins(tmp_path / "none")

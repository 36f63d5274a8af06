from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.stability.path.test_verb import gate_target
from unbraid.core.errors import UserError
from unbraid.stability.path.config import PathConfig
from unbraid.stability.path.training import TrainingResult, training
from unbraid.targets.data import as_data
from unbraid.targets.target import Target

CONFIG = PathConfig(pairs=40, bank=80, points=21)


def stages(*steepness: float) -> list[Target]:
    torch.manual_seed(3)
    data = torch.randn(200, 4)
    targets = [gate_target(each) for each in steepness]
    for target in targets:
        target.fresh = target.data = as_data([data])
    return targets


def test_a_model_that_steepens_becomes_sharper_and_one_that_stays_does_not() -> None:
    grows, stays = training(stages(0.01, 1.0, 5.0), CONFIG), training(stages(0.5, 0.5), CONFIG)

    assert grows.change is not None
    assert grows.change.high < 0
    assert "become sharper" in grows.verdict()
    assert stays.change is not None
    assert abs(stays.change.value) < 1e-6
    assert "do not become sharper" in stays.verdict()


def test_checkpoints_come_back_from_disk(tmp_path: Path) -> None:
    result = training(stages(0.01, 1.0), CONFIG)
    again = TrainingResult.from_pretrained(result.save_pretrained(tmp_path))

    assert again.tree() == result.tree()
    assert again.plot_training("dark").svg().startswith("<svg")
    with pytest.raises(UserError, match="no checkpoints"):
        TrainingResult.from_pretrained(tmp_path / "stage-0")


def test_one_checkpoint_is_not_enough() -> None:
    with pytest.raises(UserError, match="two or more"):
        training(stages(1.0), CONFIG)

"""A step that leaves the numbers stops before anything moves, and says where that began."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.models import mlp
from unbraid.core.errors import UserError
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.training import Training, prepare
from unbraid.targets.target import Target

CONFIG = DecomposeConfig.parse({"steps": 4, "batch_size": 8, "components": 3, "warmup": {"steps": 0}})


def run(target: Target, training: Training) -> None:
    train(training, target, CONFIG, Watch(lambda step, metrics: None, lambda state: None, lambda: False))


def test_a_model_that_answers_with_nan_is_refused_before_training() -> None:
    module = mlp()
    module[0].weight.data *= 1e38
    module[2].weight.data *= 1e38
    with pytest.raises(UserError, match="on its own data holds NaN or infinity, before anything is masked"):
        prepare(Target(module, sites="*", data=[torch.randn(8, 4)]), CONFIG)


def test_nan_in_the_clean_pass_of_a_later_batch_names_it_and_moves_nothing() -> None:
    batches: list[Tensor] = [torch.randn(8, 4), torch.full((8, 4), 3e38)]
    module = mlp()
    module[0].weight.data *= 100
    target = Target(module, sites="*", data=batches)
    training = prepare(target, CONFIG)
    with pytest.raises(UserError, match=r"own output holds NaN or infinity, from what the site '2' reads.*clean pass"):
        run(target, training)
    assert training.step == 1
    assert all(bool(torch.isfinite(parameter).all()) for parameter in training.model.parameters())


def test_nan_in_the_importances_names_the_site() -> None:
    target = Target(mlp(), sites="*", data=[torch.randn(8, 4)])
    training = prepare(target, CONFIG)
    with torch.no_grad():
        next(iter(training.function.parameters())).fill_(torch.nan)
    with pytest.raises(UserError, match="importances of the site '0' are no longer finite"):
        run(target, training)


def test_nan_under_masks_names_the_loss() -> None:
    target = Target(mlp(), sites="*", data=[torch.randn(8, 4)])
    training = prepare(target, CONFIG)
    with torch.no_grad():
        next(iter(training.model.parameters())).fill_(3e38)
    with pytest.raises(UserError, match="loss 'stochastic' is no longer finite; the clean pass and the importances are"):
        run(target, training)

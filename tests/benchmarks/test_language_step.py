"""Where the time of a step goes adds up, and the operations counted are those of the products."""

from __future__ import annotations

import pytest
import torch

from benchmarks.language_step import PARTS, operations, shares
from benchmarks.small_language_model import small_config, small_target
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.training import prepare


def test_shares_of_a_step_add_up() -> None:
    target = small_target(d=16, n_layers=1, n_heads=2, d_mlp=24, vocabulary=80)
    config = small_config({"kind": "global-mlp", "hidden": 16}, batch_size=2, components=8)
    training = prepare(target, config)
    watch = Watch(lambda step, metrics: None, lambda state: None, lambda: False)

    def two_steps() -> None:
        train(training, target, config, watch, until=2)

    found = shares(two_steps, "cpu")
    assert tuple(found) == PARTS
    assert sum(found.values()) == pytest.approx(1, abs=0.01)
    assert min(found[part] for part in PARTS[:-1]) > 0
    assert found["adversary"] > found["target forward"]


def test_operations_are_counted() -> None:
    x = torch.randn(8, 8)

    def product() -> None:
        torch.mm(x, x)

    assert operations(product) == 2 * 8**3

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from unbraid.stability.engine.carrier import Carrier
from unbraid.stability.engine.places import place_named
from unbraid.stability.radius.gain import gains, relative_changes, stages_of
from unbraid.stability.radius.rays import Rays


def test_linear_map_neither_corrects_nor_spreads_what_is_of_its_own_kind_and_removes_what_it_does_not_see() -> None:
    layer = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor([2.0, 2.0, 0.0])))
    carrier = Carrier(layer, torch.tensor([3.0, 0, 0]), place_named(layer, "input"))
    assert stages_of(carrier) == ["output"]
    rays = Rays.towards(carrier.anchor, torch.eye(3)[1:], turns=False)
    changes = relative_changes(carrier, rays, 0.3, stages_of(carrier)).numpy()
    assert changes[:, 0].tolist() == pytest.approx([0.1, 0.1])
    assert gains(changes)[:, 0].tolist() == pytest.approx([1.0, 0.0])


def test_blocks_multiply() -> None:
    changes = np.array([[0.1, 0.05, 0.2]])
    assert gains(changes).tolist() == [[pytest.approx(0.5), pytest.approx(4.0)]]
    assert gains(changes).prod() == pytest.approx(changes[0, -1] / changes[0, 0])


def test_change_of_nothing_is_undefined() -> None:
    layer = nn.Linear(2, 2, bias=False)
    carrier = Carrier(layer, torch.zeros(2), place_named(layer, "input"))
    rays = Rays.towards(carrier.anchor, torch.eye(2), turns=False)
    assert bool(relative_changes(carrier, rays, 1.0, ["output"]).isnan().all())

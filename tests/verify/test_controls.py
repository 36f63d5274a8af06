from __future__ import annotations

import pytest
import torch

from unbraid.decompose.preset import resolve
from unbraid.targets.data import draw
from unbraid.targets.toy import find_toy
from unbraid.verify.controls import CONTROLS, Control, control_named

EACH = [pytest.param(control, toy, id=f"{toy}-{control.name}") for control in CONTROLS for toy in control.toys]


@pytest.mark.parametrize(("control", "name"), EACH)
def test_a_control_can_be_run_and_something_in_it_is_spoilt(control: Control, name: str) -> None:
    toy = find_toy(name)
    real, spoilt = toy.target(), control.target(toy)
    config = resolve(name)
    first = [draw(target.data, 0, 64, torch.Generator().manual_seed(0))[0] for target in (real, spoilt)]
    changed = (
        spoilt.fingerprint() != real.fingerprint(),
        type(spoilt.data) is not type(real.data) and not torch.equal(*first),
        control.config(config) != config,
        control.stop_at is not None,
    )
    assert sum(changed) == 1


def test_the_untrained_target_keeps_the_truth_of_the_real_one() -> None:
    toy = find_toy("tms-5-2")
    real, spoilt = toy.target().truth, control_named("random-init target").target(toy).truth
    assert real is not None and spoilt is not None
    assert all(torch.equal(real.sites[path].U, site.U) for path, site in spoilt.sites.items())


def test_shuffling_keeps_how_often_each_feature_is_on() -> None:
    toy = find_toy("compiled-blocks")
    real, spoilt = toy.target(), control_named("shuffled data").target(toy)
    x, y = (target.data.batch(0, 512, torch.Generator().manual_seed(0)) for target in (real, spoilt))
    assert torch.equal(x.sort(dim=0).values, y.sort(dim=0).values)
    assert not torch.equal(x, y)


def test_pressure_is_multiplied_on_minimality_alone() -> None:
    config = resolve("tms-5-2")
    changed = control_named("minimality × 30").config(config)
    assert changed.losses["minimality"].coefficient == pytest.approx(30 * config.losses["minimality"].coefficient)
    assert changed.losses["stochastic"] == config.losses["stochastic"]

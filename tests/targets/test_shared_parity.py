from __future__ import annotations

import pytest
import torch

from unbraid.core.errors import UserError
from unbraid.targets.toys.shared_parity import SharedParity


def test_composed_tasks_are_the_parity_of_two_base_tasks() -> None:
    toy = SharedParity()
    assert toy.uses.sum(1).tolist() == [1] * 6 + [2] * 3
    x = toy.data().batch(0, 200, torch.Generator().manual_seed(0))
    for row, wanted in zip(x, toy.wanted(x), strict=True):
        bits = [index for base in toy.uses[int(row[:9].argmax())].nonzero()[:, 0] for index in toy.subsets[base].tolist()]
        assert float(wanted) == sum(int(row[9 + bit]) for bit in bits) % 2


def test_base_tasks_share_no_bit_while_there_are_enough() -> None:
    assert len(SharedParity().subsets.unique()) == 12


def test_frequent_tasks_come_first() -> None:
    x = SharedParity(zipf=1.0).data().batch(0, 20_000, torch.Generator().manual_seed(0))
    share = x[:, :9].mean(0)
    assert float(share[0] / share[3]) == pytest.approx(4, rel=0.15)


def test_too_many_composed_tasks_are_refused() -> None:
    with pytest.raises(UserError, match="pairs"):
        _ = SharedParity(n_tasks=9, shared=0.8).uses


def test_the_bundled_model_is_real_and_an_untrained_one_is_not() -> None:
    toy = SharedParity()
    assert [check.name for check in toy.checks(toy.load()) if not check.passed] == []
    assert not toy.is_real(toy.build())


def test_a_sub_parity_serves_every_task_that_uses_it() -> None:
    toy = SharedParity()
    site = toy.truth(toy.load()).sites["linear2"]
    base, composed = int(toy.uses[6].nonzero()[0, 0]), 6
    bits = torch.zeros(12)
    bits[toy.subsets[base, 0]] = 1
    inputs = torch.stack([torch.cat([torch.eye(9)[task], bits]) for task in (base, composed)])
    piece = site.modules.index(f"parity {base}")
    assert site.on(inputs)[:, piece].tolist() == [1, 1]
    other = [task for task in range(9) if not bool(toy.uses[task, base])]
    assert not bool(site.on(torch.stack([torch.cat([torch.eye(9)[task], bits]) for task in other]))[:, piece].any())


def test_the_panel_beats_one_half_on_every_task() -> None:
    toy = SharedParity()
    panel = toy.panel(toy.load())
    assert panel.features[:2] == ("0: 0", "1: 1")
    assert panel.naive_per_feature.tolist() == [0.25] * 9
    assert bool((panel.loss_per_feature < 0.025).all())

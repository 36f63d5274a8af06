from __future__ import annotations

import pytest
import torch

from unbraid.targets.toy_kit.functional import IDLE, MIXED, cross_talk, input_effects, labels_of, module_names, resampled, specialisation


def test_resampling_keeps_the_other_columns_and_the_groups_own_values() -> None:
    x = torch.randn(50, 4)
    changed = resampled(x, (1, 2), torch.Generator().manual_seed(0))
    assert torch.equal(changed[:, [0, 3]], x[:, [0, 3]])
    torch.testing.assert_close(changed[:, 1].sort().values, x[:, 1].sort().values)
    rows = {tuple(row) for row in x[:, 1:3].tolist()}
    assert all(tuple(row) in rows for row in changed[:, 1:3].tolist())


def test_a_number_is_moved_by_the_inputs_that_it_reads_alone() -> None:
    x = torch.randn(4000, 2)
    effects = input_effects(lambda inputs: torch.stack([inputs[:, 0], 2 * inputs[:, 1]], dim=1), x, [(0,), (1,)])
    assert effects[1, 0] == 0
    assert effects[0, 1] == 0
    assert effects[:, 0].sum() == pytest.approx(2.0, rel=0.15)  # twice the variance
    assert effects[:, 1].sum() == pytest.approx(8.0, rel=0.15)


def test_unclear_and_silent_neurons_have_no_group() -> None:
    effects = torch.tensor([[1.0, 0.6, 0.0, 0.1], [0.1, 0.4, 0.0, 0.9]])
    assert labels_of(effects).tolist() == [0, MIXED, IDLE, 1]
    assert module_names(torch.tensor([0, MIXED]), "teacher") == ("teacher 0", "mixed")


def test_specialised_neurons_and_cross_talk_are_different_things() -> None:
    effects = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert specialisation(effects) == 1
    assert cross_talk(torch.tensor([[1.0, 0.5], [0.5, 1.0]])) == pytest.approx(1 / 3)
    assert cross_talk(torch.eye(3)) == 0

from __future__ import annotations

import torch

from unbraid.targets.toys.retina import Retina, object_left, objects


def test_half_of_all_patterns_are_objects() -> None:
    patterns = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    assert int(object_left(patterns).sum()) == 8


def test_a_blank_side_holds_no_object_and_the_right_one_is_mirrored() -> None:
    x = torch.zeros(3, 8)
    x[1, 0] = 1
    x[2, 7] = 1
    assert objects(x).tolist() == [[0, 0], [1, 0], [0, 1]]


def test_the_goal_needs_both_objects() -> None:
    x = torch.zeros(2, 8)
    x[:, 0] = 1
    x[1, 7] = 1
    assert Retina().wanted(x).tolist() == [[0], [1]]


def test_an_untrained_model_is_not_real() -> None:
    toy = Retina()
    assert not toy.is_real(toy.build())


def test_the_bundled_model_is_real() -> None:
    toy = Retina()
    module = toy.load()
    assert [check.name for check in toy.checks(module) if not check.passed] == []
    truth = toy.truth(module)
    assert {"left", "right"} <= set(truth.sites["linear1"].modules)

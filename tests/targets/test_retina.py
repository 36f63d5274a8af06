from __future__ import annotations

import torch

from unbraid.targets.toy_kit.mlp import as_mlp
from unbraid.targets.toys.retina import GOALS, Retina, object_left, objects


def test_half_of_all_patterns_are_objects() -> None:
    patterns = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    assert int(object_left(patterns).sum()) == 8


def test_a_blank_side_holds_no_object_and_the_right_one_is_mirrored() -> None:
    x = torch.zeros(3, 8)
    x[1, 0] = 1
    x[2, 7] = 1
    assert objects(x).tolist() == [[0, 0], [1, 0], [0, 1]]


def test_each_object_is_needed_where_the_other_is_missing() -> None:
    x = torch.zeros(4, 8)
    x[1:3, 0] = 1
    x[2:, 7] = 1
    assert Retina().wanted(x).tolist() == [[0], [1], [0], [1]]


def test_some_goals_ask_for_more_than_the_sum_of_the_objects() -> None:
    one, none = torch.ones(1), torch.zeros(1)
    assert {name for name, goal in GOALS.items() if goal(one, none) != goal(none, one)} == {"L AND NOT R", "R AND NOT L"}


def test_an_untrained_model_is_not_real() -> None:
    toy = Retina()
    assert not toy.is_real(toy.build())


def test_the_bundled_model_is_real() -> None:
    toy = Retina()
    module = toy.load()
    assert [check.name for check in toy.checks(module) if not check.passed] == []
    assert {"left", "right"} == set(toy.truth(module).module_names)


def test_what_fires_tells_the_sides_of_the_bundled_model_apart() -> None:
    toy = Retina()
    truth = toy.truth(toy.load())
    left = torch.zeros(1, 8)
    left[0, 0] = 1
    for site in truth.sites.values():
        fires = [name for name, on in zip(site.modules, site.on(left)[0].tolist(), strict=True) if on]
        assert set(fires) == {"left"}


def test_an_ablated_neuron_that_is_silent_changes_nothing() -> None:
    toy = Retina()
    module = as_mlp(toy.load())
    x = toy.data().batch(0, 500, torch.Generator().manual_seed(0))
    hidden = x
    for path, site in toy.truth(module).sites.items():
        hidden = (hidden @ site.V * site.on(x)) @ site.U + module.get_parameter(f"{path}.bias")
        hidden = hidden.relu()
    answer = module.after(hidden, 2)
    assert float(((answer > 0.5) == (toy.wanted(x) > 0.5)).float().mean()) > 0.98


def test_the_panel_beats_the_naive_answer_whichever_objects_are_there() -> None:
    toy = Retina()
    panel = toy.panel(toy.load())
    assert panel.features == ("neither", "left alone", "right alone", "both")
    assert bool((panel.loss_per_feature < 0.1 * panel.naive_per_feature).all())
    assert panel.oracle_per_feature.tolist() == [0, 0, 0, 0]

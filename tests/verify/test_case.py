from __future__ import annotations

import pytest

from unbraid.core.errors import UserError
from unbraid.targets.toy import find_toy, toys
from unbraid.verify.case import Case, cases
from unbraid.verify.controls import CONTROLS


def test_each_toy_at_its_own_number_of_seeds() -> None:
    found = cases(["tms-5-2"], None, 0, controls=False, phases=False)
    assert [case.seed for case in found] == list(range(find_toy("tms-5-2").verify_seeds))
    assert {case.toy for case in found} == {"tms-5-2"}


def test_seeds_can_be_fresh_ones() -> None:
    assert [case.seed for case in cases(["tms-5-2"], 2, 20, controls=False, phases=False)] == [20, 21]


def test_without_a_name_every_toy_is_verified() -> None:
    assert {case.toy for case in cases([], 1, 0, controls=False, phases=False)} == set(toys.kinds())


def test_no_two_cases_share_a_folder() -> None:
    names = [case.name for case in cases([], 2, 0, controls=True, phases=True)]
    assert len(names) == len(set(names))
    assert not any(set(name) & set("/\\: ") for name in names)


def test_every_control_names_toys_that_are_there() -> None:
    for control in CONTROLS:
        assert set(control.toys) <= set(toys.kinds()), control.name


def test_overrides_are_part_of_the_case() -> None:
    case = cases(["tms-5-2"], 1, 0, controls=False, phases=False, overrides=("steps=10",))[0]
    assert case.overrides == ("steps=10",)
    assert case.tree() != Case("tms-5-2").tree()


def test_knobs_of_variants_and_cells_are_ones_that_the_toy_has() -> None:
    for case in cases([], 1, 0, controls=False, phases=True):
        toys.get(case.toy).parse({"kind": case.toy, **case.knobs})


def test_unknown_toys_and_no_seeds_are_told() -> None:
    with pytest.raises(UserError, match="Closest: 'tms-5-2'"):
        cases(["tms-52"], None, 0, controls=False, phases=False)
    with pytest.raises(UserError, match="at least 1"):
        cases(["tms-5-2"], 0, 0, controls=False, phases=False)

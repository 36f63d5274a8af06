from __future__ import annotations

from unbraid.core.errors import closest, unknown


def test_closest() -> None:
    assert closest("stochstic", ["stochastic", "minimality"]) == "stochastic"
    assert closest("xyz", ["stochastic", "minimality"]) is None


def test_unknown_names_given_closest_allowed_and_command() -> None:
    error = unknown("target", "tms-52", ["tms-5-2", "tms-40-10"], "unbraid targets list")
    assert error.what == "Unknown target 'tms-52'."
    assert error.fix == "Closest: 'tms-5-2'. Allowed: tms-40-10, tms-5-2. List them: unbraid targets list"
    assert unknown("target", "a", []).fix == "There are none."

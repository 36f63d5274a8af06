from __future__ import annotations

import os

import pytest

from unbraid.core.devices import cpu_seconds, environment, peak_memory_mb, set_waiting_policy


def test_waiting_policy_is_a_default_that_a_person_can_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    set_waiting_policy()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    set_waiting_policy()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_measurements_are_plausible() -> None:
    assert 0 < cpu_seconds() < 3600
    assert 50 < peak_memory_mb() < 100_000  # torch alone is larger than 50 MB


def test_environment_names_the_versions() -> None:
    facts = environment("cpu", 1)
    assert facts["device"] == "cpu"
    assert facts["versions"]["torch"]

"""Fixtures that the tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.models import mlp, tied_pair
from unbraid.core.registry import Registry
from unbraid.targets.target import Target


@pytest.fixture(autouse=True)
def _one_seed() -> Iterator[None]:
    """Every test starts from the same global seed, and torch may use one thread."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def target() -> Target:
    """A two-layer MLP 4 → 6 → 3 with both matrices as sites."""
    return Target(mlp(), sites="*", data=[torch.randn(8, 4)])


@pytest.fixture
def tied_target() -> Target:
    """Two layers 5 → 2 → 5 whose weights are each other's transpose."""
    return Target(tied_pair(), sites=("down", "up"), data=[torch.rand(8, 5)], tied=(("down", "up"),))


@pytest.fixture
def restore_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget, after the test, whatever it registers."""
    from unbraid.decompose.importance_function import importance_functions
    from unbraid.decompose.step import losses
    from unbraid.targets.toy import toys

    registry: Registry
    for registry in (losses, importance_functions, toys):
        monkeypatch.setattr(registry, "_kinds", dict(registry.kinds()))

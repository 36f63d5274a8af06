"""Are shapes really checked while the tests run?"""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from unbraid.decompose.fused import leaky_hard
from unbraid.decompose.masks import Mask, interpolate
from unbraid.targets.behaviour import mse


def test_wrong_shape_raises() -> None:
    with pytest.raises(TypeCheckError):
        mse(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(TypeCheckError):
        interpolate(torch.zeros(2, 3), torch.zeros(2, 4))


def test_wrong_type_raises() -> None:
    with pytest.raises(TypeCheckError):
        leaky_hard(torch.zeros(2, 3, dtype=torch.int64))


def test_wrong_shape_in_a_dataclass_raises() -> None:
    with pytest.raises(TypeCheckError):
        Mask(component=torch.zeros(2, 3), delta=torch.zeros(3))

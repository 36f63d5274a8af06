from __future__ import annotations

import pytest
import torch

from unbraid.core.errors import UserError
from unbraid.stability.radius.units import one_feature_more

PROBES = 0.75 * torch.eye(5)


def test_one_feature_that_was_off_is_on_besides(generator: torch.Generator) -> None:
    inputs = torch.tensor([[0.75, 0.75, 0, 0, 0.02], [0, 0, 0, 0, 0]]).repeat(200, 1)
    added = one_feature_more(inputs, PROBES, generator) - inputs
    assert sorted(set(added.nonzero()[::2, 1].tolist())) == [2, 3, 4]  # noise is no feature
    assert sorted(set(added.nonzero()[1::2, 1].tolist())) == [0, 1, 2, 3, 4]
    torch.testing.assert_close(added.sum(1), torch.full((400,), 0.75))


def test_negative_features_are_on_too(generator: torch.Generator) -> None:
    inputs = torch.tensor([[-0.8, 0.9, -0.5, 0.7, 0.0]])
    assert (one_feature_more(inputs, PROBES, generator) - inputs).nonzero()[0, 1] == 4


def test_input_with_every_feature_on_can_have_none_more(generator: torch.Generator) -> None:
    with pytest.raises(UserError, match="every feature on"):
        one_feature_more(torch.ones(2, 5), PROBES, generator)

from __future__ import annotations

import pytest
import torch
from torch import nn

from unbraid.core.errors import UserError
from unbraid.targets.toy_kit.mlp import as_mlp, seeded_mlp


def test_hidden_layers_and_what_follows_make_the_output() -> None:
    module, x = seeded_mlp((3, 5, 4, 2), True, seed=0), torch.randn(7, 3)
    for layer in (1, 2):
        torch.testing.assert_close(module.after(module.hidden(x, layer), layer), module(x))


def test_a_seed_decides_the_weights_and_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second, other = (seeded_mlp((2, 3), False, seed).get_parameter("linear1.weight") for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_another_model_is_refused() -> None:
    with pytest.raises(UserError, match="Linear"):
        as_mlp(nn.Linear(2, 2))

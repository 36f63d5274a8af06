from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from tests.models import mlp
from unbraid.core.errors import UserError
from unbraid.targets.target import Target, apply


class Wrapped(nn.Module):
    def __init__(self, pack: object) -> None:
        super().__init__()
        self.layer, self.pack = nn.Linear(2, 2), pack

    def forward(self, x: Tensor, y: Tensor | None = None) -> object:
        out = self.layer(x if y is None else x + y)
        return self.pack(out) if callable(self.pack) else out


@pytest.mark.parametrize("pack", [None, lambda out: SimpleNamespace(logits=out), lambda out: (out, 1), lambda out: [out]])
def test_outputs_of_every_packing(pack: object) -> None:
    module, x = Wrapped(pack), torch.randn(3, 2)
    torch.testing.assert_close(apply(module, x), module.layer(x))


def test_batches_of_every_packing() -> None:
    module, x, y = Wrapped(None), torch.randn(3, 2), torch.randn(3, 2)
    torch.testing.assert_close(apply(module, (x, y)), module.layer(x + y))
    torch.testing.assert_close(apply(module, {"x": x, "y": y}), module.layer(x + y))


def test_output_without_a_tensor() -> None:
    with pytest.raises(UserError, match="The model returned dict"):
        apply(Wrapped(lambda out: {"out": out}), torch.randn(3, 2))


def test_nan_data_is_refused_at_once() -> None:
    with pytest.raises(UserError, match="The data holds NaN or infinity"):
        Target(mlp(), sites="*", data=[torch.full((2, 4), torch.nan)])


def test_unknown_behaviour_is_refused_at_once() -> None:
    with pytest.raises((UserError, TypeError)):
        Target(mlp(), sites="*", data=[torch.zeros(2, 4)], behaviour="mes")  # pyright: ignore[reportArgumentType]


def test_target_is_in_evaluation_mode_and_gives_no_gradient() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.9))
    target = Target(module, sites="0", data=[torch.ones(2, 4)])
    assert torch.equal(target(torch.ones(2, 4)), target(torch.ones(2, 4)))
    assert not target(torch.ones(2, 4)).requires_grad


def test_fingerprint_tells_weights_apart() -> None:
    module, data = mlp(), [torch.zeros(2, 4)]
    before = Target(module, sites="*", data=data).fingerprint()
    assert Target(module, sites="0", data=data).fingerprint() == before
    with torch.no_grad():
        module.get_parameter("0.bias")[0] += 1e-6
    assert Target(module, sites="*", data=data).fingerprint() != before

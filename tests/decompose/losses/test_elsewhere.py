"""Do subcomponents leave alone what the model does elsewhere? With the loss they do, without it they do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unbraid
from unbraid.core.errors import UserError

HALF = 4


def inputs(of: slice) -> Any:
    """Return a source of inputs that are zero outside one half of the features."""

    def draw(size: int, generator: torch.Generator) -> Tensor:
        x = torch.zeros(size, 2 * HALF)
        on = torch.rand(size, HALF, generator=generator) < 0.3
        x[:, of] = torch.rand(size, HALF, generator=generator) * on
        return x

    return draw


def decomposed(elsewhere: bool, **losses: Any) -> unbraid.Decomposition:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2 * HALF, 2 * HALF, bias=False))
    target = unbraid.Target(
        module, sites="*", data=inputs(slice(HALF)), elsewhere=inputs(slice(HALF, None)) if elsewhere else None, behaviour="mse"
    )
    config = unbraid.DecomposeConfig.parse(
        {
            "steps": 500,
            "batch_size": 128,
            "components": 12,
            "warmup": {"steps": 0},
            "losses": {"unmasked": {}, "stochastic": {}, "minimality": {"coefficient": 1e-4}, **losses},
            "optimizer": {"factors": {"learning_rate": 1e-2}, "importance": {"learning_rate": 1e-2}},
        }
    )
    return unbraid.decompose(target, config)


def left_over(result: unbraid.Decomposition) -> tuple[float, float]:
    """How much of each half of the inputs' weights the subcomponents miss, and how much they do where they should do nothing."""
    site = result.model.sites["0"]
    V, U = site.factors.views()
    product, size = (V @ U).detach(), site.weight[:HALF].norm()
    return float((site.weight[:HALF] - product[:HALF]).norm() / size), float(product[HALF:].norm() / size)


def test_subcomponents_do_the_targeted_half_and_leave_the_other_alone() -> None:
    # Ablation alone would be met by calling every subcomponent needed there, so what is needed there costs as well.
    ablation = {"kind": "elsewhere", "coefficient": 1.0, "loss": {"kind": "stochastic"}}
    cost = {"kind": "elsewhere", "coefficient": 1e-3, "loss": {"kind": "minimality"}}
    missed, meddled = left_over(decomposed(True, ablation=ablation, cost=cost))
    assert missed < 0.1
    assert meddled < 0.1


def test_without_the_loss_they_meddle() -> None:
    missed, meddled = left_over(decomposed(False))
    assert missed < 0.1
    assert meddled > 0.3


def test_a_target_without_other_inputs_is_told() -> None:
    with pytest.raises(UserError, match="the target has none"):
        decomposed(False, other={"kind": "elsewhere", "loss": "stochastic"})


@pytest.mark.parametrize("loss", [{"kind": "persistent-adversarial"}, {"kind": "stochastic", "delta": False}, {"kind": "faithfulness"}])
def test_losses_that_mean_nothing_elsewhere_are_refused(loss: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="elsewhere"):
        decomposed(True, other={"kind": "elsewhere", "loss": loss})

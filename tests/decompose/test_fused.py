from __future__ import annotations

import pytest
import torch

from unbraid.decompose.fused import SLOPE, leaky_hard


def test_slope_is_the_papers() -> None:
    assert SLOPE == 0.01


def test_forward() -> None:
    z = torch.tensor([[-3.0, -0.1, 0.0, 0.3, 1.0, 1.5, 11.0]])
    lower, upper = leaky_hard(z)
    torch.testing.assert_close(lower, z.clamp(0, 1))
    torch.testing.assert_close(upper, torch.tensor([[0.0, 0.0, 0.0, 0.3, 1.0, 1.005, 1.1]]))


@pytest.mark.parametrize(
    ("z", "grad", "through_lower", "through_upper"),
    [
        (0.4, 1.0, 1.0, 1.0),
        (0.4, -1.0, -1.0, -1.0),
        (1.0, 1.0, 1.0, 1.0),
        (1.0, -1.0, -1.0, -1.0),
        (0.0, 1.0, 0.0, 0.0),
        (0.0, -1.0, -0.01, 0.0),
        (-2.0, 1.0, 0.0, 0.0),
        (-2.0, -1.0, -0.01, 0.0),  # a gradient that would raise a dead importance passes, a little
        (1.5, 1.0, 0.0, 0.01),
        (1.5, -1.0, 0.0, -0.01),
    ],
)
def test_backward(z: float, grad: float, through_lower: float, through_upper: float) -> None:
    for index, expected in enumerate((through_lower, through_upper)):
        x = torch.tensor([[z]], requires_grad=True)
        leaky_hard(x)[index].backward(torch.tensor([[grad]]))
        assert x.grad is not None
        assert float(x.grad) == pytest.approx(expected)


def test_gradients_of_both_add_up() -> None:
    z = torch.randn(50, 3).mul(2).requires_grad_()
    lower_grad, upper_grad = torch.randn(50, 3), torch.randn(50, 3)
    lower, upper = leaky_hard(z)
    torch.autograd.backward([lower, upper], [lower_grad, upper_grad])
    inside = (z > 0) & (z <= 1)
    expected = torch.where(inside, lower_grad + upper_grad, 0.0)
    expected = expected + torch.where((z <= 0) & (lower_grad < 0), 0.01 * lower_grad, 0.0)
    expected = expected + torch.where(z > 1, 0.01 * upper_grad, 0.0)
    torch.testing.assert_close(z.grad, expected)

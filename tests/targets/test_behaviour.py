from __future__ import annotations

import pytest
import torch

from unbraid.core.errors import UserError
from unbraid.targets.behaviour import behaviour_named, kl, mse


def test_mse_is_the_mean_over_all_elements() -> None:
    assert float(mse(torch.zeros(2, 2), torch.tensor([[1.0, 2.0], [3.0, 0.0]])).mean()) == pytest.approx(14 / 4)


def test_kl_is_the_mean_over_positions_of_the_plain_sum() -> None:
    clean, other = torch.randn(3, 4, 7), torch.randn(3, 4, 7)
    p, q = clean.softmax(-1), other.softmax(-1)
    torch.testing.assert_close(kl(clean, other), (p * (p / q).log()).sum(-1))


@pytest.mark.parametrize("name", ["mse", "kl"])
def test_equal_outputs_are_at_distance_zero(name: str) -> None:
    x = torch.randn(5, 3)
    assert float(behaviour_named(name).between(x, x.clone(), None)) == pytest.approx(0, abs=1e-7)


def test_kl_ignores_a_shift_of_all_logits() -> None:
    x = torch.randn(5, 3)
    assert float(kl(x, x + 3).mean()) == pytest.approx(0, abs=1e-6)


def test_unknown_behaviour() -> None:
    with pytest.raises(UserError, match="Unknown behaviour 'mes'. Closest: 'mse'"):
        behaviour_named("mes")


@pytest.mark.parametrize("name", ["mse", "kl"])
@pytest.mark.parametrize("lead", [(4,), (2, 3)])
def test_weights_average_over_positions(name: str, lead: tuple[int, ...]) -> None:
    distance = behaviour_named(name).between
    clean, other, weights = torch.randn(*lead, 5), torch.randn(*lead, 5), torch.rand(lead)
    weights = weights / weights.sum()
    apart = [distance(a[None], b[None], None) for a, b in zip(clean.view(-1, 5), other.view(-1, 5), strict=True)]
    torch.testing.assert_close(distance(clean, other, weights), (torch.stack(apart) * weights.flatten()).sum())
    equal = torch.full(lead, 1 / weights.numel())
    torch.testing.assert_close(distance(clean, other, equal), distance(clean, other, None))

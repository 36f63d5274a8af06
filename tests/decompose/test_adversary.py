from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unbraid.decompose.adversary import (
    Scope,
    adam_ascent,
    as_sources,
    gradients,
    projected_ascent,
    random_sources,
    sign_step,
    source_shape,
)


def test_n_choices_are_taken_in_turn() -> None:
    g = torch.zeros(5, 7, 3)
    assert source_shape(g, "nsc", 2) == (2, 7, 4)
    values = {"site": torch.rand(2, 7, 4)}
    source = as_sources(values, {"site": g})["site"]
    assert source.component.shape == (5, 7, 3)
    for example in range(5):
        assert torch.equal(source.component[example], values["site"][example % 2, :, :-1])
        assert torch.equal(source.delta[example], values["site"][example % 2, :, -1])


@pytest.mark.parametrize(
    ("scope", "shape"),
    [("c", (1, 1, 4)), ("bc", (5, 1, 4)), ("sc", (1, 7, 4)), ("bsc", (5, 7, 4))],
)
def test_scope_says_what_the_sources_vary_over(scope: Scope, shape: tuple[int, ...]) -> None:
    assert source_shape(torch.zeros(5, 7, 3), scope) == shape


def test_scope_without_positions() -> None:
    assert source_shape(torch.zeros(5, 3), "c") == (1, 4)
    assert source_shape(torch.zeros(5, 3), "sc") == (1, 4)
    assert source_shape(torch.zeros(5, 3), "bsc") == (5, 4)


def test_the_last_slot_is_delta(generator: torch.Generator) -> None:
    g = {"a": torch.zeros(5, 3)}
    values = random_sources(g, "c", generator)
    source = as_sources(values, g)["a"]
    assert torch.equal(source.component, values["a"][:, :3])
    assert source.delta.shape == (5,)
    assert torch.equal(source.delta, values["a"][0, 3].expand(5))


def test_gradient_is_with_respect_to_the_sources_alone() -> None:
    weight = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        grads = gradients(lambda values: (values["a"] * weight).square().sum(), {"a": torch.tensor([1.0, 2.0, 3.0])})
    assert grads["a"].tolist() == [2.0, 4.0, 6.0]
    assert weight.grad is None


def test_sign_step_stays_within_bounds() -> None:
    values = {"a": torch.tensor([0.0, 0.5, 0.95, 0.5])}
    moved = sign_step(values, {"a": torch.tensor([-1.0, 1e-9, 7.0, 0.0])}, 0.1)["a"]
    torch.testing.assert_close(moved, torch.tensor([0.0, 0.6, 1.0, 0.5]))
    assert values["a"][1] == 0.5  # the old sources are kept


def test_ascent_finds_the_worst_corner() -> None:
    direction = torch.tensor([1.0, -2.0, 3.0, -0.1])

    def objective(values: dict[str, Tensor]) -> Tensor:
        return (values["a"] * direction).sum()

    found = projected_ascent(objective, {"a": torch.full((4,), 0.5)}, steps=10, size=0.1)["a"]
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 1.0, 0.0]))


def test_adam_ascent_is_torchs_adam_inside_the_bounds() -> None:
    generator = torch.Generator().manual_seed(1)
    start = torch.full((6,), 0.5)
    reference = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([reference], lr=0.01, betas=(0.5, 0.99), maximize=True)
    values, moments = {"a": start.clone()}, {"a": (torch.zeros(6), torch.zeros(6))}
    for step in range(1, 11):
        grad = torch.randn(6, generator=generator)
        reference.grad = grad.clone()
        optimizer.step()
        adam_ascent(values, {"a": grad.clone()}, moments, step, 0.01, (0.5, 0.99))
    torch.testing.assert_close(values["a"], reference.detach())


def test_adam_ascent_is_projected() -> None:
    values, moments = {"a": torch.tensor([0.99, 0.01])}, {"a": (torch.zeros(2), torch.zeros(2))}
    adam_ascent(values, {"a": torch.tensor([1.0, -1.0])}, moments, 1, 0.5, (0.5, 0.99))
    assert values["a"].tolist() == [1.0, 0.0]

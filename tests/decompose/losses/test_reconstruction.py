"""Stochastic, unmasked and importance-masked reconstruction, beside explicit dense matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.models import decomposed, dense_mlp_output, step_for
from unbraid.decompose.losses.stochastic import routed_distance
from unbraid.decompose.masks import Mask, Source, draw_sources, draw_subset
from unbraid.decompose.step import Step, losses
from unbraid.targets.target import Target


def fixed_sources(step: Step) -> dict[str, Source]:
    return draw_sources(step.importances.lower, torch.Generator().manual_seed(5))


def plain_masks(step: Step, sources: dict[str, Source], delta: bool) -> dict[str, Mask]:
    return {
        path: Mask(g + (1 - g) * sources[path].component, sources[path].delta if delta else None)
        for path, g in step.importances.lower.items()
    }


def plain_distance(target: Target, step: Step, masks: dict[str, Mask]) -> torch.Tensor:
    module, x = target.module, step.clean.batch
    assert isinstance(module, nn.Sequential)
    assert isinstance(x, torch.Tensor)
    return (dense_mlp_output(step.model, module, x, masks) - module(x)).square().mean()


@pytest.mark.parametrize("delta", [True, False])
@pytest.mark.parametrize("routing", ["all", "layerwise", "subset"])
def test_stochastic_with_fixed_sources_is_the_dense_computation(target: Target, routing: str, delta: bool) -> None:
    model, _ = decomposed(target)
    step = step_for(target, model)
    sources = fixed_sources(step)
    masks = plain_masks(step, sources, delta)
    value = routed_distance(step, sources, routing, delta)  # pyright: ignore[reportArgumentType]
    if routing == "all":
        expected = plain_distance(target, step, masks)
    elif routing == "layerwise":
        expected = torch.stack([plain_distance(target, step, {path: mask}) for path, mask in masks.items()]).mean()
    else:
        routed = draw_subset(["0", "2"], torch.Size((8,)), step_for(target, model).streams["routing"], torch.device("cpu"))
        limited = {path: Mask(mask.component, mask.delta, routed[path]) for path, mask in masks.items()}
        expected = plain_distance(target, step, limited)
    torch.testing.assert_close(value, expected)
    leaves = [*step.importances.lower.values(), *model.parameters()]
    for fast, slow in zip(torch.autograd.grad(value, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)


def test_unmasked_is_the_sum_of_the_subcomponents(target: Target) -> None:
    model, _ = decomposed(target)
    step = step_for(target, model)
    masks = {path: Mask(torch.ones_like(g)) for path, g in step.importances.lower.items()}
    torch.testing.assert_close(losses.parse("unmasked").build(model)(step), plain_distance(target, step, masks))


def test_importance_masked_is_the_lowest_corner(target: Target) -> None:
    model, _ = decomposed(target)
    step = step_for(target, model)
    masks = {path: Mask(g) for path, g in step.importances.lower.items()}
    torch.testing.assert_close(losses.parse("importance-masked").build(model)(step), plain_distance(target, step, masks))


def test_full_importance_and_delta_cost_nothing(target: Target) -> None:
    model, _ = decomposed(target)
    step = step_for(target, model)
    ones = {path: torch.ones_like(g) for path, g in step.importances.lower.items()}
    kept = {path: Source(torch.rand_like(g), torch.ones(8)) for path, g in ones.items()}
    step.importances.lower.update(ones)
    assert routed_distance(step, kept, "all", delta=True).item() < 1e-10

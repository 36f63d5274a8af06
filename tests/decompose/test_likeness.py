"""Two runs are alike when they have the same parts, in any order and sign of the factors, and not by chance."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import unbraid
from unbraid.core.errors import UserError
from unbraid.decompose.likeness import best_match, cosines, likeness
from unbraid.decompose.result import Decomposition
from unbraid.decompose.training import build
from unbraid.targets.data import SparseFeatures
from unbraid.targets.target import Target


def decomposition(seed: int = 0, C: int = 6) -> Decomposition:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(30, 20, bias=False))
    target = Target(module, sites="*", data=SparseFeatures(30, 0.5))
    config = unbraid.DecomposeConfig.parse({"components": C, "seed": seed, "evaluation": {"batch_size": 64}})
    model, function = build(target, config)
    return Decomposition(target, config, model, function, 0)


def test_a_run_is_like_itself_whatever_the_order_and_the_signs_of_its_factors() -> None:
    first, second = decomposition(), decomposition()
    order = torch.tensor([3, 1, 0, 5, 2, 4])
    for site, function in ((second.model.sites["0"], second.function),):
        with torch.no_grad():
            V, U = site.factors.views()
            V.copy_(-2 * V[:, order])
            U.copy_(-U[order])
            mlp = function.get_submodule("mlps")[0]  # type: ignore[index]
            mlp.W_out.copy_(mlp.W_out[:, order])
    (site,) = likeness(first, second, batches=2).sites
    assert site.alive[0] == site.alive[1] > 0
    assert (site.reads, site.writes, site.pieces) == pytest.approx((1, 1, 1))
    assert site.chance < 0.5


def test_unrelated_runs_are_as_alike_as_chance() -> None:
    (site,) = likeness(decomposition(0, 40), decomposition(1, 40), batches=2).sites
    assert site.pieces == pytest.approx(site.chance, abs=0.05)


def test_a_piece_with_the_other_sign_is_another_piece() -> None:
    pieces = cosines(torch.eye(3), torch.eye(3)) * cosines(torch.eye(3), -torch.eye(3))
    assert best_match(pieces) == 0


def test_nothing_alive_is_no_number() -> None:
    assert math.isnan(best_match(torch.zeros(0, 4)))


def test_runs_of_other_weights_are_refused() -> None:
    first, second = decomposition(), decomposition()
    other = torch.nn.Sequential(torch.nn.Linear(30, 20, bias=False))
    second = replace(second, target=Target(other, sites="*", data=SparseFeatures(30, 0.5)))
    with pytest.raises(UserError, match="different weights"):
        likeness(first, second)

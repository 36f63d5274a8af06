"""The precision "high" multiplies as float32 does, up to errors that are known, and only where it was asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unbraid.decompose import kernels
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.masks import Between
from unbraid.decompose.precision import in_precision, is_high
from unbraid.decompose.products import has_tiles, product, splits, times
from unbraid.decompose.training import prepare
from unbraid.decompose.whole_site import whole_site
from unbraid.targets.target import Target

tiles = pytest.mark.skipif(not has_tiles(), reason="this processor has no tile unit")
SIZES = [(1, 1, 1), (17, 33, 19), (5, 7, 6), (300, 128, 70), (40, 700, 50), (513, 300, 33)]


def matrix(rows: int, cols: int, transposed: bool) -> Tensor:
    return torch.randn(cols, rows).T if transposed else torch.randn(rows, cols)


@tiles
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
def test_a_product_errs_by_a_few_parts_in_two_to_the_18(size: tuple[int, int, int], transposed: tuple[bool, bool]) -> None:
    m, k, n = size
    a, b = matrix(m, k, transposed[0]), matrix(k, n, transposed[1])
    bound = a.double().abs() @ b.double().abs()
    assert float(((product(a, b) - a.double() @ b.double()).abs() / bound).max()) < 4 * 2**-18


@tiles
def test_numbers_that_are_no_numbers_stay_so() -> None:
    a, b = torch.randn(20, 40), torch.randn(40, 20)
    a[3, 5] = torch.nan
    assert product(a, b).isnan().any(1).nonzero().flatten().tolist() == [3]


@tiles
def test_output_and_gradients_in_high() -> None:
    x, W, b, upstream = torch.randn(8, 100, 96), torch.randn(96, 40), torch.randn(40), torch.randn(8, 100, 40)
    results: list[list[Tensor]] = []
    for precision in ("high", "fp32"):
        leaves = [tensor.clone().requires_grad_() for tensor in (x, W, b)]
        with in_precision(precision, x):
            assert splits(x, W)
            y = times(*leaves)
        results.append([y, *torch.autograd.grad(y, leaves, upstream)])
    for one, other in zip(*results, strict=True):
        assert not torch.equal(one, other) or one.shape == b.shape  # a bias is added either way
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


@tiles
def test_a_site_in_high() -> None:
    C, lead = 24, (2, 200)
    at = {"x": torch.randn(*lead, 40), "V": torch.randn(40, C), "U": torch.randn(C, 56), "g": torch.rand(*lead, C)}
    r, kept, M, routed = torch.rand(*lead, C), torch.rand(lead), torch.randn(56, 40).T, torch.rand(lead) < 0.5
    results: list[list[Tensor]] = []
    for precision in ("high", "fp32"):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in at.items()}
        with in_precision(precision, M):
            y = whole_site(leaves["x"], Between(leaves["g"], r, kept, routed), leaves["V"], leaves["U"], M, None)
        results.append([y, *torch.autograd.grad(y.square().sum(), list(leaves.values()))])
    for one, other in zip(*results, strict=True):
        assert not torch.equal(one, other)
        assert float(((one - other).norm() / other.norm()).detach()) < 1e-5


def test_the_precision_ends_with_its_context() -> None:
    x = torch.randn(3)
    with in_precision("high", x):
        assert is_high()
        with pytest.raises(ZeroDivisionError), in_precision("high", x):
            raise ZeroDivisionError
        assert is_high()
    assert not is_high()
    assert not splits(x[:, None], x[None])  # too small to be worth it


class Sequences(nn.Module):
    """A norm, a hidden layer and an unembedding over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down, self.out = nn.RMSNorm(64), nn.Linear(64, 96), nn.Linear(96, 64), nn.Linear(64, 50)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x + self.down(torch.relu(self.up(self.norm(x)))))


def windows(size: int, generator: torch.Generator) -> Tensor:
    return torch.randn(size, 60, 64, generator=generator)


def test_a_run_in_high_follows_one_in_fp32() -> None:
    torch.manual_seed(0)
    target = Target(Sequences(), sites=("up", "down"), data=windows, behaviour="kl")
    settings = {
        "steps": 3,
        "batch_size": 24,
        "components": 48,
        "warmup": {"steps": 0},
        "importance": {"kind": "shared-transformer", "d_model": 32, "layers": 1, "heads": 2},
        "losses": {
            "faithfulness": {},
            "stochastic": {"routing": "subset"},
            "persistent-adversarial": {},
            "minimality": {"coefficient": 1e-3},
        },
        "log_every_steps": 1,
    }
    curves: list[list[dict[str, float]]] = []
    for precision in ("fp32", "high"):
        config, rows = DecomposeConfig.parse({**settings, "precision": precision}), list[dict[str, float]]()
        train(
            prepare(target, config),
            target,
            config,
            Watch(lambda step, metrics, rows=rows: rows.append(metrics), lambda state: None, lambda: False),
        )
        curves.append(rows)
    for one, other in zip(*curves, strict=True):
        for name in ("train/loss", "train/stochastic", "train/persistent-adversarial", "train/minimality"):
            assert other[name] == pytest.approx(one[name], rel=1e-5)
    assert (curves[0] != curves[1]) == has_tiles()


def test_the_library_of_products_is_found_whatever_device_is_the_default() -> None:
    with torch.device("meta"):
        found = kernels.blas.__wrapped__()
    assert (found is None) == (kernels.blas() is None)

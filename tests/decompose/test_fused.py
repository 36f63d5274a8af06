"""The elementwise steps: their formulas, and that compiled kernels and torch give the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unbraid.core.seeds import random_words
from unbraid.decompose import fused, kernels
from unbraid.decompose.fused import SLOPE, excess, interpolate, leaky_hard, smooth_count, unit_interval

needs_kernels = pytest.mark.skipif(kernels.library() is None, reason="no C compiler here, so there is only the torch body")
SHAPES = {"matrix": (33, 7), "one row": (1, 7), "one column": (33, 1), "wide": (3, 257)}


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


def draw(shape: tuple[int, ...], view: bool, low: float = -1.5, high: float = 2.5) -> Tensor:
    """Numbers over all branches, the exact ends among them; as a tensor of its own, or as columns of a wider one."""
    rows, cols = shape
    wide = torch.rand(rows, cols + 5) * (high - low) + low
    wide = torch.where(torch.rand(rows, cols + 5) < 0.1, torch.randint(0, 2, (rows, cols + 5)).float(), wide)
    columns = wide[:, 2 : 2 + cols]
    return columns if view else columns.clone()


def in_torch(call: Callable[[], list[Tensor]], monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Run the same without the kernels."""
    with monkeypatch.context() as patch:
        patch.setattr(fused, "library", lambda: None)
        return call()


def assert_same_bits(kernel: list[Tensor], torch_body: list[Tensor]) -> None:
    assert len(kernel) == len(torch_body) > 0
    for one, other in zip(kernel, torch_body, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert one.shape == other.shape
        assert torch.equal(one.contiguous().view(torch.int32), other.contiguous().view(torch.int32))


def with_gradients(outputs: tuple[Tensor, ...], inputs: list[Tensor], upstream: list[Tensor]) -> list[Tensor]:
    return [*(output.detach() for output in outputs), *torch.autograd.grad(outputs, inputs, upstream)]


def calls(name: str, shape: tuple[int, int], view: bool) -> Callable[[], list[Tensor]]:
    """One step on fixed numbers, with the gradients that fixed upstream ones give."""
    rows, cols = shape
    one, other = draw(shape, view), draw(shape, view)
    source, kept, weights = draw(shape, view, 0, 1), draw((rows, 1), view, 0, 1), torch.rand(rows)

    def run() -> list[Tensor]:
        x = one.detach().requires_grad_()
        if name == "leaky_hard":
            return with_gradients(leaky_hard(x), [x], [draw_upstream[0], draw_upstream[1]])
        if name == "smooth_count":
            return with_gradients((smooth_count(x, weights, 0.03),), [x], [slopes])
        if name == "interpolate":
            return with_gradients((interpolate(x, source),), [x], [draw_upstream[0]])
        mask = other.detach().requires_grad_()
        return with_gradients((excess(x, mask, kept),), [x, mask], [draw_upstream[0]])

    draw_upstream, slopes = [draw(shape, view), draw(shape, view)], torch.randn(cols)
    return run


@needs_kernels
@pytest.mark.parametrize("view", [False, True], ids=["contiguous", "columns"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", ["leaky_hard", "smooth_count", "interpolate", "excess"])
def test_kernels_give_the_same_bits_as_torch(name: str, shape: tuple[int, int], view: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    run = calls(name, shape, view)
    assert_same_bits(run(), in_torch(run, monkeypatch))


@needs_kernels
def test_kernels_run_on_float32_matrices_with_unit_column_stride_only() -> None:
    matrix = torch.zeros(3, 4)
    assert fused._c(matrix) is not None
    assert fused._c(torch.zeros(3, 9)[:, 2:6], matrix) is not None
    for other in (matrix.double(), torch.zeros(4, 3).T, torch.zeros(2, 3, 4), torch.zeros(3, 8)[:, ::2]):
        assert fused._c(matrix, other) is None


@needs_kernels
@pytest.mark.parametrize("layout", ["transposed", "every other column"])
def test_other_strides_give_the_same_numbers(layout: str) -> None:
    base = draw((9, 9), view=False)
    x = base.T if layout == "transposed" else base[:, ::2]
    for step in (leaky_hard, lambda z: (smooth_count(z, torch.full((9,), 1 / 9), 0.1),), lambda z: (interpolate(z, z.clamp(0, 1)),)):
        for value, expected in zip(step(x), step(x.contiguous()), strict=True):
            torch.testing.assert_close(value, expected)


def every_word() -> Tensor:
    return torch.arange(-(2**15), 2**15).to(torch.int16)


@needs_kernels
def test_unit_interval_gives_the_same_bits_as_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same_bits([unit_interval(every_word())], in_torch(lambda: [unit_interval(every_word())], monkeypatch))


@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_kernels), False])
def test_unit_interval_reaches_both_ends_in_equal_steps(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(fused, "library", lambda: None)
    values = unit_interval(every_word())
    assert (float(values[0]), float(values[-1])) == (0.0, 1.0)
    torch.testing.assert_close(values.diff(), torch.full((65_535,), 1 / 65_535), rtol=0, atol=1e-7)
    some = random_words(50_001, torch.Generator().manual_seed(0))
    assert float(unit_interval(some).mean()) == pytest.approx(0.5, abs=0.01)


def plain_upper(z: Tensor) -> Tensor:
    return torch.where(z > 1, 1 + SLOPE * (z - 1), z.clamp(0, 1))


@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_kernels), False])
def test_values_and_gradients_are_those_of_the_plain_formulas(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(fused, "library", lambda: None)
    x, other, weights = torch.randn(40, 6).mul_(2).requires_grad_(), torch.randn(40, 6, requires_grad=True), torch.rand(40)
    source, kept, gamma = torch.rand(40, 6), torch.rand(40, 1), 0.3
    pairs: list[tuple[Tensor, Tensor, list[Tensor]]] = [
        (leaky_hard(x)[1], plain_upper(x), [x]),
        (smooth_count(x, weights, gamma), (weights[:, None] * x**2 / (x**2 + gamma**2)).sum(0), [x]),
        (interpolate(x, source), x + (1 - x) * source, [x]),
        (excess(x, other, kept), x * other - kept * x, [x, other]),
    ]
    for fast, slow, inputs in pairs:
        torch.testing.assert_close(fast, slow)
        upstream = torch.randn(fast.shape)
        for one, two in zip(torch.autograd.grad(fast, inputs, upstream), torch.autograd.grad(slow, inputs, upstream), strict=True):
            torch.testing.assert_close(one, two)


def test_gradients_in_float64_are_those_of_finite_differences() -> None:
    x = torch.tensor([[-0.7, 0.2, 0.6, 1.4], [0.1, 0.9, 2.0, -1.1]], dtype=torch.float64, requires_grad=True)
    other = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    source, kept, weights = (torch.rand(*shape, dtype=torch.float64) for shape in ((2, 4), (2, 1), (2,)))
    assert torch.autograd.gradcheck(lambda z: leaky_hard(z)[1], [x])
    assert torch.autograd.gradcheck(lambda z: smooth_count(z, weights, 0.3), [x])
    assert torch.autograd.gradcheck(lambda z: interpolate(z, source), [x])
    assert torch.autograd.gradcheck(lambda h, m: excess(h, m, kept), [x, other])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_positions_are_rows(dtype: torch.dtype) -> None:
    x, mask, r, kept = (torch.randn(2, 3, width, dtype=dtype) for width in (5, 5, 5, 1))
    flat = [tensor.flatten(0, 1) for tensor in (x, mask, r, kept)]
    for value, expected in zip(leaky_hard(x), leaky_hard(flat[0]), strict=True):
        assert value.dtype == dtype
        torch.testing.assert_close(value.flatten(0, 1), expected)
    torch.testing.assert_close(interpolate(x, r).flatten(0, 1), interpolate(flat[0], flat[2]))
    torch.testing.assert_close(excess(x, mask, kept).flatten(0, 1), excess(flat[0], flat[1], flat[3]))


def test_one_source_for_all_rows_and_its_gradient() -> None:
    g, source = torch.rand(6, 4, requires_grad=True), torch.rand(1, 4, requires_grad=True)
    mask = interpolate(g, source)
    torch.testing.assert_close(mask, g + (1 - g) * source)
    grad_g, grad_source = torch.autograd.grad(mask.sum(), [g, source])
    torch.testing.assert_close(grad_g, (1 - source).expand(6, 4))
    torch.testing.assert_close(grad_source, (1 - g).sum(0, keepdim=True))


def test_share_of_the_whole_matrix_gets_its_gradient() -> None:
    h, mask, kept = torch.rand(6, 4), torch.rand(6, 4), torch.rand(6, 1, requires_grad=True)
    (grad,) = torch.autograd.grad(excess(h, mask, kept).sum(), [kept])
    torch.testing.assert_close(grad, -h.sum(1, keepdim=True))


def test_kernels_can_be_switched_off() -> None:
    code = "from unbraid.decompose.kernels import library; print(library())"
    environment = {**os.environ, "UNBRAID_KERNELS": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    assert done.stderr == ""


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_broken_compiler_leaves_torch(compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("UNBRAID_KERNELS", raising=False)
    assert kernels.built.__wrapped__() is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@needs_kernels
def test_cache_that_cannot_be_written_leaves_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert kernels.built.__wrapped__() is None


@needs_kernels
def test_kernels_are_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernels.built.__wrapped__() is not None
    (built,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert built.name.startswith("kernels-")
    monkeypatch.setenv("CC", "false")
    assert kernels.built.__wrapped__() is not None

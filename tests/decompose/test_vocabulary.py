"""The distance over a vocabulary is the KL of `targets.behaviour`, with its gradient, with and without the compiled kernels."""

from __future__ import annotations

import pytest
import torch

from unbraid.decompose import kernels, vocabulary
from unbraid.decompose.vocabulary import distance_between, vocabulary_kl
from unbraid.targets.behaviour import BEHAVIOURS, kl


@pytest.mark.parametrize("body", ["kernel", "torch"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_value_and_gradient(body: str, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    if body == "torch":
        monkeypatch.setattr(vocabulary, "library", lambda: None)
        monkeypatch.setattr(vocabulary, "_BLOCK", 300)  # several blocks, the last one smaller
    elif kernels.library() is None:
        pytest.skip("no C compiler here, so there is only the torch body")
    clean, other = 5 * torch.randn(2, 7, 131), torch.randn(2, 7, 131)
    other = (clean + scale * other).requires_grad_()
    expected = kl(clean.double(), other.double())
    upstream = torch.rand(2, 7)
    (gradient,) = torch.autograd.grad(expected, other, upstream.double())
    found = vocabulary_kl(clean, other)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(torch.autograd.grad(found, other, upstream)[0], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_large_logits_of_sequences_have_the_same_mean(weighted: bool) -> None:
    clean, other = torch.randn(4, 20, 1000), torch.randn(4, 20, 1000)
    weights = torch.rand(4, 20).softmax(-1) / 4 if weighted else None
    behaviour = BEHAVIOURS["kl"]
    assert vocabulary.is_large(other)
    torch.testing.assert_close(
        distance_between(behaviour, clean, other, weights), behaviour.between(clean, other, weights), rtol=1e-5, atol=1e-6
    )


def test_other_behaviours_are_as_they_were() -> None:
    clean, other = torch.randn(4, 20, 1000), torch.randn(4, 20, 1000)
    assert torch.equal(distance_between(BEHAVIOURS["mse"], clean, other), BEHAVIOURS["mse"].between(clean, other))
    assert torch.equal(distance_between(BEHAVIOURS["kl"], clean[0], other[0]), BEHAVIOURS["kl"].between(clean[0], other[0]))

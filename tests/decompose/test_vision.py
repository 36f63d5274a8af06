"""Does a small convolutional network go through as any other model: trained, scored, saved and read back?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import unbraid
from unbraid.core.errors import UserError
from unbraid.decompose.config import DecomposeConfig


class Classifier(nn.Module):
    """The usual small network for images of 12 × 12 pixels: two convolutions, pooling, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding="same", dilation=2), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.head = nn.Linear(6 * 3 * 3, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).flatten(1))


def images(size: int, generator: torch.Generator) -> Tensor:
    return torch.rand(size, 1, 12, 12, generator=generator)


def classifier() -> unbraid.Target:
    torch.manual_seed(0)
    return unbraid.Target(Classifier(), sites="*", data=images, behaviour="kl", name="classifier")


def config(**settings: object) -> DecomposeConfig:
    short = {"batches": 2, "batch_size": 4, "adversary_steps": [1, 2], "ladder_batches": 1}
    fixed = {"components": 6, "importance": "layerwise-mlp", "steps": 3, "batch_size": 4, "warmup": {"steps": 2}, "evaluation": short}
    return DecomposeConfig.parse({**unbraid.preset("vpd").tree(), **fixed, **settings})


def test_a_vision_model_is_decomposed_scored_and_read_back(tmp_path: Path) -> None:
    result = unbraid.decompose(classifier(), config(), folder=tmp_path / "run")
    x = images(2, torch.Generator().manual_seed(3))
    importance = result.importance(x)
    assert {path: tuple(g.shape) for path, g in importance.items()} == {
        "features.0": (2, 6, 6, 6),
        "features.2": (2, 6, 6, 6),
        "head": (2, 6),
    }
    torch.testing.assert_close(result.masked_forward(x, {path: torch.ones(6) for path in importance}), result.target(x))
    assert {line.key for line in result.scorecard().lines} >= {"l0/features.0", "alive/head", "unmasked"}
    again = unbraid.Decomposition.from_pretrained(tmp_path / "run", classifier())
    for path, g in again.importance(x).items():
        assert torch.equal(g, importance[path])


@pytest.mark.parametrize("scope", ["c", "bc", "sc", "nsc", "bsc"])
def test_an_adversary_of_any_scope_meets_pixels(scope: str) -> None:
    adversary = {"kind": "persistent-adversarial", "scope": scope, "choices": 2}
    fresh = {"kind": "adversarial", "scope": scope, "choices": 2}
    result = unbraid.decompose(classifier(), config(losses={"faithfulness": "faithfulness", "a": adversary, "b": fresh}, steps=2))
    assert result.step == 2


def test_the_global_function_says_that_positions_differ() -> None:
    with pytest.raises(UserError, match="needs sites that see the same positions"):
        unbraid.decompose(classifier(), config(importance="global-mlp"))

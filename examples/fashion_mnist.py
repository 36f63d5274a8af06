"""Take the convolutions of a small vision model apart: train it on Fashion-MNIST, decompose, and print how far the result may be trusted.

    python examples/fashion_mnist.py /usr/share/datasets/fashion-mnist      # the four files train-… and t10k-…-ubyte.gz

On Debian the folder comes with the package dataset-fashion-mnist (MIT licence). Takes about ten minutes on one core.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import unbraid


def main() -> None:
    """Train, decompose, score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1500, help="of the decomposition")
    parser.add_argument("--out", type=Path, default=Path("runs/fashion-mnist"))
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images, labels = read(arguments.folder, "train")
    fresh, answers = read(arguments.folder, "t10k")
    model = train(images, labels)
    with torch.no_grad():
        print(f"accuracy on test images: {(model(fresh).argmax(1) == answers).float().mean():.3f}")

    target = unbraid.Target(
        model, sites="*", data=batches_of(images), held_out=batches_of(fresh), behaviour="kl", name="fashion-mnist classifier"
    )
    config = unbraid.preset(
        "vpd-lm-small",
        steps=arguments.steps,
        batch_size=32,
        components={"*": 64},
        importance={"kind": "layerwise-mlp", "hidden": 64},
        evaluation={"batches": 4, "batch_size": 128, "ladder_batches": 1},
    )
    result = unbraid.decompose(target, config, folder=arguments.out)
    result.show()
    result.scorecard().show()


def read(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Return images [n, 1, 28, 28] in [0, 1] and labels [n] of one part of the data."""
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return torch.from_numpy(images / np.float32(255)), torch.from_numpy(labels.astype(np.int64))


def train(images: Tensor, labels: Tensor, epochs: int = 2) -> nn.Module:
    """Return a classifier: two strided convolutions, and a linear map on what they give."""
    model = nn.Sequential(
        nn.Conv2d(1, 12, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * 7 * 7, 10),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(128):
            optimizer.zero_grad()
            F.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    return model


def batches_of(images: Tensor) -> object:
    """Return a source of random batches of images."""
    return lambda size, generator: images[torch.randint(len(images), (size,), generator=generator)]


if __name__ == "__main__":
    main()

"""How is a toy with planted truth declared? One file per toy: its settings, model, training, data, truth and recipe."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unbraid.core.config import Config
from unbraid.core.errors import UserError, unknown
from unbraid.core.registry import Registry
from unbraid.core.storage import disk_errors, write_atomically
from unbraid.targets.data import Data
from unbraid.targets.target import Target
from unbraid.targets.truth import Truth

toys: Registry[Toy] = Registry("target", "unbraid.targets.toys")


@dataclass(frozen=True)
class Trained:
    """What training a toy gave.

    Attributes:
        module: The trained model.
        loss_per_feature: Mean squared error on inputs where only that feature is on.
        naive_per_feature: The same for a model that ignores the feature.
    """

    module: nn.Module
    loss_per_feature: Float[Tensor, " n_features"]
    naive_per_feature: Float[Tensor, " n_features"]

    def unlearned(self, share: float) -> list[int]:
        """Return the features whose loss is above `share` of the naive one."""
        return torch.nonzero(self.loss_per_feature > share * self.naive_per_feature).flatten().tolist()


class Toy(Config):
    """The settings of one toy; subclasses fill in the methods and register under their `kind`."""

    kind: str
    """Which toy."""

    summary: ClassVar[str] = ""
    """One line: what is planted."""
    lesson: ClassVar[str] = ""
    """What it teaches that carries over to language models."""
    sites: ClassVar[tuple[str, ...]] = ()
    """Globs of the sites to decompose."""
    tied: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs of sites that are one parameter."""
    recipe: ClassVar[Mapping[str, Any]] = {}
    """Decomposition settings laid over the defaults for this toy."""

    def build(self) -> nn.Module:
        """Return the model with the right shapes; its weights are replaced by the trained ones."""
        raise NotImplementedError

    def train(self, seed: int = 0) -> Trained:
        """Train the model from scratch."""
        raise UserError(f"The target {self.kind!r} has no training: its weights are built.", "Nothing needs to be done.")

    def measure(self, module: nn.Module) -> Trained | None:
        """Return how well a trained model does on each feature; None where the toy does not say."""
        return None

    def data(self) -> Data:
        """Return the source of inputs."""
        raise NotImplementedError

    def truth(self, module: nn.Module) -> Truth:
        """Return the planted mechanisms of the trained model."""
        raise NotImplementedError

    def weights_path(self) -> Path | None:
        """Return where the bundled weights lie, beside the file that declares the toy; None for a toy that is built, not trained."""
        source = sys.modules[type(self).__module__].__file__
        path = Path(source or ".").parent / "weights" / f"{self.kind}.safetensors"
        return path if path.exists() or type(self).train is not Toy.train else None

    def target(self, weights: Path | None = None) -> Target:
        """Build the target with its trained weights.

        Raises:
            UserError: The weights are missing, a pickle, or those of another model.
        """
        module = self.build()
        path = weights or self.weights_path()
        if path is not None:
            load_weights(module, path, f"unbraid targets train {self.kind}")
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        return Target(
            module, sites=self.sites, data=self.data(), tied=self.tied, name=self.kind, truth=self.truth(module), source=self.tree()
        )


def check_no_pickle(path: Path) -> None:
    """Raise a UserError when a file's name says that it is a pickle."""
    if path.suffix.lower() in {".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"}:
        raise UserError(
            f"{str(path)!r} is a pickle, which can run code when it is loaded.",
            "Save the weights with safetensors.torch.save_file instead.",
        )


def load_weights(module: nn.Module, path: Path, fix: str) -> None:
    """Load a safetensors file into a module.

    Raises:
        UserError: The file is missing, is a pickle, is damaged, or belongs to another model.
    """
    check_no_pickle(path)
    if not path.is_file():
        raise UserError(f"There are no weights at {str(path)!r}.", f"Make them with: {fix}")
    try:
        module.load_state_dict(load_file(path))
    except SafetensorError as error:
        raise UserError(f"{str(path)!r} is not a whole safetensors file ({error}).", f"Make it again with: {fix}") from None
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{str(path)!r} holds the weights of another model: {reason}", f"Make the right ones with: {fix}") from None


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's weights as safetensors, making the folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in module.state_dict().items()}, path)


def write_weights(module: nn.Module, path: Path) -> None:
    """Write a module's weights whole or not at all.

    Raises:
        UserError: The name says that it is a pickle, the disk is full or the folder cannot be written.
    """
    check_no_pickle(path)
    with disk_errors(path, "Nothing was written."):
        write_atomically(path, lambda temporary: save_weights(module, temporary))


def find_toy(name: str) -> Toy:
    """Return the toy called `name` at its default knobs.

    Raises:
        UserError: There is no toy of that name.
    """
    if name not in toys.kinds():
        raise unknown("target", name, toys.kinds(), "unbraid targets list")
    return toys.get(name).parse({})


def load_target(name: str) -> Target:
    """Return a bundled target by name, ready to be taken apart."""
    return find_toy(name).target()

"""How is a toy with planted truth declared? One file per toy: its settings, model, training, data, truth and recipe."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeInt
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unbraid.core.config import Config
from unbraid.core.errors import UserError, unknown
from unbraid.core.registry import Registry
from unbraid.core.storage import cache_folder, disk_errors, write_atomically
from unbraid.targets.data import Data
from unbraid.targets.target import Target
from unbraid.targets.truth import Truth

if TYPE_CHECKING:
    from unbraid.targets.panel import Panel

Features = Annotated[int, Field(ge=2)]
"""A number of features; with one there is nothing to tell apart."""

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


@dataclass(frozen=True)
class Check:
    """One thing that must hold of a toy for its truth to be real; a toy that looks right for the wrong reason fails one.

    Attributes:
        name: What is asked, in words.
        value: What was measured.
        low: The least that will do; None for no limit.
        high: The most that will do; None for no limit.
        why: What it would mean if it failed.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    why: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value lies within the limits."""
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)


@dataclass(frozen=True)
class Phase:
    """Two knobs over which a score is drawn as a phase diagram.

    Attributes:
        row_knob: The toy's setting that changes from row to row.
        rows: Its values.
        column_knob: The toy's setting that changes from column to column.
        columns: Its values.
        fixed: The toy's other settings in every cell, where they are not the defaults.
        overrides: Settings laid over the recipe in every cell, as "key=value".
    """

    row_knob: str
    rows: tuple[Any, ...]
    column_knob: str
    columns: tuple[Any, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict[str, Any])
    overrides: tuple[str, ...] = ()


class Toy(Config):
    """The settings of one toy; subclasses fill in the methods and register under their `kind`."""

    kind: str
    """Which toy."""
    seed: NonNegativeInt = 0
    """Which instance: decides what is constructed and how training starts."""

    summary: ClassVar[str] = ""
    """One line: what is planted."""
    lesson: ClassVar[str] = ""
    """What it teaches that carries over to language models."""
    sites: ClassVar[tuple[str, ...]] = ()
    """Globs of the sites to decompose."""
    tied: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs of sites that are one parameter."""
    behaviour: ClassVar[Literal["mse", "kl"]] = "mse"
    """How far apart two outputs are."""
    recipe: ClassVar[Mapping[str, Any]] = {}
    """Decomposition settings laid over the defaults for this toy."""
    published: ClassVar[Mapping[str, Any]] = {}
    """The settings of the size at which it was published, where the default is smaller."""
    hidden_sites: ClassVar[tuple[str, str] | None] = None
    """The sites that write and read one layer of hidden units, where methods that group units can be compared."""
    negative_control: ClassVar[bool] = False
    """Whether the claimed truth is false on purpose, so that a decomposition must miss it."""
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Name → knobs at which it is verified besides the defaults."""
    same_function: ClassVar[tuple[str, ...]] = ()
    """Variants that compute what the default knobs do in other coordinates; a score should not change from one to the other."""
    phase: ClassVar[Phase | None] = None
    """The knobs of its phase diagram."""
    verify_seeds: ClassVar[int] = 5
    """At how many seeds it is verified."""

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

    def wanted(self, inputs: Tensor) -> Tensor:
        """Return the task's right answer."""
        raise NotImplementedError

    def naive(self, inputs: Tensor) -> Tensor:
        """Return what a model answers that lacks the mechanism: the dumb baseline that every loss is read beside."""
        return torch.zeros_like(self.wanted(inputs))

    def oracle_answer(self, inputs: Tensor) -> Tensor:
        """Return what the planted mechanism itself answers, by construction."""
        return self.wanted(inputs)

    def checks(self, module: nn.Module) -> tuple[Check, ...]:
        """Return what must hold for the planted truth to be real; empty where the toy does not say."""
        return ()

    def is_real(self, module: nn.Module) -> bool:
        """Whether every check passes."""
        return all(check.passed for check in self.checks(module))

    def panel(self, module: nn.Module) -> Panel | None:
        """Return what a sceptic asks for first; None where the toy does not say."""
        return None

    @property
    def is_trained(self) -> bool:
        """Whether the weights come from training; else they are constructed."""
        return type(self).train is not Toy.train

    @property
    def at_default_knobs(self) -> bool:
        """Whether nothing was set."""
        return self == type(self).parse({})

    def bundled_path(self) -> Path:
        """Return where the weights that the package brings lie, beside the file that declares the toy."""
        source = sys.modules[type(self).__module__].__file__
        return Path(source or ".").parent / "weights" / f"{self.kind}.safetensors"

    def weights_path(self) -> Path | None:
        """Return where the weights lie: with the package at the default knobs, in the user's cache at others; None if built, not trained."""
        if not self.is_trained:
            return None
        if self.at_default_knobs:
            return self.bundled_path()
        knobs = hashlib.sha256(json.dumps(self.tree(), sort_keys=True).encode()).hexdigest()[:16]
        return cache_folder("targets") / f"{self.kind}-{knobs}.safetensors"

    def target(self, weights: Path | None = None) -> Target:
        """Build the target with its trained weights; at knobs that the package brings none for it is trained first, and kept.

        Raises:
            UserError: The weights are missing, a pickle, or those of another model; or training failed.
        """
        module = self.load(weights)
        return self.target_with(module, self.data(), self.truth(module), self.tree())

    def target_with(self, module: nn.Module, data: Data, truth: Truth, source: Mapping[str, Any] | None = None) -> Target:
        """Build the target with a model, data or truth of another origin, as negative controls have it; see `Target`."""
        return Target(
            module,
            sites=self.sites,
            data=data,
            behaviour=self.behaviour,
            tied=self.tied,
            name=self.kind,
            truth=truth,
            source=source,
        )

    def load(self, weights: Path | None = None) -> nn.Module:
        """Return the model with its weights, frozen; see `target`."""
        module = self.build()
        path = weights or self.weights_path()
        if path is not None and weights is None and not self.at_default_knobs and not path.exists():
            write_weights(self.train(self.seed).module, path)
        if path is not None:
            load_weights(module, path, f"unbraid targets train {self.kind}")
        return module.eval().requires_grad_(False)


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

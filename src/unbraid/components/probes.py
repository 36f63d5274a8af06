"""Which inputs ask for one planted module alone? They are picked from fresh data by the planted truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unbraid.components.labelling import planted_names
from unbraid.core.errors import UserError
from unbraid.core.seeds import Streams
from unbraid.decompose.result import Decomposition
from unbraid.targets.truth import Truth

ALWAYS = 0.95  # a module that is on for this share of the inputs is the background of all others
MOST_ASKED = 32  # modules of which sufficiency, necessity and the input side are measured
BATCHES = 20  # batches looked through, at most, for inputs that need one module alone


@dataclass(frozen=True)
class Probes:
    """Inputs on which one planted module is on, beside those that always are.

    Attributes:
        names: All planted modules; indices below count through them.
        background: Modules that nearly every input needs; nothing can be asked of them alone.
        inputs: Module index → inputs on which it is on and no other module but the background; modules for which none was seen are missing.
        mixed: A fresh batch as it comes.
        mixed_on: Which modules each input of that batch needs.
    """

    names: tuple[str, ...]
    background: frozenset[int]
    inputs: Mapping[int, Tensor]
    mixed: Tensor
    mixed_on: Bool[Tensor, "batch modules"]

    @property
    def modules(self) -> list[int]:
        """The modules that can be asked for alone."""
        return sorted(self.inputs)

    @property
    def sample(self) -> list[int]:
        """At most `MOST_ASKED` of them, evenly spread, for what takes many passes for each."""
        every = self.modules
        count = min(len(every), MOST_ASKED)
        return [every[index * len(every) // count] for index in range(count)]

    def stacked(self) -> tuple[Tensor, Int[Tensor, " rows"]]:
        """Return the inputs of all modules as one batch, and the module of each row."""
        owner = [torch.full((len(self.inputs[module]),), module) for module in self.modules]
        return torch.cat([self.inputs[module] for module in self.modules]), torch.cat(owner)


@torch.no_grad()
def modules_on(truth: Truth, inputs: Tensor) -> Bool[Tensor, "batch modules"]:
    """Return which planted modules each input needs: those with a piece that is on, at any site and position."""
    names = planted_names(truth)
    on = torch.zeros(len(inputs), len(names), dtype=torch.bool)
    for site in truth.sites.values():
        if not site.modules:
            continue
        pieces = site.on(inputs) > 0
        pieces = pieces.flatten(1, -2).any(1) if pieces.dim() > 2 else pieces
        belongs = torch.zeros(len(site.modules), len(names))
        for piece, module in enumerate(site.modules):
            belongs[piece, names.index(truth.resolvable(module))] = 1
        on |= pieces.float() @ belongs > 0
    return on


def draw_probes(decomposition: Decomposition, truth: Truth, rows: int = 1024, most: int = 64, seed: int = 0) -> Probes:
    """Draw fresh data and pick the inputs that need one module alone.

    Args:
        decomposition: What is scored; only its target's data are used.
        truth: What is planted.
        rows: Inputs in all, spread over the modules.
        most: Inputs per module, at most.
        seed: Decides which fresh data.

    Raises:
        UserError: The target's inputs are no tensors.
    """
    generator = Streams(seed)["module-probes"]
    data, size = decomposition.target.fresh, decomposition.config.evaluation.batch_size
    first = data.batch(0, size, generator)
    if not isinstance(first, Tensor):
        raise UserError(f"The inputs are {type(first).__name__}.", "Module scores need a toy whose inputs are tensors.")
    on = modules_on(truth, first)
    background = frozenset(torch.nonzero(on.float().mean(0) >= ALWAYS).flatten().tolist())
    chosen = [index for index in range(on.shape[1]) if index not in background]
    per_module = max(8, min(most, rows // max(len(chosen), 1)))
    found: dict[int, list[Tensor]] = {index: [] for index in chosen}
    batch = first
    for step in range(BATCHES):
        if step:
            batch = data.batch(step, size, generator)
        if not isinstance(batch, Tensor) or all(sum(map(len, parts)) >= per_module for parts in found.values()):
            break
        single = modules_on(truth, batch)[:, chosen]
        alone = single.sum(1) == 1
        for column, index in enumerate(chosen):
            if sum(map(len, found[index])) < per_module:
                found[index].append(batch[alone & single[:, column]][:per_module])
    inputs = {index: torch.cat(parts)[:per_module] for index, parts in found.items() if parts and sum(map(len, parts))}
    return Probes(planted_names(truth), background, inputs, first, on)

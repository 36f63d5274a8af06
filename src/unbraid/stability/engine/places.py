"""Where in a model can an activation be exchanged? Its blocks in a row, found by their shape in the module tree and not by any family's names.

The blocks are the longest run of alike modules in one `ModuleList` or `Sequential`. What is in a block is told apart by what it holds:
attention by the word in its name or class, norms by having no matrix, everything else with a matrix is called an MLP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from unbraid.core.errors import UserError, closest

Part = Literal["mlp", "attention", "norm"]

INPUT = "input"
"""The place that is the model's own input, for models that read vectors."""


@dataclass(frozen=True)
class Place:
    """A site at which an activation is exchanged.

    Attributes:
        path: The module whose output it is; "input" for the model's own input.
        block: The number of that block, where it is the output of one.
    """

    path: str
    block: int | None = None

    def __str__(self) -> str:
        """Return how reports call it."""
        return self.path if self.block is None else f"block {self.block}"


def blocks_of(module: nn.Module) -> list[str]:
    """Return the paths of the model's blocks in their order; none for a model without such a row."""
    best: list[str] = []
    for path, child in module.named_modules():
        if isinstance(child, nn.ModuleList | nn.Sequential):
            rows = list(child)
            alike = len(rows) > 1 and len({type(row) for row in rows}) == 1 and any(True for _ in rows[0].parameters())
            if alike and len(rows) > len(best) and any(True for _ in rows[0].children()):
                best = [f"{path}.{index}" if path else str(index) for index in range(len(rows))]
    return best


def place_named(module: nn.Module, site: int | str) -> Place:
    """Return the place that a number (a block, from 0; negative ones from the end), a module's path, or "input" stands for.

    Raises:
        UserError: There is no such block or module.
    """
    if isinstance(site, str) and site.lstrip("-").isdigit():
        site = int(site)
    if isinstance(site, int):
        blocks = blocks_of(module)
        if not -len(blocks) <= site < len(blocks):
            raise UserError(
                f"Block {site} was asked for, and this model has {len(blocks)} blocks.",
                f"Give 0 … {len(blocks) - 1}." if blocks else 'Give a module\'s path, or "input".',
            )
        index = site % len(blocks)
        return Place(blocks[index], index)
    if site == INPUT:
        return Place(INPUT)
    paths = dict(module.named_modules())
    if site not in paths or not site:
        near = closest(site, [path for path in paths if path])
        raise UserError(f"The model has no module {site!r}.", f"Closest: {near!r}." if near else "Give a block's number.")
    blocks = blocks_of(module)
    return Place(site, blocks.index(site) if site in blocks else None)


def default_place(module: nn.Module) -> Place:
    """Return the output of the first block; the model's own input where it has no blocks."""
    blocks = blocks_of(module)
    return Place(blocks[0], 0) if blocks else Place(INPUT)


def parts_of(module: nn.Module, part: Part, after: Place) -> list[str]:
    """Return the paths of one kind of part in every block after a place; of norms, in the whole model after it.

    Where a model has no blocks, all of its parts of that kind count as after it.
    """
    blocks = blocks_of(module)
    first = 0 if after.block is None else after.block + 1
    found: list[str] = []
    for path in blocks[first:]:
        block = module.get_submodule(path)
        for name, child in block.named_children():
            if kind_of(name, child) == part:
                found.append(f"{path}.{name}")
    if part == "norm":
        inside = [path for path, _ in module.named_modules()]
        last = inside.index(blocks[-1]) if blocks else -1
        found += [
            path
            for path in inside[last + 1 :]
            if path and not any(path.startswith(f"{block}.") for block in blocks) and kind_of(path, module.get_submodule(path)) == "norm"
        ]
    return found


def kind_of(name: str, module: nn.Module) -> Part | None:
    """Return which kind of part a block's child is; None for one without parameters, such as dropout."""
    sizes = [parameter.dim() for parameter in module.parameters()]
    if not sizes:
        return None
    if max(sizes) < 2:
        return "norm"
    words = f"{name} {type(module).__name__}".lower()
    return "attention" if "att" in words else "mlp"

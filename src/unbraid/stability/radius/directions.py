"""Which ways is an activation moved? Families of directions, each with what it must be compared with.

Isotropic directions are a weak null: activations vary far more along some directions than along others, and so does everything that reads
them. So "covariance" is always beside the others: differences of two Gaussian draws with the activations' own covariance. A family that is a
list of directions (components, features) also has a null of its own, Gaussian mixtures *of the same list*: they have its second moments,
and are no single one of it.

No direction contains the activation that it starts from: a direction towards another activation contains minus its own, and then part of
what is seen is its shrinking (Lee and Heimersheim 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unbraid.core.errors import UserError, unknown

Draw = Callable[[int, torch.Generator], Float[Tensor, "k d"]]
"""How many and from which generator → directions of any length."""

NAMES = ("random", "covariance", "difference", "pca", "features", "features-rotated", "components:RUN")
NULL = "covariance"
MIXED = " mixed"
"""What is added to the name of a list of directions for the Gaussian mixtures of it."""
FEATURES = "features"
ROTATED = "features-rotated"
TURN = 60.0
"""By how many degrees features are turned away from themselves for their negative control, as in the source of the exponent."""


@dataclass(frozen=True)
class Family:
    """Directions of one kind.

    Attributes:
        name: How it is called.
        draw: Where they come from.
        size: How many there are to choose from; None where they are drawn anew each time.
        null: The family that it must be compared with; None for the nulls themselves.
    """

    name: str
    draw: Draw
    size: int | None = None
    null: str | None = NULL


def isotropic(d: int) -> Family:
    """Return directions that know nothing of the model."""
    return Family("random", lambda k, generator: torch.randn(k, d, generator=generator), null=None)


def covariance_matched(pool: Float[Tensor, "n d"]) -> Family:
    """Return differences of two independent Gaussian draws that have the mean and covariance of real activations."""
    centred = pool - pool.mean(0)
    draw = gaussian_mixtures(centred)
    return Family(NULL, lambda k, generator: draw(k, generator) - draw(k, generator), null=None)


def differences(pool: Float[Tensor, "n d"]) -> Family:
    """Return differences of two real activations, neither of which is the one that is moved."""

    def draw(k: int, generator: torch.Generator) -> Tensor:
        pairs = torch.rand(k, len(pool), generator=generator).topk(2, dim=1).indices
        return pool[pairs[:, 0]] - pool[pairs[:, 1]]

    return Family("difference", draw)


def principal(pool: Float[Tensor, "n d"]) -> Family:
    """Return the axes along which real activations vary most, the largest first, each with a random sign."""
    centred = pool - pool.mean(0)
    _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[sizes > 1e-5 * sizes[0]]

    def draw(k: int, generator: torch.Generator) -> Tensor:
        return _signs(min(k, len(axes)), generator) * axes[:k]

    return Family("pca", draw, len(axes))


def listed(name: str, directions: Float[Tensor, "n d"]) -> tuple[Family, Family]:
    """Return the family that chooses from a list, each with a random sign, and its null, unit directions mixed at random."""
    units = directions / directions.norm(dim=1, keepdim=True)

    def draw(k: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randperm(len(units), generator=generator)[:k]
        return _signs(len(chosen), generator) * units[chosen]

    mixed = Family(f"{name}{MIXED}", gaussian_mixtures(units), null=None)
    return Family(name, draw, len(units), mixed.name), mixed


def rotated(name: str, family: Family, degrees: float = TURN) -> Family:
    """Return the directions of a list, each turned by an angle into a random direction of its own: as many, as far apart, and no longer the list's."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def draw(k: int, generator: torch.Generator) -> Tensor:
        own = family.draw(k, generator)
        aside = torch.randn(own.shape, generator=generator)
        aside = aside - (aside * own).sum(1, keepdim=True) * own
        return cosine * own + sine * aside / aside.norm(dim=1, keepdim=True)

    return Family(name, draw, family.size, family.null)


def gaussian_mixtures(rows: Float[Tensor, "n d"]) -> Draw:
    """Return draws of `Σ z_i row_i / √n` with z standard normal: Gaussian, with the rows' second moments, without a matrix [d, d]."""

    def draw(k: int, generator: torch.Generator) -> Tensor:
        return torch.randn(k, len(rows), generator=generator).to(rows.dtype) @ rows / len(rows) ** 0.5

    return draw


def families(
    names: tuple[str, ...], pool: Float[Tensor, "n d"], lists: Callable[[str], Float[Tensor, "n d"]], spread: bool = True
) -> list[Family]:
    """Return the families of these names and every null that one of them needs, each once.

    Args:
        names: "random", "covariance", "difference", "pca"; any other name is a list that `lists` gives.
        pool: Real activations that are not among those moved.
        lists: Name → directions, which raises a UserError where there are none.
        spread: Whether the null "covariance" is added where nobody asked for it.

    Raises:
        UserError: A name is unknown, or the pool has fewer than three activations.
    """
    if len(pool) < 3:
        raise UserError(f"Directions are made of {len(pool)} activations.", "Ask for a larger pool.")
    found: dict[str, Family] = {}
    for name in names:
        for family in _family(name, pool, lists):
            found.setdefault(family.name, family)
    if spread and any(family.null == NULL for family in found.values()):
        found.setdefault(NULL, covariance_matched(pool))
    return list(found.values())


def _family(name: str, pool: Tensor, lists: Callable[[str], Tensor]) -> tuple[Family, ...]:
    if name == "random":
        return (isotropic(pool.shape[1]),)
    if name == NULL:
        return (covariance_matched(pool),)
    if name == "difference":
        return (differences(pool),)
    if name == "pca":
        return (principal(pool),)
    if name == ROTATED:
        own, mixed = listed(FEATURES, lists(FEATURES))
        return rotated(ROTATED, own), mixed
    if name == FEATURES or name.startswith("components:"):
        return listed(name, lists(name))
    raise unknown("family of directions", name, NAMES)


def _signs(k: int, generator: torch.Generator) -> Float[Tensor, "k 1"]:
    """Return random signs: neither an axis nor a subcomponent has one of its own."""
    return torch.randint(0, 2, (k, 1), generator=generator) * 2.0 - 1.0

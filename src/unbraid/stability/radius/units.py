"""How far apart are two answers that count as different? The unit in which it is told that an answer has become another one.

Where nothing is planted the unit is the distance between the answers to two real inputs. Where answers are sets of features that unit is ill-posed:
with k features on, two answers differ in about 2k of them, √(2k) times what one feature does. Half of that is all that a feature can do where k = 2,
so that interference decides whether its ray crosses, and more than a feature can do where k is larger. A set changes least by one element. So with
planted features the unit is what one feature more does to an answer, and half of it is half way to the nearest other answer. Along a feature this is
what was published, half of the largest response on an axis; but it is one threshold for all directions: one that goes by each direction's own
largest response would call directions near for no other reason than that they do little.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unbraid.core.errors import UserError

Unit = Literal["feature", "answers"]
UNITS: dict[Unit, str] = {"feature": "what one feature more does to an answer", "answers": "the distance between two real answers"}
"""The units and what they are called."""

ON = 0.5
"""A feature is on in an input that holds at least this share of its probe."""


def one_feature_more(inputs: Float[Tensor, "n d"], probes: Float[Tensor, "features d"], generator: torch.Generator) -> Float[Tensor, "n d"]:
    """Return each input with one feature more: a random one of those that are off in it, as strong as in its probe.

    Args:
        inputs: Inputs, with noise on them or not.
        probes: The input in which each feature is on alone.
        generator: Draws the features.

    Raises:
        UserError: An input has every feature on.
    """
    off = (inputs @ probes.T).abs() < ON * probes.square().sum(1)
    if not bool(off.any(dim=1).all()):
        raise UserError("There are inputs with every feature on, so that none can have one more.", 'Count in "answers" (--unit answers).')
    chosen = torch.where(off, torch.rand(off.shape, generator=generator), -1.0).argmax(dim=1)
    return inputs + probes[chosen]

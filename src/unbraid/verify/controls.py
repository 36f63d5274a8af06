"""What must fail? Decompositions that were spoilt on purpose, each with the scorecard lines of which at least one has to notice.

A scorecard that passes one of these proves nothing when it passes the real thing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unbraid.decompose.config import DecomposeConfig
from unbraid.targets.data import Data
from unbraid.targets.target import Target
from unbraid.targets.toy import Toy

TRUTH = ("mmcs", "ml2r", "piece_cosine", "piece_coverage", "identity_error", "dense_error", "needed_error", "co_active_error")
"""Lines that ask whether the planted pieces were found."""
BEHAVIOUR = ("stoch_masked", "unmasked", "pgd_20")
"""Lines that ask whether the behaviour survives."""


@dataclass(frozen=True)
class Control:
    """Something spoilt.

    Attributes:
        name: What was spoilt, as tables call it.
        toys: The toys on which it is run.
        lines: At least one of these lines has to fail; a name that ends in "/" stands for every line that begins so.
        why: Why those.
        target: Gives the spoilt target.
        config: Gives the spoilt settings.
        stop_at: The share of the run after which it is stopped; None for none.
    """

    name: str
    toys: tuple[str, ...]
    lines: tuple[str, ...]
    why: str
    target: Callable[[Toy], Target] = lambda toy: toy.target()
    config: Callable[[DecomposeConfig], DecomposeConfig] = lambda config: config
    stop_at: float | None = None

    def noticed(self, failed: list[str]) -> list[str]:
        """Return which of the lines that should fail did."""
        return [key for key in failed if any(key == line or (line.endswith("/") and key.startswith(line)) for line in self.lines)]


def untrained_target(toy: Toy) -> Target:
    """Return the toy with freshly drawn weights, but the truth of the real one: nothing of it is there to be found."""
    module, real = toy.build(), toy.load()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for site in toy.target_with(real, toy.data(), toy.truth(real)).sites:
            weight = module.get_submodule(site.path).get_parameter("weight")
            if site.tie is None:
                weight.copy_(torch.randn(weight.shape, generator=generator) * weight.shape[-1] ** -0.5)
            else:
                owner = module.get_submodule(site.tie.owner).get_parameter("weight")
                weight.copy_(owner.mT if site.tie.transposed else owner)
    return toy.target_with(module.eval().requires_grad_(False), toy.data(), toy.truth(real))


@dataclass(frozen=True)
class ColumnsShuffled:
    """The same inputs with every feature's values given to other examples: each feature is as often on, but nothing comes together."""

    data: Data

    def batch(self, step: int, size: int, generator: torch.Generator) -> Tensor:
        """Draw a batch and permute each of its columns by itself."""
        inputs = self.data.batch(step, size, generator)
        if not isinstance(inputs, Tensor):
            raise TypeError("only inputs that are one tensor can be shuffled by column")
        order = torch.rand(inputs.shape, generator=generator, device=inputs.device).argsort(dim=0)
        return inputs.gather(0, order)


def shuffled_data(toy: Toy) -> Target:
    """Return the toy with inputs whose features no longer come together in modules."""
    module = toy.load()
    return toy.target_with(module, ColumnsShuffled(toy.data()), toy.truth(module))


def minimality_times(factor: float) -> Callable[[DecomposeConfig], DecomposeConfig]:
    """Return a change that multiplies the coefficient of every minimality term."""

    def change(config: DecomposeConfig) -> DecomposeConfig:
        terms: dict[str, Any] = dict(config.losses)
        for name, term in config.losses.items():
            if "minimality" in term.kind:
                terms[name] = term.model_copy(update={"coefficient": factor * term.coefficient})
        return config.model_copy(update={"losses": terms})

    return change


CONTROLS = (
    Control(
        "random-init target",
        ("tms-5-2", "compiled-blocks"),
        (*TRUTH, "module_ari"),
        "weights that were never trained hold none of the planted pieces",
        target=untrained_target,
    ),
    Control(
        "shuffled data",
        ("compiled-blocks",),
        ("module_ari", "module_nmi"),
        "features that do not come together have no modules, though every piece is still needed by itself",
        target=shuffled_data,
    ),
    Control(
        "minimality × 30",
        ("tms-5-2", "compiled-blocks"),
        (*BEHAVIOUR, *TRUTH, "alive/", "l0/"),
        "under too much pressure needed pieces are called unneeded, and ablating them changes the behaviour",
        config=minimality_times(30),
    ),
    Control(
        "minimality ÷ 30",
        ("tms-5-2", "compiled-blocks"),
        ("l0/", "alive/", "identity_error", "needed_error", "decided"),
        "under too little pressure more pieces stay on than are planted",
        config=minimality_times(1 / 30),
    ),
    Control(
        "stopped at 5 %",
        ("tms-5-2", "tms-5-2-id", "tms-40-10", "residual-mlp-1", "compiled-blocks"),
        (*TRUTH, "alive/"),
        "a run that has hardly begun has found nothing yet",
        stop_at=0.05,
    ),
)


def control_named(name: str) -> Control:
    """Return the control of a name that `CONTROLS` holds."""
    return next(control for control in CONTROLS if control.name == name)

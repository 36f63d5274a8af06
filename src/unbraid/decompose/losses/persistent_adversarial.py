"""Does the behaviour survive an adversary that keeps learning? Sources that persist over the run and climb by Adam each step.

Each step: a few ascent updates on the current batch, then one more from the gradient of the main pass. The sources are never
reset and belong to no particular input; slot b meets new data each step. Source: "Interpreting Language Model Parameters" (2026).

With a pool each slot keeps several particles, and meets one per step: the same at all sites and positions, for the early updates and the
main pass. Only what is met moves, and Adam counts the loss's updates, as torch's SparseAdam does. Source: Goodfire's param-decomp, where Adam
moves the others on along their averages.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.decompose.adversary import Scope, adam_ascent, as_sources, gradients, is_own, over_ranks, random_sources
from unbraid.decompose.masks import masks_from, own_rows
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.step import Loss, LossConfig, Step, losses


@losses.register
class PersistentAdversarialConfig(LossConfig):
    """Reconstruction under a persistent adversary."""

    kind: Literal["persistent-adversarial"] = "persistent-adversarial"
    scope: Scope = "bsc"
    """What the adversary may vary its sources over; per example needs a constant batch size."""
    choices: PositiveInt = 8
    """N, for the scope nsc."""
    ascent_steps: NonNegativeInt = 2
    """Updates before the main pass, which gives one more."""
    learning_rate: PositiveFloat = 0.01
    """Adam's rate on the sources."""
    betas: tuple[float, float] = (0.5, 0.99)
    """Adam's decay rates."""
    warmup_share: float = Field(default=0.025, ge=0, lt=1)
    """Share of the run over which the rate grows from 0."""
    pool: PositiveInt = 1
    """Particles per example, of which it meets one per step; above 1 for the scope bc alone. Published: 4, with a rate of 0.02 and `merged`."""
    stored: Literal["fp32", "bf16"] = "fp32"
    """In which precision sources and their moments are kept between uses; they are reckoned with in fp32 either way."""

    def build(self, model: DecomposedModel) -> Loss:
        """Return the term.

        Raises:
            UserError: A pool is asked for in a scope that has none.
        """
        self.check_pool()
        return PersistentAdversarial(self, list(model.sites))

    def check_pool(self) -> None:
        """Refuse a pool whose particles would not be one vector per example and site.

        Raises:
            UserError: There is one.
        """
        if self.pool > 1 and self.scope != "bc":
            raise UserError(
                f"The loss {self.kind!r} was given pool={self.pool} and scope={self.scope}, but the particles of a pool are one vector per "
                "example, used at all positions.",
                "Set scope=bc, or pool=1.",
            )


class PersistentAdversarial(Loss):
    """The distance under the persistent sources; all sites are masked."""

    updates: Tensor
    sources_0: Tensor | None  # shaped by the first batch, like every site's sources and moments

    def __init__(self, config: PersistentAdversarialConfig, paths: list[str]) -> None:
        super().__init__()
        self.config = config
        self.needs_every_input = is_own(config.scope)
        self.paths = paths
        for index in range(len(paths)):
            for name in ("sources", "first", "second"):
                self.register_buffer(f"{name}_{index}", None)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self._attached: dict[str, Tensor] = {}
        self._drawn: tuple[Tensor, Tensor] | None = None  # each example's index, and that of the particle it meets in this step
        self._before = self._moves = 0  # updates before this step, and in this part of it

    def forward(self, step: Step) -> Tensor:
        """Return the distance after the early updates; the last update waits for `after_backward`."""
        fixed = self.climb(step)
        return step.distance(masks_from(step.importances.lower, as_sources(self.attach(step), fixed, step.share)))

    def climb(self, step: Step) -> dict[str, Tensor]:
        """Take the early updates, and return the importances without their gradient."""
        fixed = {path: g.detach() for path, g in step.importances.lower.items()}
        self._start(step, fixed)

        def objective(values: dict[str, Tensor]) -> Tensor:
            return step.distance(masks_from(fixed, as_sources(values, fixed, step.share)), fixed=True)

        for _ in range(self.config.ascent_steps if torch.is_grad_enabled() else 0):
            grads = over_ranks(gradients(objective, self._precise(step)), self.config.scope, step.ranks)
            self._update({path: grad / step.parts for path, grad in grads.items()} if self._divided(step) else grads, step)
        return fixed

    def attach(self, step: Step) -> dict[str, Tensor]:
        """Return the sources of the main pass, on which it leaves its gradient."""
        self._attached = {path: value.detach().requires_grad_() for path, value in self._precise(step).items()}
        return self._attached

    def after_backward(self, step: Step) -> None:
        """Climb along the gradient that the main pass left on the sources, free of the loss's coefficient."""
        grads = {path: value.grad for path, value in self._attached.items() if value.grad is not None}
        weight = self.config.weight(step.progress)
        if len(grads) == len(self.paths) and weight:
            weight = weight if self._divided(step) else weight / step.parts
            grads = over_ranks(grads, self.config.scope, step.ranks)
            self._update(grads, step, self.moved(), divisor=weight)
        self._attached = {}

    def moved(self) -> Tensor | None:
        """Return which examples' sources the last update moves; None for all."""
        return None

    def rows(self) -> frozenset[str]:
        """The sources and their moments, where each example has its own."""
        names = [f"{name}_{index}" for name in ("sources", "first", "second") for index in range(len(self.paths))]
        return frozenset(names if self.needs_every_input else ())

    def _named(self, name: str) -> dict[str, Tensor]:
        return {path: getattr(self, f"{name}_{index}") for index, path in enumerate(self.paths)}

    def _start(self, step: Step, importance: dict[str, Tensor]) -> None:
        if step.part == 0 or not self._divided(step):
            self._before = int(self.updates)
        self._moves = 0
        if self.sources_0 is None:
            parts = step.parts if self._divided(step) else 1
            chance, pool = step.streams["adversary"], self.config.pool
            drawn = random_sources(importance, self.config.scope, chance, self.config.choices, step.share, parts, pool)
            kept = torch.bfloat16 if self.config.stored == "bf16" else torch.float32
            for index, value in enumerate(source.to(kept) for source in drawn.values()):
                setattr(self, f"sources_{index}", value)
                setattr(self, f"first_{index}", torch.zeros_like(value))
                setattr(self, f"second_{index}", torch.zeros_like(value))
        batch, slots = importance[self.paths[0]].shape[0], self._named("sources")[self.paths[0]].shape[0] // step.parts
        if self.needs_every_input and slots != batch:
            raise UserError(
                f"The persistent adversary has {slots} slots, but this batch has {batch} examples.",
                "Keep the batch size constant, or set the loss's scope=c.",
            )
        self._drawn = self._draw(step, importance) if self.config.pool > 1 else None

    def _draw(self, step: Step, importance: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Draw the particle that each example meets in this step.

        Raises:
            UserError: The sites do not see the same examples, so that no draw can hold at all of them.
        """
        some = importance[self.paths[0]]
        rows, chance = len(some), step.streams["adversary"]
        other = next((path for path, g in importance.items() if len(g) != rows), None)
        if other is not None:
            raise UserError(
                f"An example meets one particle at all sites, but {self.paths[0]!r} reads {rows} inputs and {other!r} {len(importance[other])}.",
                "Set pool=1, or decompose only sites that read one row per example.",
            )
        which = own_rows(lambda shape: torch.randint(self.config.pool, shape, generator=chance, device=some.device), (rows,), step.share)
        return torch.arange(rows, device=some.device), which

    def _chosen(self, only: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor] | None:
        """Return where the sources of these examples are, and of a pool those they meet; None for all there are."""
        return only if self._drawn is None else (self._drawn if only is None else (self._drawn[0][only], self._drawn[1][only]))

    def _divided(self, step: Step) -> bool:
        """Whether the sources belong to inputs and these come in parts, so that each part has its own."""
        return self.needs_every_input and step.parts > 1

    def _mine(self, name: str, step: Step) -> dict[str, Tensor]:
        """Return what belongs to this part of the batch."""
        return {path: value.chunk(step.parts)[step.part] if self._divided(step) else value for path, value in self._named(name).items()}

    def _precise(self, step: Step) -> dict[str, Tensor]:
        at = self._chosen()
        return {path: (value if at is None else value[at]).float() for path, value in self._mine("sources", step).items()}

    def _update(self, grads: dict[str, Tensor], step: Step, only: Tensor | None = None, divisor: float = 1.0) -> None:
        self._moves += 1
        self.updates.fill_(self._before + self._moves)
        warmup = self.config.warmup_share
        rate = self.config.learning_rate * (min(1.0, step.progress / warmup) if warmup else 1.0)
        state, at = [self._mine(name, step) for name in ("sources", "first", "second")], self._chosen(only)
        moving = [{path: (value if at is None else value[at]).float() for path, value in kept.items()} for kept in state]
        values, first, second = moving
        chosen = grads if only is None else {path: grad[only] for path, grad in grads.items()}
        moments = {path: (first[path], second[path]) for path in self.paths}
        adam_ascent(values, chosen, moments, self._before + self._moves, rate, self.config.betas, divisor)
        for kept, moved in zip(state, moving, strict=True):
            for path, value in kept.items():
                if moved[path] is not value:  # else it was moved in place
                    value[slice(None) if at is None else at] = moved[path].to(value.dtype)

    def _load_from_state_dict(self, state_dict, prefix, *args):  # type: ignore[no-untyped-def]
        """Take over saved sources even before the first batch has shaped them."""
        for name in [key.removeprefix(prefix) for key in state_dict if key.startswith(prefix)]:
            if name.split("_")[0] in ("sources", "first", "second") and getattr(self, name) is None:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)

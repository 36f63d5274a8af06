"""Does the behaviour survive an adversary that keeps learning? Sources that persist over the run and climb by Adam each step.

Each step: a few ascent updates on the current batch, then one more from the gradient of the main pass. The sources are never
reset and belong to no particular input; slot b meets new data each step. Source: "Interpreting Language Model Parameters" (2026).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.decompose.adversary import Scope, adam_ascent, as_sources, gradients, is_own, over_ranks, random_sources
from unbraid.decompose.masks import masks_from
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
    stored: Literal["fp32", "bf16"] = "fp32"
    """In which precision sources and their moments are kept between uses; they are reckoned with in fp32 either way."""

    def build(self, model: DecomposedModel) -> Loss:
        """Return the term."""
        return PersistentAdversarial(self, list(model.sites))


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
            drawn = random_sources(importance, self.config.scope, step.streams["adversary"], self.config.choices, step.share, parts)
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

    def _divided(self, step: Step) -> bool:
        """Whether the sources belong to inputs and these come in parts, so that each part has its own."""
        return self.needs_every_input and step.parts > 1

    def _mine(self, name: str, step: Step) -> dict[str, Tensor]:
        """Return what belongs to this part of the batch."""
        return {path: value.chunk(step.parts)[step.part] if self._divided(step) else value for path, value in self._named(name).items()}

    def _precise(self, step: Step) -> dict[str, Tensor]:
        return {path: value.float() for path, value in self._mine("sources", step).items()}

    def _update(self, grads: dict[str, Tensor], step: Step, only: Tensor | None = None, divisor: float = 1.0) -> None:
        self._moves += 1
        self.updates.fill_(self._before + self._moves)
        warmup = self.config.warmup_share
        rate = self.config.learning_rate * (min(1.0, step.progress / warmup) if warmup else 1.0)
        state = [self._mine(name, step) for name in ("sources", "first", "second")]
        moving = [{path: (value if only is None else value[only]).float() for path, value in kept.items()} for kept in state]
        values, first, second = moving
        chosen = grads if only is None else {path: grad[only] for path, grad in grads.items()}
        moments = {path: (first[path], second[path]) for path in self.paths}
        adam_ascent(values, chosen, moments, self._before + self._moves, rate, self.config.betas, divisor)
        for kept, moved in zip(state, moving, strict=True):
            for path, value in kept.items():
                if moved[path] is not value:  # else it was moved in place
                    value[slice(None) if only is None else only] = moved[path].to(value.dtype)

    def _load_from_state_dict(self, state_dict, prefix, *args):  # type: ignore[no-untyped-def]
        """Take over saved sources even before the first batch has shaped them."""
        for name in [key.removeprefix(prefix) for key in state_dict if key.startswith(prefix)]:
            if name.split("_")[0] in ("sources", "first", "second") and getattr(self, name) is None:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)

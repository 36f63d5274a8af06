"""What must the subcomponents leave alone? A loss on other inputs, where Δ is kept whole and stands for the rest of the model.

Targeted decomposition: the subcomponents take up what the model does on the run's data, and the remainder Δ everything else. So there is no faithfulness term, and on
the other inputs a subcomponent that is not needed there must not matter whatever its mask. Source: Goodfire's param-decomp, targeted decomposition.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.step import Loss, LossConfig, Step, losses

_ALLOWED = ("stochastic", "minimality", "lp-minimality")


@losses.register
class ElsewhereConfig(LossConfig):
    """Another loss, on the inputs that the target calls `elsewhere`."""

    kind: Literal["elsewhere"] = "elsewhere"
    loss: Annotated[SerializeAsAny[LossConfig], BeforeValidator(losses.parse)] = Field(default_factory=lambda: losses.parse("stochastic"))
    """Which: random ablation with Δ kept whole (stochastic), or how much is needed there (minimality, lp-minimality). Its own coefficient and decay are not used."""

    @field_validator("loss")
    @classmethod
    def _check_loss(cls, loss: LossConfig) -> LossConfig:
        if loss.kind not in _ALLOWED:
            raise ValueError(f"{loss.kind!r} has no meaning elsewhere; allowed: {', '.join(_ALLOWED)}")
        if getattr(loss, "delta", True) is False:
            raise ValueError("elsewhere Δ is kept whole, so it cannot be left out (delta: false)")
        return loss

    def build(self, model: DecomposedModel) -> Loss:
        """Return the term."""
        return Elsewhere(self.loss.build(model))


class Elsewhere(Loss):
    """A loss that looks at the other inputs of the step."""

    def __init__(self, inner: Loss) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, step: Step) -> Tensor:
        """Return the value on the other inputs.

        Raises:
            UserError: The target has no other inputs.
        """
        return self.inner(self._other(step))

    def after_backward(self, step: Step) -> None:
        """Let the loss use its gradients."""
        self.inner.after_backward(self._other(step))

    def _other(self, step: Step) -> Step:
        if step.elsewhere is None:
            raise UserError(
                "A loss is about inputs elsewhere, and the target has none.",
                "Give Target(elsewhere=…), or target.elsewhere for a language model.",
            )
        return step.elsewhere

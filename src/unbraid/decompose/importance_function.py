"""What decides which subcomponents an input needs? An importance function: the sites' clean inputs → one logit per subcomponent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unbraid.core.config import Config
from unbraid.core.ranks import ALONE, Ranks
from unbraid.core.registry import Registry
from unbraid.decompose.model import Clean, DecomposedModel
from unbraid.decompose.products import times


@dataclass(frozen=True)
class SiteShape:
    """What an importance function must know of a site: the width of what it sees of its input, and its number of subcomponents."""

    d_in: int
    C: int


class Activations(Mapping[str, Tensor]):
    """The activations `x V` of a clean pass, computed when they are asked for."""

    def __init__(self, model: DecomposedModel, clean: Clean) -> None:
        self._model, self._clean = model, clean

    def __getitem__(self, path: str) -> Tensor:
        return self._model.activations(self._clean)[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._model.sites)

    def __len__(self) -> int:
        return len(self._model.sites)


class ImportanceFunction(nn.Module):
    """The base class; a subclass gives `forward`, or `logits` if it must run the model itself.

    Attributes:
        needs_every_input: Whether inputs are compared with each other in training, so that equal ones may not share a row.
        rank: How many consecutive subcomponents of a site are one component, always needed together.
        ranks: Who has the rest of the batch, for a function that looks at more than one input at a time.
    """

    needs_every_input: bool = False
    rank: int = 1
    ranks: Ranks = ALONE

    def forward(
        self, inputs: Mapping[str, Float[Tensor, "*lead d_in"]], activations: Mapping[str, Float[Tensor, "*lead C"]]
    ) -> dict[str, Float[Tensor, "*lead C"]]:
        """Return the importance logits of every site.

        Args:
            inputs: What each site reads in the target's own pass, detached from the subcomponents.
            activations: `x V` of each site, attached; computed on demand, so that a function that does not ask pays nothing.
        """
        raise NotImplementedError

    def logits_on(self, model: DecomposedModel, clean: Clean) -> dict[str, Float[Tensor, "*lead C"]]:
        """Return the importance logits of every site on a clean pass."""
        return self(clean.inputs, Activations(model, clean))


class ImportanceConfig(Config):
    """The settings of an importance function; subclasses register under their `kind`."""

    kind: str

    def build(self, sites: Mapping[str, SiteShape], generator: torch.Generator) -> ImportanceFunction:
        """Return the function of these sites with freshly drawn weights."""
        raise NotImplementedError


importance_functions: Registry[ImportanceConfig] = Registry("importance function", "unbraid.decompose.importance")


def kaiming(shape: tuple[int, ...], fan_in: int, generator: torch.Generator, gain: float = 2.0**0.5) -> nn.Parameter:
    """Return a normal parameter of standard deviation `gain / sqrt(fan_in)` (He et al. 2015)."""
    return nn.Parameter(torch.randn(shape, generator=generator) * (gain / fan_in**0.5))


def zeros(*shape: int) -> nn.Parameter:
    """Return a zero parameter."""
    return nn.Parameter(torch.zeros(shape))


class MLP(nn.Module):
    """One hidden layer of GELUs: [..., d_in] → [..., d_out].

    Args:
        d_in: Input width.
        hidden: Hidden width.
        d_out: Output width.
        generator: Draws the weights.
    """

    def __init__(self, d_in: int, hidden: int, d_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.W_in = kaiming((d_in, hidden), d_in, generator)
        self.b_in = zeros(hidden)
        self.W_out = kaiming((hidden, d_out), hidden, generator, gain=1.0)
        self.b_out = zeros(d_out)

    def forward(self, x: Float[Tensor, "*lead d_in"]) -> Float[Tensor, "*lead d_out"]:
        """Apply the layer."""
        hidden = nn.functional.gelu(times(x, self.W_in, self.b_in))
        return times(hidden, self.W_out, self.b_out)

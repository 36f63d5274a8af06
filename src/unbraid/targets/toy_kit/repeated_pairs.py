"""Which sequences ask for induction? A pair `S M` somewhere, and S again at the end."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class RepeatedPairs:
    """Sequences `[BOS] T* S M T* S` of a fixed length, in which S stands exactly twice; everything else is uniform.

    Tokens 0 … n_tokens - 1 are ordinary, then come the triggers, then BOS. Without triggers of their own, S is any ordinary token.
    """

    n_tokens: int
    length: int
    n_triggers: int

    def batch(self, step: int, size: int, generator: torch.Generator) -> Int[Tensor, "batch pos"]:
        """Draw `size` sequences; `step` plays no part."""

        def uniform(low: int, high: int, columns: int) -> Tensor:
            return torch.randint(low, high, (size, columns), generator=generator, device=generator.device)

        if self.n_triggers:
            trigger = uniform(self.n_tokens, self.n_tokens + self.n_triggers, 1)
            tokens = uniform(0, self.n_tokens, self.length)
        else:
            trigger = uniform(0, self.n_tokens, 1)
            tokens = uniform(0, self.n_tokens - 1, self.length)
            tokens += tokens >= trigger  # an ordinary token that is not S
        tokens.scatter_(1, uniform(1, self.length - 2, 1), trigger)
        tokens[:, -1:] = trigger
        tokens[:, 0] = self.n_tokens + self.n_triggers
        return tokens


def place_of_pair(tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, " batch"]:
    """Return where the first S stands; M stands behind it."""
    return (tokens[:, :-1] == tokens[:, -1:]).int().argmax(dim=1)


def at_place(tokens: Int[Tensor, "batch pos"], offset: int, rank: int) -> Float[Tensor, "batch pos rank"]:
    """Return 1 at the place of the first S plus `offset`, where the pieces must be important, and NaN where the truth does not say."""
    here = F.one_hot(place_of_pair(tokens) + offset, tokens.shape[1]).bool()
    return torch.where(here, 1.0, torch.nan)[..., None].expand(-1, -1, rank)


def repeats(tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, " batch"]:
    """Return how many positions between BOS and the last S hold a token that stood before."""
    inner = tokens[:, 1:-1]
    return (inner[:, :, None] == inner[:, None, :]).tril(-1).any(-1).sum(1)


def unseen(tokens: Int[Tensor, "batch pos"], n_tokens: int) -> Int[Tensor, " batch"]:
    """Return an ordinary token that stands nowhere in each sequence, or stands there least."""
    return F.one_hot(tokens.clamp(max=n_tokens), n_tokens + 1).sum(1)[:, :n_tokens].argmin(1)

"""How do tokens become words that a person reads, and back? By the tokenizer of the model that a target was made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.targets.models.language_model import KIND
from unbraid.targets.models.load import load_tokenizer
from unbraid.targets.target import Target


@dataclass(frozen=True)
class Words:
    """A target's words; a target without a tokenizer has the numbers of its outputs instead.

    Attributes:
        tokenizer: The model's own, or None.
    """

    tokenizer: Any = None

    def tokens(self, text: str) -> Int[Tensor, " pos"]:
        """Return the tokens of a text.

        Raises:
            UserError: There is no tokenizer, or the text is empty.
        """
        if self.tokenizer is None:
            raise UserError("This target reads no text.", "Leave the prompts out, or give input vectors in Python.")
        ids = self.tokenizer.encode(text)
        if not ids:
            raise UserError("An empty prompt was given.", "Give some words.")
        return torch.tensor(ids, dtype=torch.long)

    def text(self, ids: Iterable[int]) -> str:
        """Return what tokens say."""
        known = [int(token) for token in ids]
        return " ".join(map(str, known)) if self.tokenizer is None else str(self.tokenizer.decode(known))

    def each(self, ids: Sequence[int]) -> dict[int, str]:
        """Return what each token says on its own; numbers that are no tokens say themselves."""
        return {int(token): self.text([token]) for token in ids}


def words_of(target: Target) -> Words:
    """Return a target's words, from the settings that it was made of."""
    source = target.source or {}
    return Words(load_tokenizer(str(source["model"])) if source.get("kind") == KIND else None)

"""Where do windows lie in the tokens of one split? Cut through everything, or inside documents only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64

from unbraid.core.errors import unknown

Mode = Literal["packed", "within"]
MODES: tuple[Mode, ...] = ("packed", "within")


def mode_named(name: str) -> Mode:
    """Return the mode of a name.

    Raises:
        UserError: There is none.
    """
    for mode in MODES:
        if mode == name:
            return mode
    raise unknown("mode", name, MODES)


@dataclass(frozen=True)
class Packed:
    """Windows side by side, through the ends of documents; only what is left at the very end is dropped.

    Attributes:
        tokens: How many tokens there are, those that end documents included.
        window: Tokens per window.
    """

    tokens: int
    window: int

    @property
    def count(self) -> int:
        """How many windows there are."""
        return self.tokens // self.window

    @property
    def dropped_share(self) -> float:
        """The share of the tokens that no window holds."""
        return (self.tokens % self.window) / self.tokens if self.tokens else 0.0

    def starts(self, windows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return the position of each window's first token."""
        return windows * self.window


@dataclass(frozen=True)
class Within:
    """Windows side by side in each document from its first token on; what is left at its end is dropped.

    Attributes:
        first: Position of each document's first token.
        until: How many windows the documents up to and with each have.
        tokens: How many tokens the documents have, without those that end them.
        window: Tokens per window.
    """

    first: Int64[np.ndarray, " documents"]
    until: Int64[np.ndarray, " documents"]
    tokens: int
    window: int

    @property
    def count(self) -> int:
        """How many windows there are."""
        return int(self.until[-1]) if len(self.until) else 0

    @property
    def dropped_share(self) -> float:
        """The share of the tokens that no window holds."""
        return 1 - self.count * self.window / self.tokens if self.tokens else 0.0

    def starts(self, windows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return the position of each window's first token."""
        document = np.searchsorted(self.until, windows, side="right")
        before = np.where(document > 0, self.until[document - 1], 0)
        return self.first[document] + (windows - before) * self.window


Cut = Packed | Within


def cut(offsets: Int64[np.ndarray, " bounds"], separated: bool, window: int, mode: Mode) -> Cut:
    """Cut windows.

    Args:
        offsets: Position of each document's first token, and at last the number of tokens.
        separated: Whether each document's last token is the one that ends it, which only packed windows hold.
        window: Tokens per window.
        mode: How.
    """
    if mode == "packed":
        return Packed(int(offsets[-1]), window)
    lengths = np.diff(offsets) - int(separated)
    return Within(offsets[:-1], np.cumsum(lengths // window), int(lengths.sum()), window)

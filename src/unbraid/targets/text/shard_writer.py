"""How do tokens get onto the disk? In shards of one size, each written whole or not at all, with one shard in memory."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unbraid.core.errors import UserError
from unbraid.core.storage import write_atomically
from unbraid.targets.text.split import Split


def shard_name(split: Split, index: int) -> str:
    """Return the file name of a shard."""
    return f"{split}-{index:05d}.npy"


def bounds_name(split: Split) -> str:
    """Return the name of the file that says where documents begin."""
    return f"{split}.documents.npy"


class ShardWriter:
    """Writes one split: its tokens into shards, and where each document begins.

    Args:
        folder: Where the files go.
        split: Which split it is.
        dtype: "uint16" or "uint32".
        shard_tokens: Tokens per shard; the last has what is left.
    """

    def __init__(self, folder: Path, split: Split, dtype: str, shard_tokens: int) -> None:
        self.folder = folder
        self.split: Split = split
        self.names: list[str] = []
        self.tokens = 0
        self._buffer = np.empty(shard_tokens, dtype)
        self._filled = 0
        self._bounds = array("q", [0])

    @property
    def bounds(self) -> np.ndarray:
        """Position of each document's first token, and at last the number of tokens."""
        return np.array(self._bounds, dtype=np.int64)

    def append(self, ids: Sequence[int]) -> None:
        """Add tokens to the document at hand."""
        new, at = np.asarray(ids, dtype=self._buffer.dtype), 0
        self.tokens += len(new)
        while at < len(new):
            taken = min(len(new) - at, len(self._buffer) - self._filled)
            self._buffer[self._filled : self._filled + taken] = new[at : at + taken]
            self._filled, at = self._filled + taken, at + taken
            if self._filled == len(self._buffer):
                self._flush()

    def end_document(self) -> None:
        """End the document at hand."""
        self._bounds.append(self.tokens)

    def close(self) -> None:
        """Write what is left, and where documents begin."""
        if self._filled:
            self._flush()
        self.names.append(bounds_name(self.split))
        _save(self.folder / self.names[-1], self.bounds)

    def _flush(self) -> None:
        name = shard_name(self.split, len(self.names))
        _save(self.folder / name, self._buffer[: self._filled])
        self.names.append(name)
        self._filled = 0


def _save(path: Path, values: np.ndarray) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, values, allow_pickle=False)

    try:
        write_atomically(path, write)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else os.strerror(error.errno) if error.errno else str(error)
        raise UserError(f"Could not write {str(path)!r}: {reason}.", "Make room or choose another folder, and build again.") from error

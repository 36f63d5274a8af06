"""How are tokens read back? From memory-mapped shards, each of which has to prove its hash when it is first touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int64

from unbraid.core.errors import UserError
from unbraid.targets.text.manifest import Manifest, check_file
from unbraid.targets.text.shard_writer import bounds_name, shard_name
from unbraid.targets.text.split import Split


class ShardReader:
    """The tokens of one split as one long row.

    Args:
        folder: A folder of tokens.
        manifest: Its manifest.
        split: Which split.
    """

    def __init__(self, folder: Path, manifest: Manifest, split: Split) -> None:
        self.folder = folder
        self.manifest = manifest
        self.split: Split = split
        facts = manifest.splits[split]
        self.tokens = facts.tokens + facts.separators
        self._shards: dict[int, np.ndarray] = {}

    def bounds(self) -> Int64[np.ndarray, " bounds"]:
        """Return the position of each document's first token, and at last the number of tokens."""
        return self._open(bounds_name(self.split), "int64", self.manifest.splits[self.split].documents + 1)

    def windows(self, starts: Int64[np.ndarray, " n"], window: int) -> Int64[np.ndarray, "n window"]:
        """Return the tokens of windows that begin at these positions.

        Raises:
            UserError: A shard is damaged.
        """
        result = np.empty((len(starts), window), np.int64)
        size = self.manifest.shard_tokens
        for row, start in zip(result, starts.tolist(), strict=True):
            done = 0
            while done < window:
                index, at = divmod(start + done, size)
                part = self._shard(index)[at : at + window - done]
                row[done : done + len(part)] = part
                done += len(part)
        return result

    def _shard(self, index: int) -> np.ndarray:
        if index not in self._shards:
            length = min(self.manifest.shard_tokens, self.tokens - index * self.manifest.shard_tokens)
            self._shards[index] = self._open(shard_name(self.split, index), self.manifest.dtype, length)
        return self._shards[index]

    def _open(self, name: str, dtype: str, length: int) -> np.ndarray:
        check_file(self.folder, self.manifest, name, content=True)
        values: np.ndarray = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        if values.dtype != np.dtype(dtype) or values.shape != (length,):
            raise UserError(f"{str(self.folder / name)!r} does not fit the manifest beside it.", "Build the tokens again.")
        return values

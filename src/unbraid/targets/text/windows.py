"""How does a language model get its inputs? Windows of tokens from a folder, every one once an epoch, in an order that needs no memory.

Position: the batch of step s with size n holds positions s n … s n + n - 1 of an endless reading, epoch after epoch, each epoch in an order of its own.
The order follows from the *seed* of the generator that is given (the run's seed and the name of its stream), not from how much was drawn
from it. So a resumed run, whose generator has its seed back, reads on where it stopped; a step cut in two halves reads the same windows;
streams with other names read in other orders; and nothing has to be saved besides the step.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from unbraid.core.errors import UserError, unknown
from unbraid.targets.text.cutting import Mode, cut, mode_named
from unbraid.targets.text.manifest import read_manifest
from unbraid.targets.text.order import place_in_epochs
from unbraid.targets.text.shard_reader import ShardReader
from unbraid.targets.text.split import SPLITS, Split
from unbraid.targets.text.tokenizer import read_tokenizer


class TextWindows:
    """Windows of tokens as a source of inputs.

    Two modes. "packed": the documents of the split, each followed by the token that ends it, are one long row, and windows are cut through; a window
    may hold the end of one document and the start of the next, never a token of the other split. "within": a window holds
    tokens of one document only, and what is left at a document's end, shorter than a window, is dropped (`dropped_share`).

    Args:
        folder: What `build_text` has made.
        tokenizer: The tokenizer that the model reads; where it is given it must be the one that built the folder.
        split: "train" or "held-out".
        window: Tokens per window; by default what the folder was built for.
        mode: "packed" or "within"; by default what the folder was built for.
        rank: Which of `world_size` equal slices of each batch this process reads.
        world_size: Into how many slices a batch is cut; the whole batch is the same for any number.
        verify: Check the hash of every file now; otherwise sizes now, and each shard's hash when it is first touched.

    Raises:
        UserError: The folder is not whole or damaged, another tokenizer built it, or the split has no window.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        tokenizer: object = None,
        split: Split = "train",
        window: int | None = None,
        mode: Mode | None = None,
        rank: int = 0,
        world_size: int = 1,
        verify: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        if not 0 <= rank < world_size:
            raise UserError(f"Rank {rank} of {world_size} was asked for.", "Ranks count from 0.")
        if window is not None and window < 2:
            raise UserError(f"A window of {window} tokens was asked for.", "It needs at least 2.")
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder, None if tokenizer is None else read_tokenizer(tokenizer), verify)
        self.split: Split = split
        self.window = window or self.manifest.window
        self.mode: Mode = mode_named(mode or self.manifest.mode)
        self.rank = rank
        self.world_size = world_size
        self._tokens = ShardReader(self.folder, self.manifest, split)
        separated = self.manifest.tokenizer.eos is not None
        if self.mode == "packed" and not separated:
            raise UserError(f"{str(self.folder)!r} has no tokens that end documents.", "Read it with mode='within', or build it with one.")
        self._cut = cut(self._tokens.bounds(), separated, self.window, self.mode)
        if not self._cut.count:
            documents = self.manifest.splits[split].documents
            raise UserError(
                f"{str(self.folder)!r} has no window of {self.window} tokens in the split {split!r}, which has {documents} documents and "
                f"{self._tokens.tokens} tokens.",
                "Build it from more or other documents, with a shorter window"
                + (", or a larger --held-out." if split == "held-out" else "."),
            )

    @property
    def count(self) -> int:
        """How many windows the split has: the length of an epoch."""
        return self._cut.count

    @property
    def dropped_share(self) -> float:
        """The share of the split's tokens that no window holds."""
        return self._cut.dropped_share

    @property
    def vocabulary_size(self) -> int:
        """One more than the largest id that the tokenizer has."""
        return self.manifest.tokenizer.vocabulary_size

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of text per token of the whole split; nats per token over this and ln 2 are bits per byte.

        Packed windows hold the tokens that end documents, which stand for no bytes, so that they count there.
        """
        facts = self.manifest.splits[self.split]
        tokens = facts.tokens + (facts.separators if self.mode == "packed" else 0)
        return facts.bytes / tokens

    def epoch(self, step: int, size: int) -> int:
        """Return the epoch in which the batch of a step begins, counted from 0."""
        return step * size // self.count

    def batch(self, step: int, size: int, generator: torch.Generator) -> Int[Tensor, "batch window"]:
        """Return this rank's slice of the batch of a step, as int64 on the generator's device; nothing is drawn from the generator.

        Args:
            step: Number of the step, from 0.
            size: How many windows all ranks read together.
            generator: Its seed decides the order.

        Raises:
            UserError: The size does not divide among the ranks or is more than an epoch, or a shard is damaged.
        """
        if size % self.world_size or size < 1:
            raise UserError(
                f"A batch of {size} windows cannot be shared by {self.world_size} ranks.",
                f"Make batch_size a multiple of {self.world_size}.",
            )
        if size > self.count:
            raise UserError(
                f"A batch of {size} windows was asked for, and the split {self.split!r} has {self.count}.",
                f"Set batch_size to at most {self.count}, or build from more text.",
            )
        rows = size // self.world_size
        places = place_in_epochs(step * size + self.rank * rows, rows, self.count, generator.initial_seed())
        return self.at(torch.from_numpy(places)).to(generator.device)

    def at(self, windows: Int[Tensor, " batch"]) -> Int[Tensor, "batch window"]:
        """Return windows by their number, 0 … count - 1, in the order of the text.

        Raises:
            UserError: There is no such window, or a shard is damaged.
        """
        if len(windows) and not 0 <= int(windows.min()) <= int(windows.max()) < self.count:
            raise UserError(f"A window outside 0 … {self.count - 1} was asked for.", "Ask for a window that is there.")
        return torch.from_numpy(self._tokens.windows(self._cut.starts(windows.cpu().numpy()), self.window))

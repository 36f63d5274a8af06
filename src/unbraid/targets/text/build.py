"""How does text become a folder of tokens? Read, tokenised and split once, in little memory, and marked as whole at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unbraid.core.errors import UserError
from unbraid.core.storage import write_manifest
from unbraid.targets.text.cutting import Mode, cut, mode_named
from unbraid.targets.text.manifest import FORMAT, Manifest, SourceFacts, SplitFacts, TokenizerFacts, read_manifest
from unbraid.targets.text.pieces import Counted, batches, pieces
from unbraid.targets.text.place import place_for
from unbraid.targets.text.shard_writer import ShardWriter
from unbraid.targets.text.source import Source, open_source
from unbraid.targets.text.split import RULE, SPLITS, Split
from unbraid.targets.text.tokenizer import TextTokenizer, read_tokenizer

BATCH_CHARACTERS = 1 << 20
SHARD_TOKENS = 1 << 24  # 32 or 64 MiB
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class TextBuild:
    """How text is to be built.

    Attributes:
        window: Tokens per window.
        mode: "packed": documents are joined by the token that ends them, and windows are cut through. "within": no window holds tokens of two
            documents, and what is left at a document's end is dropped.
        held_out: Expected share of the distinct documents that are held out.
        shard_tokens: Tokens per shard; one shard per split is in memory.
        batch_characters: How much text is tokenised at a time. A longer document is cut behind a line's end, where a few tokenizers
            give another token than without the cut.
    """

    window: int = 128
    mode: Mode = "packed"
    held_out: float = 0.01
    shard_tokens: int = SHARD_TOKENS
    batch_characters: int = BATCH_CHARACTERS

    def check(self, tokenizer: TextTokenizer) -> None:
        """Raise a UserError when something is not allowed."""
        if self.window < 2:
            raise UserError(f"A window of {self.window} tokens was asked for.", "It needs at least 2: --window 128")
        if not 0 <= self.held_out < 1:
            raise UserError(f"A held-out share of {self.held_out} was asked for.", "Give a number from 0 to below 1: --held-out 0.01")
        if mode_named(self.mode) == "packed" and tokenizer.eos is None:
            raise UserError(
                "The tokenizer names no token that ends a text, by which packed windows tell documents apart.",
                "Name one of its tokens (--eos TOKEN), or cut windows within documents: --mode within",
            )


def build_text(
    source: str | Path | Iterable[str],
    tokenizer: object,
    out: str | Path,
    settings: TextBuild | None = None,
    *,
    field: str = "text",
    separator: str | None = None,
    eos: str | None = None,
    report: Report | None = None,
) -> Manifest:
    """Tokenise text into a folder that `TextWindows` reads, and return the folder's manifest.

    Memory holds one shard per split, one batch, a few copies of the longest document and 8 bytes per document, whatever the size of the text. A build that fails
    or is stopped leaves no manifest; given again, it starts anew.

    Args:
        source: A folder, a file (.txt, .md, .jsonl, .parquet), or texts.
        tokenizer: A folder with tokenizer.json, a `tokenizers.Tokenizer`, or a fast tokenizer of transformers.
        out: The folder to make.
        settings: Windows, split and sizes.
        field: The field or column with the text.
        separator: The line between two documents of a plain text file; None makes each file one document.
        eos: The token that ends a document; by default the one that the tokenizer names.
        report: Told after each batch how many documents and how many bytes of text have been read.

    Raises:
        UserError: The text cannot be read or is shorter than a window, the tokenizer does not fit, or the folder is in use.
    """
    settings, coder, out = settings or TextBuild(), read_tokenizer(tokenizer, eos), Path(out)
    settings.check(coder)
    opened = open_source(source, field, separator)
    with place_for(out):
        return _fill(opened, coder, out, settings, report)


def _fill(source: Source, tokenizer: TextTokenizer, out: Path, settings: TextBuild, report: Report | None) -> Manifest:
    dtype = "uint16" if tokenizer.vocabulary_size <= 1 << 16 else "uint32"
    writers = {split: ShardWriter(out, split, dtype, settings.shard_tokens) for split in SPLITS}
    counted = Counted()
    for batch in batches(pieces(source.documents(), settings.held_out, settings.batch_characters, counted), settings.batch_characters):
        for piece, ids in zip(batch, tokenizer.encode([piece.text for piece in batch]), strict=True):
            writer = writers[piece.split]
            writer.append(ids)
            if piece.last:
                writer.append([] if tokenizer.eos is None else [tokenizer.eos])
                writer.end_document()
        if report is not None:
            report(counted.documents.total(), counted.bytes.total())
    for writer in writers.values():
        writer.close()
    splits: dict[Split, SplitFacts] = {writer.split: _split_facts(writer, counted, tokenizer, settings) for writer in writers.values()}
    _check_enough(splits, writers["train"].bounds, source, settings)
    described = SourceFacts(name=source.name, files=source.files, empty_documents=counted.empty, sha256=counted.sha256.hex())
    facts = TokenizerFacts(sha256=tokenizer.sha256, vocabulary_size=tokenizer.vocabulary_size, eos=tokenizer.eos)
    write_manifest(
        out,
        [name for writer in writers.values() for name in writer.names],
        format=FORMAT,
        tokenizer=facts.tree(),
        dtype=dtype,
        shard_tokens=settings.shard_tokens,
        window=settings.window,
        mode=settings.mode,
        held_out=settings.held_out,
        split_rule=RULE,
        source=described.tree(),
        splits={split: facts.tree() for split, facts in splits.items()},
    )
    return read_manifest(out)


def _split_facts(writer: ShardWriter, counted: Counted, tokenizer: TextTokenizer, settings: TextBuild) -> SplitFacts:
    documents, size = counted.documents[writer.split], counted.bytes[writer.split]
    separators = 0 if tokenizer.eos is None else documents
    tokens = writer.tokens - separators
    windows = cut(writer.bounds, tokenizer.eos is not None, settings.window, settings.mode)
    return SplitFacts(
        documents=documents,
        tokens=tokens,
        separators=separators,
        bytes=size,
        bytes_per_token=size / tokens if tokens else 0.0,
        windows=windows.count,
        dropped_share=windows.dropped_share,
        shards=len(writer.names) - 1,
    )


def _check_enough(splits: dict[Split, SplitFacts], bounds: np.ndarray, source: Source, settings: TextBuild) -> None:
    """Raise a UserError when there is not one window to train on."""
    train, held_out = splits["train"], splits["held-out"]
    if train.windows:
        return
    if not train.documents and held_out.documents:
        raise UserError(
            f"Every document of {source.name!r} is held out: there are {held_out.documents}.", "Give more documents, or --held-out 0."
        )
    if not train.documents:
        raise UserError(f"{source.name!r} has no text: every document is empty.", "Give a source with text.")
    separated = int(train.separators > 0)
    longest = train.tokens + train.separators if settings.mode == "packed" else int(np.diff(bounds).max()) - separated
    what = "The text" if settings.mode == "packed" else "The longest document"
    fix = f"Give more text, or a shorter window: --window {longest}" if longest > 1 else "Give more text."
    raise UserError(f"{what} to train on has {longest} tokens, and one window needs {settings.window}.", fix)

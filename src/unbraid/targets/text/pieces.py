"""How is text given to the tokenizer a little at a time, and how is counted what went by?"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from unbraid.core.errors import UserError
from unbraid.targets.text.document import Document
from unbraid.targets.text.split import Split, content_digest, split_of

BATCH_PIECES = 4096


class Piece(NamedTuple):
    """A part of a document.

    Attributes:
        text: Its text.
        split: The split of the whole document.
        last: Whether the document ends with it.
    """

    text: str
    split: Split
    last: bool


@dataclass
class Counted:
    """What was counted while documents went by.

    Attributes:
        documents: Documents with text, per split.
        bytes: UTF-8 bytes of their text, per split.
        empty: Documents without.
        sha256: A hash over the words of all documents in order.
    """

    documents: Counter[Split] = field(default_factory=Counter[Split])
    bytes: Counter[Split] = field(default_factory=Counter[Split])
    empty: int = 0
    sha256: bytes = b""


def pieces(documents: Iterable[Document], held_out: float, limit: int, counted: Counted) -> Iterator[Piece]:
    """Give the pieces of each document that has text, with the split that the content of the whole document decides.

    Args:
        documents: The documents.
        held_out: Expected share of the distinct documents that are held out.
        limit: Characters in the longest piece.
        counted: What is counted along the way.

    Raises:
        UserError: A text holds half of a surrogate pair.
    """
    for document in documents:
        if not document.text.strip():
            counted.empty += 1
            continue
        parts = list(cut_text(document.text, limit))
        try:
            digest, size = content_digest(parts), sum(len(part.encode("utf-8")) for part in parts)
        except UnicodeEncodeError as error:
            raise UserError(
                f"{document.where} holds \\u{ord(error.object[error.start]):04x}, half of a surrogate pair, which is no text.",
                "Mend the text, or leave that document out.",
            ) from None
        split = split_of(digest, held_out)
        counted.documents[split] += 1
        counted.bytes[split] += size
        counted.sha256 = hashlib.sha256(counted.sha256 + digest).digest()
        for index, part in enumerate(parts):
            yield Piece(part, split, index == len(parts) - 1)


def cut_text(text: str, limit: int) -> Iterator[str]:
    """Cut a text into pieces of at most `limit` characters: behind a line's end, else before a space, else anywhere."""
    start = 0
    while len(text) - start > limit:
        end = text.rfind("\n", start, start + limit) + 1
        if end <= start:
            end = text.rfind(" ", start, start + limit)
        if end <= start:
            end = start + limit
        yield text[start:end]
        start = end
    yield text[start:]


def batches(given: Iterable[Piece], characters: int) -> Iterator[list[Piece]]:
    """Gather pieces up to a number of characters, and not too many."""
    batch, size = list[Piece](), 0
    for piece in given:
        if batch and (size + len(piece.text) > characters or len(batch) == BATCH_PIECES):
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += len(piece.text)
    if batch:
        yield batch

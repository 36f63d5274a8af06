"""Which documents are held out? A hash of the content decides, so that equal documents are never on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

Split = Literal["train", "held-out"]
SPLITS: tuple[Split, ...] = ("train", "held-out")
RULE = "blake2b-128 of the words, one space between them; its first 8 bytes as a share of 2^64 lie below held_out"


def content_digest(pieces: Iterable[str]) -> bytes:
    """Return a hash of a text that is given in pieces; how much white space stands between words plays no part.

    Near-duplicates that differ in a word are different documents.
    """
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        words = piece.split()
        if words:
            digest.update((" ".join(words) + " ").encode("utf-8"))
    return digest.digest()


def split_of(digest: bytes, held_out: float) -> Split:
    """Return the side of a document; `held_out` is the expected share of the distinct documents that are held out."""
    return "held-out" if int.from_bytes(digest[:8], "little") < held_out * 2**64 else "train"

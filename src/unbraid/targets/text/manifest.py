"""What does a folder of tokens say about itself? Its manifest, written last: a folder without one is not whole."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from unbraid.core.config import Config, describe
from unbraid.core.errors import UserError
from unbraid.core.storage import MANIFEST, file_hash, read_json
from unbraid.targets.text.cutting import Mode
from unbraid.targets.text.split import Split
from unbraid.targets.text.tokenizer import TextTokenizer

FORMAT = "unbraid-text-1"


class TokenizerFacts(Config):
    """Which tokenizer made the tokens."""

    sha256: str
    """Hash of what decides which ids a text becomes."""
    vocabulary_size: int
    """One more than the largest id."""
    eos: int | None
    """The id after each document; None where there is none."""


class SplitFacts(Config):
    """One split, and what the windows that it was built for make of it."""

    documents: int
    """How many documents."""
    tokens: int
    """Tokens of their text."""
    separators: int
    """Tokens that end documents, which come on top."""
    bytes: int
    """UTF-8 bytes of their text; with `tokens`, what turns nats per token into bits per byte."""
    bytes_per_token: float
    """`bytes / tokens`; 0 without tokens."""
    windows: int
    """How many windows of the manifest's mode and length there are."""
    dropped_share: float
    """The share of the tokens that none of them holds."""
    shards: int
    """How many shards."""


class FileFacts(Config):
    """A file as it was written."""

    bytes: int
    """Its size."""
    sha256: str
    """Its hash."""


class SourceFacts(Config):
    """What was read."""

    name: str
    """The last part of its path."""
    files: int
    """How many files."""
    empty_documents: int
    """Documents without text, which were left out."""
    sha256: str
    """Hash over the words of all documents in order."""


class Manifest(Config):
    """All of it."""

    format: Literal["unbraid-text-1"]
    """Which version of the layout this is."""
    tokenizer: TokenizerFacts
    """Which tokenizer made the tokens."""
    dtype: Literal["uint16", "uint32"]
    """How a token is stored."""
    shard_tokens: int
    """Tokens per shard; the last of a split has fewer."""
    window: int
    """Tokens per window, unless a reader asks for another length."""
    mode: Mode
    """How windows are cut, unless a reader asks for the other."""
    held_out: float
    """Expected share of the distinct documents that are held out."""
    split_rule: str
    """How a document's split follows from its content."""
    source: SourceFacts
    """What was read."""
    splits: dict[Split, SplitFacts]
    """Per split what it holds."""
    files: dict[str, FileFacts]
    """Size and hash of each file."""


def read_manifest(folder: Path, tokenizer: TextTokenizer | None = None, verify: bool = False) -> Manifest:
    """Read a folder's manifest and check that every file is there with its size.

    Args:
        folder: A folder of tokens.
        tokenizer: The tokenizer that the tokens are expected to be of.
        verify: Check every file's hash now.

    Raises:
        UserError: The folder is missing, not whole or damaged, or another tokenizer made it.
    """
    if not folder.is_dir():
        raise UserError(
            f"There is no folder of tokens at {str(folder)!r}.", "Make one: unbraid text build SOURCE --tokenizer DIR --out DIR"
        )
    if not (folder / MANIFEST).exists():
        raise UserError(
            f"{str(folder)!r} is not a whole folder of tokens: it has no {MANIFEST}.", "If a build was stopped, give its command again."
        )
    tree = read_json(folder / MANIFEST)
    if tree.get("format") != FORMAT:
        raise UserError(f"{str(folder / MANIFEST)!r} describes no folder of tokens.", "Give one that unbraid text build has made.")
    try:
        manifest = Manifest.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{str(folder / MANIFEST)!r} is damaged: {describe(error, Manifest)}", "Build the tokens again.") from None
    for name in manifest.files:
        check_file(folder, manifest, name, content=verify)
    if tokenizer is not None and tokenizer.sha256 != manifest.tokenizer.sha256:
        raise UserError(
            f"{str(folder)!r} was tokenised by another tokenizer: its hash is {manifest.tokenizer.sha256[:12]}, not {tokenizer.sha256[:12]}.",
            "Give the tokenizer that it was built with, or build it again with this one.",
        )
    return manifest


def check_file(folder: Path, manifest: Manifest, name: str, content: bool) -> None:
    """Check a file's size and, where asked, its content.

    Raises:
        UserError: It is missing, or its size or hash is not the one in the manifest.
    """
    path, facts = folder / name, manifest.files.get(name)
    if facts is None or not path.is_file():
        raise UserError(f"{str(folder)!r} is not a whole folder of tokens: {name} is missing.", "Build it again.")
    if path.stat().st_size != facts.bytes or (content and file_hash(path) != facts.sha256):
        raise UserError(f"{str(path)!r} is damaged: its size or hash is not the one in {MANIFEST}.", "Build the tokens again.")

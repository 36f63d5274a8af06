"""Which folder of tokens belongs to a text and a tokenizer? One in the user's cache, made when it is first asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path

from unbraid.core.storage import MANIFEST, cache_folder
from unbraid.targets.text.build import Report, TextBuild, build_text
from unbraid.targets.text.tokenizer import read_tokenizer


def tokens_of(text: Path, tokenizer: object, window: int, report: Report | None = None) -> Path:
    """Return a folder of tokens: the one that was given, or one that is made of a text and kept in the user's cache.

    A text counts as the same as long as its files have the same names, sizes and times.

    Args:
        text: A folder of tokens, a folder of text, or a text file.
        tokenizer: What `read_tokenizer` takes.
        window: Tokens per window.
        report: See `build_text`.

    Raises:
        UserError: See `build_text`.
    """
    if (text / MANIFEST).is_file():
        return text
    digest = hashlib.sha256(f"{read_tokenizer(tokenizer).sha256} {window}".encode())
    for path in sorted(text.rglob("*")) if text.is_dir() else [text]:
        if path.is_file():
            facts = path.stat()
            digest.update(f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    folder = cache_folder("text") / digest.hexdigest()[:16]
    if not (folder / MANIFEST).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        build_text(text, tokenizer, folder, TextBuild(window=window), report=report)
    return folder

"""Where do documents come from? A folder, a file, or texts in memory; the same documents in the same order each time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from unbraid.core.errors import UserError
from unbraid.targets.text.document import Document
from unbraid.targets.text.read_jsonl import read_jsonl
from unbraid.targets.text.read_parquet import read_parquet
from unbraid.targets.text.read_plain import read_plain

PLAIN = (".txt", ".md")
SUFFIXES = (*PLAIN, ".jsonl", ".parquet")


@dataclass(frozen=True)
class Source:
    """Documents to be read.

    Attributes:
        name: The last part of the folder's or file's path, never where on this machine it lies; "texts in memory" otherwise.
        files: How many files it has.
        documents: Reads them, from the first to the last.
    """

    name: str
    files: int
    documents: Callable[[], Iterator[Document]]


def open_source(given: str | Path | Iterable[str], field: str = "text", separator: str | None = None) -> Source:
    """Find out what a source is.

    Args:
        given: A folder (every .txt, .md, .jsonl and .parquet file in it and below, in the order of their names; hidden ones are left out),
            one such file, or texts.
        field: The field or column with the text, for .jsonl and .parquet.
        separator: The line that stands between two documents of a plain text file; None makes each file one document.

    Raises:
        UserError: It is not there, or holds no file that can be read.
    """
    if not isinstance(given, str | Path):
        return Source("texts in memory", 0, lambda: _texts(given))
    path = Path(given)
    if not path.exists():
        raise UserError(f"There is no {str(path)!r}.", "Check the path of the text.")
    files = _files_below(path) if path.is_dir() else [path]
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{str(path)!r} is no kind of file that is read here.", f"Give a folder or one of: {', '.join(SUFFIXES)}.")
    return Source(path.resolve().name, len(files), lambda: _read(files, field, separator))


def _files_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    others: set[str] = set()
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file():
            if path.suffix.lower() in SUFFIXES:
                found.append(path)
            else:
                others.add(path.suffix or path.name)
    if not found:
        there = f"only {', '.join(sorted(others)[:5])}" if others else "no files"
        raise UserError(f"{str(folder)!r} has no documents: there are {there}.", f"Give a folder with files of: {', '.join(SUFFIXES)}.")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _read(files: Iterable[Path], field: str, separator: str | None) -> Iterator[Document]:
    for path in files:
        kind = path.suffix.lower()
        if kind in PLAIN:
            yield from read_plain(path, separator)
        else:
            yield from (read_jsonl if kind == ".jsonl" else read_parquet)(path, field)


def _texts(texts: Iterable[object]) -> Iterator[Document]:
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"Document {index} is {type(text).__name__}, not text.", "Give a list of strings, one per document.")
        yield Document(text, f"document {index}")

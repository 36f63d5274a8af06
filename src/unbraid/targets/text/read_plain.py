"""Which documents does a plain text file hold? All of it is one, or what stands between lines that say so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unbraid.targets.text.document import Document, decode


def read_plain(path: Path, separator: str | None) -> Iterator[Document]:
    """Give a text file's documents in order.

    Args:
        path: A UTF-8 file.
        separator: The line that stands between two documents (spaces around it do not count; "" is an empty line); None takes the file
            as one document.

    Raises:
        UserError: The file is not UTF-8.
    """
    if separator is None:
        yield Document(decode(path.read_bytes(), path), repr(str(path)))
        return
    wanted, lines, first = separator.strip(), list[str](), 1
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            line = decode(raw, path, number)
            if line.strip() != wanted:
                lines.append(line)
                continue
            if lines:
                yield Document("".join(lines), f"{str(path)!r}, line {first}")
            lines, first = [], number + 1
    if lines:
        yield Document("".join(lines), f"{str(path)!r}, line {first}")

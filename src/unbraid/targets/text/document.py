"""What is a document, and how is its text taken from bytes? A text and the place that an error about it names."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from unbraid.core.errors import UserError

_MARK = b"\xef\xbb\xbf"  # some editors put it before UTF-8


class Document(NamedTuple):
    """One text that belongs together, which windows may be told not to leave.

    Attributes:
        text: Its text.
        where: Where it stands in the source, as an error would say it.
    """

    text: str
    where: str


def decode(raw: bytes, path: Path, line: int = 1) -> str:
    """Decode UTF-8, without the byte order mark that may stand at the start of a file.

    Args:
        raw: Bytes of the file, from the start of a line on.
        path: The file.
        line: The number of the first line in `raw`.

    Raises:
        UserError: It is not UTF-8; file, line and byte are named.
    """
    if line == 1:
        raw = raw.removeprefix(_MARK)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = line + raw.count(b"\n", 0, error.start)
        raise UserError(
            f"{str(path)!r} is not UTF-8: line {at} has the byte 0x{raw[error.start]:02x}.",
            f"Convert the file, for example with: iconv -f LATIN1 -t UTF-8 {path.name}",
        ) from None

"""Which documents does a file of JSON lines hold? One field of each line's object."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from unbraid.core.errors import UserError
from unbraid.targets.text.document import Document, decode


def read_jsonl(path: Path, field: str) -> Iterator[Document]:
    """Give the text of each line; blank lines are left out.

    Raises:
        UserError: A line is not UTF-8, not a JSON object, or has no text under `field`; file and line are named.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            line = decode(raw, path, number)
            if line.strip():
                where = f"{str(path)!r}, line {number}"
                yield Document(_text(line, field, where), where)


def _text(line: str, field: str, where: str) -> str:
    try:
        record: object = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON: {error.msg}.", "Write one JSON object per line.") from None
    if not isinstance(record, dict):
        raise UserError(f"{where} holds {type(record).__name__}.", 'Write one JSON object per line, such as {"text": "…"}.')
    return text_of(cast("dict[str, object]", record), field, where)


def text_of(record: Mapping[str, object], field: str, where: str) -> str:
    """Return the text under a field.

    Raises:
        UserError: There is no such field (those that there are are named), or it holds no text.
    """
    if field not in record:
        texts = [name for name, value in record.items() if isinstance(value, str)]
        raise UserError(
            f"{where} has no field {field!r}; it has: {', '.join(map(str, record)) or 'none'}.",
            f"Name the one with the text: --field {texts[0] if texts else 'NAME'}",
        )
    value = record[field]
    if not isinstance(value, str):
        raise UserError(
            f"{where}: the field {field!r} holds {type(value).__name__}, not text.", "Name the field with the text: --field NAME"
        )
    return value

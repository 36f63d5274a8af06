"""Which documents does a Parquet file hold? One column of text, read some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from unbraid.core.errors import UserError
from unbraid.targets.text.document import Document
from unbraid.targets.text.read_jsonl import text_of

ROWS = 256


def read_parquet(path: Path, field: str) -> Iterator[Document]:
    """Give the text of each row; a row group is decompressed at a time, so memory does not grow with the file.

    Raises:
        UserError: pyarrow is not installed, the file is no Parquet, or the column is not there or holds something else than text.
    """
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError:
        raise UserError(f"{str(path)!r} needs pyarrow, which is not installed.", "Install it: pip install 'unbraid[lm]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            columns: dict[str, str | None] = {column.name: "" if "string" in str(column.type) else None for column in file.schema_arrow}
            if field not in columns:
                text_of(columns, field, repr(str(path)))
            row = 0
            for batch in file.iter_batches(batch_size=ROWS, columns=[field]):
                for value in batch.column(0).to_pylist():
                    row += 1
                    where = f"{str(path)!r}, row {row}"
                    yield Document(text_of({field: value}, field, where), where)
    except (ValueError, OSError) as error:  # both are what pyarrow's own errors descend from
        if isinstance(error, PermissionError):
            raise
        told = str(error).partition("\n")[0].rstrip(".")
        raise UserError(f"{str(path)!r} is no Parquet file that can be read: {told}.", "Take the file from a copy.") from None

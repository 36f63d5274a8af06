"""How do the tables of this room look? Names on the left, numbers on the right, and nothing is cut where a terminal is narrow."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich import box
from rich.table import Table

NAMES = 11
"""Letters that fit in a line of the first column, such as "covariance,"."""


def table_of(title: str, heads: Sequence[str], left: Collection[str] = ()) -> Table:
    """Return an empty table.

    Args:
        title: What it shows.
        heads: Of its columns; the first holds names.
        left: Which other columns hold words.
    """
    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, head in enumerate(heads):
        table.add_column(
            head,
            justify="right" if index and head not in left else "left",
            min_width=None if index else NAMES,
            max_width=None if index else 32,
            overflow="fold",  # where a terminal is narrow a number goes on in the next line; none is cut
        )
    return table

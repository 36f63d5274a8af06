from __future__ import annotations

import io

import pytest
from rich.console import Console

from unbraid.stability.engine.tables import table_of

HEADS = ("condition", "pairs", "defined", "width 10–90 % (95 %)", "wider than the model's", "t50", "steady", "strict, lenient")
CELLS = ("covariance", "40", "39", "0.80 [0.77, 0.87]", "0.23 [0.13, 0.31]", "0.43", "1.00", "10%, 24%")


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_cut_where_a_terminal_is_narrow(width: int) -> None:
    table = table_of("conditions", HEADS)
    table.add_row(*CELLS)
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "…" not in shown
    words = set(shown.split())
    assert {word for cell in CELLS for word in cell.split()} <= words, "no name or number is broken"
    assert all(len(line) <= width for line in shown.splitlines())

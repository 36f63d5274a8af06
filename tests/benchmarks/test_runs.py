from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.runs import provenance, write_between


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n<!-- speed:begin -->\nold\nolder\n<!-- speed:end -->\nafter\n<!-- other:begin -->\nkept\n<!-- other:end -->\n"
    )
    expected = "# Title\n<!-- speed:begin -->\n| new |\n<!-- speed:end -->\nafter\n<!-- other:begin -->\nkept\n<!-- other:end -->\n"
    for _ in range(2):
        write_between(page, "speed", "| new |")
        assert page.read_text() == expected


@pytest.mark.parametrize("text", ["no marks\n", "<!-- speed:begin -->\nno end\n", "<!-- other:begin -->\nx\n<!-- other:end -->\n"])
def test_page_without_the_marks_stays_as_it_is(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    write_between(page, "speed", "| new |")
    assert page.read_text() == text


def test_where_something_was_measured_is_said() -> None:
    said = provenance()
    assert {"commit", "uncommitted_changes", "time", "environment"} <= said.keys()
    assert len(said["commit"]) == 40 or said["commit"] == ""  # a source archive has no history

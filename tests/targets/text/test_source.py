from __future__ import annotations

import sys
from pathlib import Path

import pytest

from unbraid.core.errors import UserError
from unbraid.targets.text.source import open_source


def read(*arguments: object, **options: object) -> list[str]:
    return [document.text for document in open_source(*arguments, **options).documents()]  # type: ignore[arg-type]


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    for name, text in {"b/1.txt": "b1", "a.md": "a", "c.TXT": "c", "b/0.txt": "b0", "note.pdf": "no", ".git/x.txt": "no"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "d.jsonl").write_text('{"text": "d1"}\n\n{"text": "d2"}\n')
    assert read(tmp_path) == ["a", "b0", "b1", "c", "d1", "d2"]
    source = open_source(tmp_path)
    assert (source.name, source.files) == (tmp_path.name, 5)
    assert next(source.documents()).where == repr(str(tmp_path / "a.md"))


def test_a_line_may_part_a_file_into_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\n<|end|>\n  <|end|> \n\nthree\n<|end|>\n")
    assert read(path) == ["one\r\ntwo\n<|end|>\n  <|end|> \n\nthree\n<|end|>\n"]
    assert read(path, separator="<|end|>") == ["one\r\ntwo\n", "\nthree\n"]
    assert [document.where for document in open_source(path, separator="<|end|>").documents()][1].endswith("line 5")
    path.write_text("one\ntwo\n\n\nthree")
    assert read(path, separator="") == ["one\ntwo\n", "three"]


def test_texts_in_memory() -> None:
    assert read(["a", "b"]) == ["a", "b"]
    mixed: list[object] = ["a", 2]
    with pytest.raises(UserError, match="Document 1 is int"):
        read(text for text in mixed)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", b"one\ntwo \xff", "is not UTF-8: line 2 has the byte 0xff"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n', "is not UTF-8: line 2 has the byte 0xe9"),
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', "line 2 is not JSON"),
        ("a.jsonl", b'{"text": "a"}\n["a"]\n', "line 2 holds list"),
        (
            "a.jsonl",
            b'{"id": 1, "content": "a"}\n',
            "line 1 has no field 'text'; it has: id, content. Name the one with the text: --field content",
        ),
        ("a.jsonl", b'{"text": 3}\n', "line 1: the field 'text' holds int, not text"),
        ("a.pdf", b"x", "is no kind of file that is read here"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read(path)
    assert told in str(error.value) and str(path) in str(error.value)


def test_a_separated_file_that_is_not_utf8_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\n--\ntwo\n\xff\n")
    with pytest.raises(UserError, match="line 4 has the byte 0xff"):
        read(tmp_path / "a.txt", separator="--")


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are no files"):
        open_source(tmp_path)
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(UserError, match=r"there are only \.pdf\. Give a folder with files of: \.txt, \.md"):
        open_source(tmp_path)
    with pytest.raises(UserError, match="There is no"):
        open_source(tmp_path / "none")


def test_parquet(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    texts = [f"document {index}" for index in range(600)]
    parquet.write_table(pyarrow.table({"id": list(range(600)), "text": texts}), tmp_path / "a.parquet", row_group_size=250)
    assert read(tmp_path / "a.parquet") == texts
    with pytest.raises(UserError, match="has no field 'txt'; it has: id, text. Name the one with the text: --field text"):
        read(tmp_path / "a.parquet", field="txt")
    with pytest.raises(UserError, match="row 1: the field 'id' holds int"):
        read(tmp_path / "a.parquet", field="id")
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"b\.parquet' is no Parquet file"):
        read(tmp_path / "b.parquet")


def test_parquet_without_pyarrow_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"x")
    with pytest.raises(UserError, match=r"pip install 'unbraid\[lm\]'"):
        read(tmp_path / "a.parquet")

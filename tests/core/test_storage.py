from __future__ import annotations

import errno
from pathlib import Path

import pytest

from unbraid.core.errors import UserError
from unbraid.core.storage import (
    MANIFEST,
    check_manifest,
    disk_errors,
    read_json,
    whole_folder,
    write_atomically,
    write_json,
    write_manifest,
    write_text,
)


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file.txt"
    write_text(path, "old")

    def half(temporary: Path) -> None:
        temporary.write_text("ha")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_json_round_trip_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": 1, "Δ": "é"})
    assert read_json(path) == {"x": 1, "Δ": "é"}
    path.write_text('{"x": ')
    with pytest.raises(UserError, match="is damaged"):
        read_json(path)
    with pytest.raises(UserError, match="There is no"):
        read_json(tmp_path / "none.json")


def test_disk_errors_say_what_is_still_whole(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"the disk is full\. The state of step 3 is whole\."),
        disk_errors(tmp_path, "The state of step 3 is whole."),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(UserError, match="Permission denied"), disk_errors(tmp_path, ""):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_whole_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    place = tmp_path / "state"
    for text in ("one", "two"):
        with whole_folder(place) as folder:
            (folder / "a.txt").write_text(text)
            assert not place.exists() or (place / "a.txt").read_text() == "one"
    assert (place / "a.txt").read_text() == "two"
    check_manifest(place, "state")
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_whole_folder_vanishes_when_filling_it_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "state") as folder:
        (folder / "a.txt").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_manifest_notices_every_kind_of_damage(tmp_path: Path) -> None:
    write_text(tmp_path / "a.bin", "0123456789")
    with pytest.raises(UserError, match=f"it has no {MANIFEST}"):
        check_manifest(tmp_path, "run")
    write_manifest(tmp_path, ["a.bin"], step=3)
    assert check_manifest(tmp_path, "run")["step"] == 3
    for content in ("012345678", "0123456780"):  # truncated; changed at the same length
        (tmp_path / "a.bin").write_text(content)
        with pytest.raises(UserError, match="is damaged"):
            check_manifest(tmp_path, "run")
    (tmp_path / "a.bin").unlink()
    with pytest.raises(UserError, match=r"a\.bin is missing"):
        check_manifest(tmp_path, "run")
    with pytest.raises(UserError, match="There is no run at"):
        check_manifest(tmp_path / "none", "run")

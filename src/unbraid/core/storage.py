"""How are files written so that they are whole or absent, and how is a damaged one noticed? Atomic writes and hashed manifests.

Tensors are stored as safetensors only; nothing here reads or writes a pickle.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError

from unbraid.core.errors import UserError

MANIFEST = "manifest.json"


def cache_folder(kind: str = "") -> Path:
    """Return where this user's cache of a kind of thing lies; it may not be there yet, and nothing in it is ever missed."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "unbraid" / kind


@contextmanager
def disk_errors(path: Path, kept: str) -> Generator[None]:
    """Turn a full disk or a missing permission into a message that says what is still whole.

    Args:
        path: What was being written.
        kept: What is as good as it was, as a sentence.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        # safetensors reports what the system said only as text: "… (os error 28)".
        told = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
        full = number in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else os.strerror(number) if number else str(error)
        raise UserError(
            f"Could not write {str(path)!r}: {reason}. {kept}", "Make room or choose another folder, and go on with --resume."
        ) from error


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside its place and move it there, so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        write(temporary)
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """Name a hidden place beside `path`; what is made there has the permissions of any new file."""
    return path.parent / f".{path.name}.{secrets.token_hex(4)}"


def sweep(folder: Path) -> None:
    """Remove what writes that were killed have left in a folder."""
    for left in folder.glob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{8}", left.name):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda temporary: _write_plain(temporary, text))


def _write_plain(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(tree, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file whose top level is an object.

    Raises:
        UserError: The file is missing or not JSON.
    """
    try:
        tree: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"There is no {str(path)!r}.", "Check the path, or make the run again.") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        tree = None
    if not isinstance(tree, dict):
        raise UserError(f"{str(path)!r} is damaged.", "Take the folder from a copy, or make the run again.")
    return cast("dict[str, Any]", tree)


@contextmanager
def whole_folder(path: Path) -> Generator[Path]:
    """Give a temporary folder to fill; on success it gets a manifest and takes the place of `path`, otherwise it vanishes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        write_manifest(temporary, sorted(file.name for file in temporary.iterdir()))
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_manifest(folder: Path, names: list[str], **extra: Any) -> None:
    """Write, last of all, the size and hash of each named file: the mark that the folder is whole."""
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": file_hash(folder / name)} for name in names}
    write_json(folder / MANIFEST, {**extra, "files": files})


def check_manifest(folder: Path, what: str) -> dict[str, Any]:
    """Check every file of a folder against its manifest, and return the manifest.

    Raises:
        UserError: There is no manifest, or a file is missing, truncated or changed.
    """
    if not folder.is_dir():
        raise UserError(f"There is no {what} at {str(folder)!r}.", "Check the path.")
    if not (folder / MANIFEST).exists():
        raise UserError(
            f"{str(folder)!r} is not a whole {what}: it has no {MANIFEST}.",
            "If a run was stopped, go on with: unbraid decompose --resume RUN",
        )
    manifest = read_json(folder / MANIFEST)
    for name, entry in manifest.get("files", {}).items():
        path = folder / name
        if not path.exists():
            raise UserError(f"{str(folder)!r} is not a whole {what}: {name} is missing.", "Take it from a copy, or make the run again.")
        if path.stat().st_size != entry["bytes"] or file_hash(path) != entry["sha256"]:
            raise UserError(
                f"{str(path)!r} is damaged: its size or hash is not the one in {MANIFEST}.", "Take it from a copy, or make the run again."
            )
    return manifest


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

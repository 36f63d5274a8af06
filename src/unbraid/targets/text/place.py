"""Where may a build write, and what is left of one that was stopped? A mark stands in the folder until it is whole."""

from __future__ import annotations

import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from unbraid.core.errors import UserError
from unbraid.core.storage import MANIFEST, write_text

MARK = "unfinished"
_OURS = re.compile(rf"{MARK}|\.?(train|held-out)(-\d{{5,}}|\.documents)\.npy(\.[0-9a-f]{{8}})?|\.(manifest\.json|{MARK})\.[0-9a-f]{{8}}")


@contextmanager
def place_for(out: Path) -> Generator[None]:
    """Make a folder to build in, and remove what was built when the block fails.

    What a killed build has left is removed first; it is known by its mark, so that nobody else's files ever are.

    Raises:
        UserError: The folder is in use.
    """
    if (out / MANIFEST).exists():
        raise UserError(f"There is already something whole at {str(out)!r}.", "Use it, remove it, or give another --out.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{str(out)!r} is a file.", "Give a folder that is new or empty: --out DIR")
    new = not out.exists()
    if not new:
        killed = (out / MARK).exists()
        others = sorted(path.name for path in out.iterdir() if not (killed and _OURS.fullmatch(path.name)))
        if others:
            raise UserError(f"{str(out)!r} holds other files, such as {others[0]!r}.", "Give a folder that is new or empty: --out DIR")
        _clear(out)
    try:
        write_text(out / MARK, "A build has not ended here. Give its command again, or remove this folder.\n")
        yield
    except BaseException:
        _clear(out)
        if new:
            shutil.rmtree(out, ignore_errors=True)
        raise
    (out / MARK).unlink()


def _clear(out: Path) -> None:
    """Remove a build's files, the mark last."""
    for path in sorted(out.iterdir(), key=lambda path: path.name == MARK):
        if _OURS.fullmatch(path.name):
            path.unlink(missing_ok=True)

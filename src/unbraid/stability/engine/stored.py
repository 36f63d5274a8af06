"""How does a measurement of this room lie on disk? Raw arrays in a safetensors file, everything else in JSON, a manifest that says it is whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from unbraid.core.errors import UserError
from unbraid.core.storage import check_manifest, disk_errors, read_json, write_json, write_manifest

FACTS, ARRAYS = "stability.json", "curves.safetensors"


def save_measurement(folder: str | Path, tree: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Path:
    """Write a measurement into a folder of its own.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    with disk_errors(folder, "Nothing that was there before is lost."):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FACTS, dict(tree))
        save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, folder / ARRAYS)
        write_manifest(folder, [FACTS, ARRAYS], target=str(tree.get("target", "")))
    return folder


def read_measurement(folder: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a measurement back.

    Args:
        folder: Where it lies.
        kind: Which one it must be, as its "kind" says.

    Raises:
        UserError: The folder is missing, unfinished or damaged, or holds another kind of measurement.
    """
    folder = Path(folder)
    check_manifest(folder, "stability measurement")
    tree = read_json(folder / FACTS)
    if tree.get("kind") != kind:
        raise UserError(
            f"{str(folder)!r} holds a measurement of kind {tree.get('kind')!r}, not {kind!r}.", "Give the folder of one of that kind."
        )
    return tree, load_file(folder / ARRAYS)

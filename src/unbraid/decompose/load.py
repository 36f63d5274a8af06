"""How is a decomposition opened? By the name of one that comes with the package, or by the folder of a run."""

from __future__ import annotations

from pathlib import Path

from unbraid.core.errors import UserError
from unbraid.decompose.result import Decomposition
from unbraid.targets.models.shipped import shipped_decomposition, shipped_folder
from unbraid.targets.target import Target


def load(name: str | Path, target: Target | None = None) -> Decomposition:
    """Return a decomposition, ready to look at.

    Args:
        name: One that comes with the package ("carroll"), or a run folder, or what `save_pretrained` wrote.
        target: The model it was made from; needed only where that was a module given in Python.

    Raises:
        UserError: There is none of that name, or the folder is unfinished or damaged.
    """
    folder = shipped_decomposition(str(name)) or Path(name)
    if not folder.is_dir():
        known = sorted(path.parent.name for path in shipped_folder().glob("*/decomposition"))
        raise UserError(
            f"There is no decomposition {str(name)!r}: no such folder, and none of that name comes with the package.",
            f"Those that do: {', '.join(known) or 'none'}. A run of your own: unbraid.load('runs/NAME')",
        )
    return Decomposition.from_pretrained(folder, target)

"""Which sites does a term act on? Globs over site paths."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from unbraid.core.errors import UserError


def choose_sites(paths: Sequence[str], globs: str | Sequence[str]) -> list[str]:
    """Return the sites that some glob matches, in the model's order.

    Raises:
        UserError: A glob matches no site.
    """
    patterns = [globs] if isinstance(globs, str) else list(globs)
    for glob in patterns:
        if not any(fnmatch.fnmatchcase(path, glob) for path in paths):
            raise UserError(f"sites: the glob {glob!r} matches no site.", f"Sites: {', '.join(paths)}.")
    return [path for path in paths if any(fnmatch.fnmatchcase(path, glob) for glob in patterns)]

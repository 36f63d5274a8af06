"""How much does each site count in a loss? Globs over site paths, one where nothing matches."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

from unbraid.core.errors import UserError


def site_weights(paths: Sequence[str], weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weight of every site; the first glob that matches counts.

    Raises:
        UserError: A glob matches no site.
    """
    for glob in weights:
        if not any(fnmatch.fnmatchcase(path, glob) for path in paths):
            raise UserError(f"site_weights: the glob {glob!r} matches no site.", f"Sites: {', '.join(paths)}.")
    return {path: next((weight for glob, weight in weights.items() if fnmatch.fnmatchcase(path, glob)), 1.0) for path in paths}

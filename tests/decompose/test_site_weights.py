from __future__ import annotations

import pytest

from unbraid.core.errors import UserError
from unbraid.decompose.site_weights import site_weights


def test_first_glob_counts_and_one_elsewhere() -> None:
    assert site_weights(["a.q", "a.k", "b"], {"a.q": 0.1, "a.*": 0.5}) == {"a.q": 0.1, "a.k": 0.5, "b": 1.0}


def test_glob_that_matches_nothing() -> None:
    with pytest.raises(UserError, match="the glob 'c' matches no site"):
        site_weights(["a", "b"], {"c": 2.0})

from __future__ import annotations

import pytest

from unbraid.core.errors import UserError
from unbraid.decompose.site_choice import choose_sites


def test_globs_choose_in_the_models_order() -> None:
    assert choose_sites(["a.q", "a.k", "b"], "*") == ["a.q", "a.k", "b"]
    assert choose_sites(["a.q", "a.k", "b"], ["b", "a.q", "*.q"]) == ["a.q", "b"]


def test_glob_that_matches_nothing() -> None:
    with pytest.raises(UserError, match="the glob 'c' matches no site"):
        choose_sites(["a", "b"], ["a", "c"])

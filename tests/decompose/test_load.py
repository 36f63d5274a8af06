"""The decomposition that comes with the package opens by its name, and is what its scorecard says."""

from __future__ import annotations

import json

import pytest
import torch

import unbraid
from unbraid.core.errors import UserError
from unbraid.core.seeds import Streams
from unbraid.decompose.evaluate import reconstruction
from unbraid.decompose.subject import learned
from unbraid.targets.models.shipped import shipped_decomposition


def test_the_shipped_one_loses_as_little_as_its_scorecard_says() -> None:
    result = unbraid.load("carroll")
    folder = shipped_decomposition("carroll")
    assert folder is not None
    lines = {line["key"]: line for line in json.loads((folder / "scorecard.json").read_text(encoding="utf-8"))["lines"]}
    assert len(result.model.sites) == 12
    clean = result.clean(result.target.fresh.batch(0, 48, Streams(5)["elsewhere"]))
    found = reconstruction(learned(result.model, result.function), clean, result.target.behaviour, Streams(5)["masks"])
    for key in ("ce_unmasked", "kl_unmasked", "kl_stoch_masked", "kl_rounded_masked"):
        assert found[key] == pytest.approx(lines[key]["value"]["value"], rel=0.2, abs=5e-3), key


def test_ablating_everything_ruins_it() -> None:
    result = unbraid.load("carroll")
    tokens = result.target.fresh.batch(0, 8, Streams(0)["some"])
    own = result.clean(tokens).output
    nothing = result.masked_forward(tokens, {path: torch.zeros(C) for path, C in result.model.C.items()}, delta=0.0)
    assert float(result.target.behaviour.between(own, nothing)) > 1.0


def test_a_name_that_is_nothing() -> None:
    with pytest.raises(UserError, match="none of that name comes with the package"):
        unbraid.load("lewis")

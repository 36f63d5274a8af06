"""The model that comes with the package: whole, in several stages that get better, with text that it has not been trained on."""

from __future__ import annotations

import json

import pytest
import torch

from unbraid.core.errors import UserError
from unbraid.decompose.next_token import cross_entropy
from unbraid.targets.models.load import load_model, load_tokenizer
from unbraid.targets.models.reference import resolve
from unbraid.targets.models.shipped import shipped_folder, shipped_model, shipped_names, shipped_stages, shipped_text
from unbraid.targets.settings import target_settings
from unbraid.targets.text.windows import TextWindows


def test_each_stage_has_the_cross_entropy_that_its_curve_says() -> None:
    curve = json.loads((shipped_folder() / "carroll" / "curve.json").read_text(encoding="utf-8"))
    assert [f"carroll/step-{row['step']}" for row in curve[:-1]] == shipped_stages("carroll")
    text = shipped_text("carroll")
    assert text is not None
    tokens = TextWindows(text, split="held-out").at(torch.arange(200))
    for row in (curve[0], curve[3], curve[-1]):
        model = load_model("carroll" if row is curve[-1] else f"carroll/step-{row['step']}")
        with torch.no_grad():
            found = float(cross_entropy(model(input_ids=tokens).logits, tokens))
        assert found == pytest.approx(row["cross_entropy"], abs=0.06)  # fewer windows than the curve was measured on


def test_its_tokenizer_reads_and_writes_its_text() -> None:
    tokenizer = load_tokenizer("carroll")
    words = "“I wonder,” said Alice, “what the Queen will say!”\n"
    assert tokenizer.decode(tokenizer.encode(words, add_special_tokens=False)) == words


def test_it_is_a_target_by_name_alone() -> None:
    target = target_settings({"kind": "language-model", "model": "carroll/step-100", "sites": ["*.mlp.*"], "text": "carroll"}).target()
    assert target.name == "carroll-step-100"
    assert target.sites[0].path == "model.layers.0.mlp.up_proj"
    assert isinstance(target.fresh, TextWindows)
    assert target.fresh.split == "held-out"


def test_names_that_are_not_shipped() -> None:
    assert shipped_names() == ["carroll"]
    assert shipped_model("carroll/..") is None
    assert shipped_model("lewis") is None
    assert shipped_text("lewis") is None
    with pytest.raises(UserError, match="no stage 'carroll/step-5'"):
        resolve("carroll/step-5")

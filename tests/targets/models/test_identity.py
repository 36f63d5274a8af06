"""Is a language model with everything kept the model itself, whatever its layout?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.models import decomposed
from tests.targets.models.tiny import some_ids, tiny_model
from unbraid.decompose.masks import constant_masks
from unbraid.decompose.model import Clean, DecomposedModel
from unbraid.targets.models.load import load_model
from unbraid.targets.target import Target

# One matrix of the MLP and one of the attention in each layout.
SITES = {
    "gpt2": ("transformer.h.1.mlp.c_fc", "transformer.h.0.attn.c_attn"),
    "llama": ("model.layers.1.mlp.down_proj", "model.layers.0.self_attn.k_proj"),
    "gpt_neox": ("gpt_neox.layers.1.mlp.dense_4h_to_h", "gpt_neox.layers.0.attention.query_key_value"),
    "qwen2": ("model.layers.1.mlp.gate_proj", "model.layers.0.self_attn.q_proj"),
    "qwen3": ("model.layers.1.mlp.up_proj", "model.layers.0.self_attn.v_proj"),
    "gemma2": ("model.layers.1.mlp.down_proj", "model.layers.0.self_attn.o_proj"),
    "gemma3": ("model.layers.1.mlp.gate_proj", "model.layers.0.self_attn.k_proj"),
}


def target_of(family: str, tmp_path: Path, sites: tuple[str, ...]) -> Target:
    """Return a target whose model went through a folder on disk."""
    tiny_model(family).save_pretrained(tmp_path / family)
    return Target(load_model(tmp_path / family), sites=sites, data=[some_ids()], behaviour="kl")


def importances(model: DecomposedModel, clean: Clean) -> dict[str, Tensor]:
    return {path: torch.ones(*site.x.shape[:-1], model.C[path]) for path, site in clean.sites.items()}


def relative_gap(found: Tensor, wanted: Tensor) -> float:
    return float(((found - wanted).abs().max() / wanted.abs().max()).detach())


@pytest.mark.parametrize("family", SITES)
def test_everything_kept_is_the_model(tmp_path: Path, family: str) -> None:
    target = target_of(family, tmp_path, SITES[family])
    model, _ = decomposed(target, C=40)
    ids = some_ids(2, 11)
    clean = model.clean(ids)
    wanted = target(ids)
    assert relative_gap(clean.output, wanted) < 1e-6
    kept = constant_masks(importances(model, clean), 1.0, delta=1.0)
    assert relative_gap(model.masked(clean, kept), wanted) < 1e-5
    assert [tuple(clean.inputs[path].shape[:2]) for path in model.sites] == [(2, 11), (2, 11)]


@pytest.mark.parametrize("family", SITES)
def test_exact_subcomponents_are_the_model_without_delta(tmp_path: Path, family: str) -> None:
    target = target_of(family, tmp_path, SITES[family])
    model = DecomposedModel(target, {site.path: min(site.d_in, site.d_out) for site in target.sites})
    for site in model.sites.values():
        left, scale, right = torch.linalg.svd(site.weight.double(), full_matrices=False)
        V, U = site.factors.views()
        with torch.no_grad():
            V.copy_(left * scale)
            U.copy_(right)
    clean = model.clean(some_ids())
    without_delta = constant_masks(importances(model, clean), 1.0, delta=0.0)
    assert relative_gap(model.masked(clean, without_delta), target(some_ids())) < 1e-5


@pytest.mark.parametrize("family", SITES)
def test_ablating_a_site_changes_the_logits(tmp_path: Path, family: str) -> None:
    target = target_of(family, tmp_path, SITES[family])
    model, _ = decomposed(target, C=40)
    clean = model.clean(some_ids())
    ones = importances(model, clean)
    for path in model.sites:
        masks = constant_masks({path: ones[path]}, 0.0, delta=0.0)
        assert relative_gap(model.masked(clean, masks), clean.output) > 1e-3, path


@pytest.mark.parametrize("family", SITES)
def test_every_matrix_but_the_unembedding(tmp_path: Path, family: str) -> None:
    target = target_of(family, tmp_path, ("*.[0-9].*",))
    model, _ = decomposed(target, C=5)
    clean = model.clean(some_ids())
    kept = constant_masks(importances(model, clean), 1.0, delta=1.0)
    assert relative_gap(model.masked(clean, kept), target(some_ids())) < 1e-5


@pytest.mark.parametrize("family", SITES)
def test_batches_of_keyword_arguments(tmp_path: Path, family: str) -> None:
    target = target_of(family, tmp_path, SITES[family])
    batch = {"input_ids": some_ids(), "attention_mask": torch.ones(3, 9, dtype=torch.long)}
    model, _ = decomposed(Target(target.module, sites=SITES[family], data=[batch], behaviour="kl"), C=5)
    clean = model.clean(batch)
    kept = constant_masks(importances(model, clean), 1.0, delta=1.0)
    assert relative_gap(model.masked(clean, kept), target(some_ids())) < 1e-5


def test_an_unembedding_that_shares_its_matrix_with_the_embedding(tmp_path: Path) -> None:
    target = target_of("gpt2", tmp_path, ("lm_head",))
    model, _ = decomposed(target, C=5)
    clean = model.clean(some_ids())
    kept = constant_masks(importances(model, clean), 1.0, delta=1.0)
    assert relative_gap(model.masked(clean, kept), target(some_ids())) < 1e-5

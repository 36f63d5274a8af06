"""Does every layout of language model go through: identity, hooks, ablation, one training step, saving and loading?

One tiny random model per family, with every kind of matrix of it that can be a site. The files that load these models from disk, and say which
part of a fused matrix is which, have their tests in tests/targets/models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models import decomposed
from tests.targets.models.tiny import some_ids, tiny_model
from unbraid.core.errors import UserError
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.masks import constant_masks
from unbraid.decompose.model import Clean, DecomposedModel
from unbraid.decompose.result import Decomposition
from unbraid.decompose.verb import decompose
from unbraid.targets.models.fused import split_part
from unbraid.targets.models.load import load_model
from unbraid.targets.target import Target

LLAMA = ("model.layers.*", "model.embed_tokens", "lm_head")
# Globs that between them choose every matrix, fused ones in parts where their order is known.
SITES: dict[str, tuple[str, ...]] = {
    "gpt2": ("transformer.h.*.mlp.*", "transformer.h.*.attn.c_proj", "*.c_attn:*", "transformer.wte", "transformer.wpe", "lm_head"),
    "llama": LLAMA,
    "mistral": LLAMA,
    "gpt_neox": ("gpt_neox.layers.*.dense*", "*.query_key_value:*", "gpt_neox.embed_in", "lm_head"),
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gemma2": LLAMA,
    "gemma3": LLAMA,
    "phi3": ("*.o_proj", "*.down_proj", "*.qkv_proj:*", "*.gate_up_proj:*", "model.embed_tokens", "lm_head"),
    "bloom": ("transformer.h.*.dense*", "*.query_key_value:*", "transformer.word_embeddings", "lm_head"),
    "mpt": ("*.out_proj", "*.ffn.*", "*.Wqkv:*", "transformer.wte", "lm_head"),
    # Unbraid knows nothing of these two: globs alone.
    "stablelm": ("*", "*.embed_tokens"),
    "falcon": ("*", "*.word_embeddings"),
}
TIED = ("gpt2", "qwen3", "gemma2", "gemma3", "bloom", "mpt", "falcon")
every_family = pytest.mark.parametrize("family", SITES)
# Position embeddings see positions alone, so their leading shape is another.
SETTINGS: dict[str, Any] = {
    "components": 5,
    "importance": "layerwise-mlp",
    "steps": 1,
    "batch_size": 3,
    "losses": {
        "faithfulness": "faithfulness",
        "stochastic": {"kind": "stochastic", "routing": "subset"},
        "adversarial": {"kind": "persistent-adversarial", "scope": "sc", "warmup_share": 0.0},
        "minimality": "minimality",
    },
}


def target_of(family: str, sites: tuple[str, ...] | None = None) -> Target:
    torch.manual_seed(0)
    return Target(tiny_model(family), sites=sites or SITES[family], data=[some_ids()], behaviour="kl")


def importances(model: DecomposedModel, clean: Clean) -> dict[str, Tensor]:
    return {path: torch.ones(*site.x.shape[:-1], model.C[path]) for path, site in clean.sites.items()}


def relative_gap(found: Tensor, wanted: Tensor) -> float:
    return float(((found - wanted).abs().max() / wanted.abs().max()).detach())


def exactly_decomposed(target: Target) -> DecomposedModel:
    """Return a model whose subcomponents add up to the weights, by singular vectors."""
    model = DecomposedModel(target, {site.path: min(site.d_in, site.d_out) for site in target.sites})
    for site in model.sites.values():
        left, scale, right = torch.linalg.svd(site.weight.double(), full_matrices=False)
        V, U = site.factors.views()
        with torch.no_grad():
            V.copy_(left * scale)
            U.copy_(right)
    return model


@every_family
def test_every_matrix_is_chosen_and_tied_ones_are_one_parameter(family: str) -> None:
    target = target_of(family)
    parameters = {id(p): p.numel() for p in target.module.parameters() if p.ndim == 2}
    assert sum(site.d_in * site.d_out for site in target.sites if site.tie is None) == sum(parameters.values())
    assert [site.tie is not None and site.tie.transposed for site in target.sites if site.tie] == ([True] if family in TIED else [])


@every_family
def test_everything_kept_is_the_model(family: str) -> None:
    target = target_of(family)
    model, _ = decomposed(target, C=20)
    ids = some_ids(2, 11)
    wanted, clean = target(ids), model.clean(ids)
    assert relative_gap(clean.output, wanted) < 1e-6
    assert relative_gap(model.masked(clean, constant_masks(importances(model, clean), 1.0, delta=1.0)), wanted) < 1e-5
    exact = exactly_decomposed(target)
    clean = exact.clean(ids)
    without_delta = constant_masks(importances(exact, clean), 1.0, delta=None)
    assert relative_gap(exact.masked(clean, without_delta), wanted) < 1e-5


@every_family
def test_each_site_sees_what_a_hook_on_the_model_sees_and_matters(family: str) -> None:
    target = target_of(family)
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    handles = [
        target.module.get_submodule(site.module_path).register_forward_hook(
            lambda _, given, output, path=site.module_path: seen.__setitem__(path, (given[0], output))
        )
        for site in target.sites
    ]
    target(some_ids())
    for handle in handles:
        handle.remove()
    model, _ = decomposed(target, C=5)
    clean = model.clean(some_ids())
    for path, x in clean.inputs.items():
        given, output = seen[split_part(path)[0]]
        if given.is_floating_point():
            torch.testing.assert_close(x, given)
        else:  # a table: what it looked up, before any scaling
            torch.testing.assert_close(torch.nn.functional.normalize(x, dim=-1), torch.nn.functional.normalize(output, dim=-1))
        ablated = model.masked(clean, constant_masks({path: importances(model, clean)[path]}, 0.0, delta=0.0))
        assert relative_gap(ablated, clean.output) > 1e-4, path


@every_family
def test_one_step_is_trained_saved_and_loaded(tmp_path: Path, family: str) -> None:
    target = target_of(family)
    config = DecomposeConfig.parse(SETTINGS)
    result = decompose(target, config)
    start, _ = decomposed(target, **{key: value for key, value in SETTINGS.items() if key != "components"}, C=5)
    for (name, before), after in zip(start.named_parameters(), result.model.parameters(), strict=True):
        assert not torch.equal(before, after), name
    importance = result.importance(some_ids())
    result.save_pretrained(tmp_path / "result")
    again = Decomposition.from_pretrained(tmp_path / "result", target)
    assert list(importance) == [site.path for site in target.sites]
    for path, g in again.importance(some_ids()).items():
        assert torch.equal(g, importance[path])
        assert g.shape[-2:] == (9, 5)


@every_family
def test_batches_of_keyword_arguments(family: str) -> None:
    target = target_of(family)
    batch = {"input_ids": some_ids(), "attention_mask": torch.ones(3, 9, dtype=torch.long)}
    model, _ = decomposed(Target(target.module, sites=SITES[family], data=[batch], behaviour="kl"), C=5)
    clean = model.clean(batch)
    assert relative_gap(model.masked(clean, constant_masks(importances(model, clean), 1.0, delta=1.0)), target(some_ids())) < 1e-5


@pytest.mark.parametrize(("family", "fused"), [("gpt2", "*.c_attn"), ("gpt_neox", "*.query_key_value"), ("phi3", "*.qkv_proj")])
def test_a_fused_matrix_is_one_site_too(tmp_path: Path, family: str, fused: str) -> None:
    tiny_model(family).save_pretrained(tmp_path / family)
    target = Target(load_model(tmp_path / family), sites=fused, data=[some_ids()], behaviour="kl")
    assert [site.part for site in target.sites] == [None, None]
    model, _ = decomposed(target, C=5)
    clean = model.clean(some_ids())
    assert relative_gap(model.masked(clean, constant_masks(importances(model, clean), 1.0, delta=1.0)), target(some_ids())) < 1e-5


@pytest.mark.parametrize("family", ["gpt2", "gemma3"])
def test_an_unembedding_alone_leaves_the_embedding_as_it_is(family: str) -> None:
    target = target_of(family, ("lm_head",))
    table: Any = target.module.get_submodule("transformer.wte" if family == "gpt2" else "model.embed_tokens")
    before = table.weight.clone()
    model, _ = decomposed(target, C=5)
    clean = model.clean(some_ids())
    ones = importances(model, clean)
    assert relative_gap(model.masked(clean, constant_masks(ones, 1.0, delta=1.0)), target(some_ids())) < 1e-5
    gone = model.masked(clean, constant_masks(ones, 0.0, delta=0.0))
    assert float(gone.detach().abs().max()) == 0.0  # no logit is left, while the stream, whose start is the embedding, is untouched
    torch.testing.assert_close(clean.inputs["lm_head"], model.clean(some_ids()).inputs["lm_head"])
    assert torch.equal(table.weight, before) and table.weight is not model.sites["lm_head"].weight


class Attention(nn.Module):
    """Grouped-query attention that takes keywords alone and gives a tuple, beside the MLP as in a parallel block."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(8, 8)

    def forward(self, *, stream: Tensor, causal: bool) -> tuple[Tensor, None]:
        q, k, v = (proj(stream).unflatten(-1, (-1, 4)).transpose(1, 2) for proj in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
        return self.o(mixed.transpose(1, 2).flatten(2)), None


class Parallel(nn.Module):
    """`x + attention(norm(x)) + mlp(norm(x))`."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(8), Attention()
        self.gate, self.up, self.down = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, stream: Tensor) -> Tensor:
        x = self.norm(stream)
        mixed, _ = self.attention(stream=x, causal=True)
        return stream + mixed + self.down(nn.functional.silu(self.gate(x)) * self.up(x))


def test_a_plain_module_whose_attention_is_called_by_keyword() -> None:
    target = Target(Parallel(), sites="*", data=[torch.randn(3, 9, 8)])
    model, _ = decomposed(target, C=5)
    assert len(model.sites) == 7
    x = torch.randn(2, 9, 8)
    clean = model.clean(x)
    ones = importances(model, clean)
    assert relative_gap(model.masked(clean, constant_masks(ones, 1.0, delta=1.0)), target(x)) < 1e-5
    for path, g in ones.items():
        if path != "attention.k":  # a bias for all keys alike changes no attention
            assert relative_gap(model.masked(clean, constant_masks({path: g}, 0.0, delta=0.0)), target(x)) > 1e-4, path


def test_an_order_that_is_not_known_is_not_guessed() -> None:
    with pytest.raises(UserError, match=r"h\.0\.self_attention\.query_key_value' is fused in an order that is not known for this model"):
        target_of("falcon", ("*.query_key_value:q",))

"""Are the right matrices listed, with their parts, what they share, and a budget that is what it says?"""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.targets.models.tiny import VOCABULARY, D, logits, some_ids, tiny_model
from unbraid.core.errors import UserError
from unbraid.targets.models.budget import suggested_C, training_bytes
from unbraid.targets.models.fused import View, views
from unbraid.targets.models.site_table import list_sites

# Path in layer 0, kind, d_in, d_out; with 4 query heads of 4 (8 in Gemma and Qwen 3) and 2 key heads.
LLAMA = [
    ("self_attn.q_proj", "Linear", 16, 16),
    ("self_attn.k_proj", "Linear", 16, 8),
    ("self_attn.v_proj", "Linear", 16, 8),
    ("self_attn.o_proj", "Linear", 16, 16),
    ("mlp.gate_proj", "Linear", 16, 24),
    ("mlp.up_proj", "Linear", 16, 24),
    ("mlp.down_proj", "Linear", 24, 16),
]
WIDE = [
    ("self_attn.q_proj", "Linear", 16, 32),
    ("self_attn.k_proj", "Linear", 16, 16),
    ("self_attn.v_proj", "Linear", 16, 16),
    ("self_attn.o_proj", "Linear", 32, 16),
    *LLAMA[4:],
]
LAYOUTS: dict[str, tuple[str, list[tuple[str, str, int, int]]]] = {
    "gpt2": (
        "transformer.h.0",
        [
            ("attn.c_attn", "Conv1D", 16, 48),
            ("attn.c_proj", "Conv1D", 16, 16),
            ("mlp.c_fc", "Conv1D", 16, 64),
            ("mlp.c_proj", "Conv1D", 64, 16),
        ],
    ),
    "llama": ("model.layers.0", LLAMA),
    "qwen2": ("model.layers.0", LLAMA),
    "qwen3": ("model.layers.0", WIDE),
    "gemma2": ("model.layers.0", WIDE),
    "gemma3": ("model.layers.0", WIDE),
    "gpt_neox": (
        "gpt_neox.layers.0",
        [
            ("attention.query_key_value", "Linear", 16, 48),
            ("attention.dense", "Linear", 16, 16),
            ("mlp.dense_h_to_4h", "Linear", 16, 24),
            ("mlp.dense_4h_to_h", "Linear", 24, 16),
        ],
    ),
}


@pytest.mark.parametrize("family", LAYOUTS)
def test_every_matrix_of_a_layer(family: str) -> None:
    layer, wanted = LAYOUTS[family]
    rows = list_sites(tiny_model(family), f"{layer}.*").rows
    found = {(row.path.removeprefix(f"{layer}."), row.kind, row.d_in, row.d_out) for row in rows}
    assert found == set(wanted)
    assert all(row.decomposable and row.rank == min(row.d_in, row.d_out) and row.parameters == row.d_in * row.d_out for row in rows)


@pytest.mark.parametrize("family", LAYOUTS)
def test_the_whole_model(family: str) -> None:
    model = tiny_model(family)
    table = list_sites(model)
    assert table.parameters == sum(parameter.numel() for parameter in model.parameters())
    matrices = {id(p): p.numel() for p in model.parameters() if p.ndim == 2}
    assert table.matched_parameters == sum(matrices.values())
    unembedding = table.rows[-1]
    tied = family not in ("llama", "qwen2", "gpt_neox")
    assert (unembedding.d_in, unembedding.d_out, unembedding.C) == (D, VOCABULARY, None)
    assert (unembedding.shared_with is not None) is tied
    assert table.rows[0].kind == "Embedding" and table.rows[0].decomposable and table.rows[0].C is None
    assert json.loads(json.dumps(table.tree()))["sites"][-1]["shared_with"] == unembedding.shared_with


def test_sizes_of_heads_are_said() -> None:
    notes = {row.path.rpartition(".")[2]: row.note for row in list_sites(tiny_model("llama"), "model.layers.0.self_attn.*").rows}
    assert notes["q_proj"] == "4 heads of 4"
    assert notes["k_proj"] == notes["v_proj"] == "2 heads of 4, each for 2 query heads"
    assert notes["o_proj"] is None


FUSED = {
    "gpt2": "transformer.h.0.attn.c_attn",
    "gpt_neox": "gpt_neox.layers.0.attention.query_key_value",
    "phi3": "model.layers.0.self_attn.qkv_proj",
    "bloom": "transformer.h.0.self_attention.query_key_value",
    "mpt": "transformer.blocks.0.attn.Wqkv",
}


def scale(module: nn.Module, outputs: list[int], factor: float) -> None:
    """Multiply some outputs of a linear map."""
    with torch.no_grad():
        weight: Any = module.weight
        if type(module).__name__ == "Conv1D":
            weight[:, outputs] *= factor
        else:
            weight[outputs] *= factor
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            bias[outputs] *= factor


@pytest.mark.parametrize("family", FUSED)
def test_the_parts_of_a_fused_matrix_are_what_they_are_called(family: str) -> None:
    (row,) = list_sites(tiny_model(family), FUSED[family]).rows
    parts = {view.name: view.outputs() for view in row.views}
    assert sorted(chain.from_iterable(parts.values())) == list(range(row.d_out))
    assert row.note == "fused"

    def with_scaled(**factors: float) -> Tensor:
        torch.manual_seed(0)
        model = tiny_model(family)
        for part, factor in factors.items():
            scale(model.get_submodule(FUSED[family]), parts[part], factor)
        return logits(model, some_ids())

    plain = with_scaled()
    torch.testing.assert_close(with_scaled(q=2, k=0.5), plain)  # scores are products of queries and keys
    torch.testing.assert_close(with_scaled(q=0), with_scaled(q=0, k=3))  # without queries keys do nothing
    torch.testing.assert_close(with_scaled(q=0, v=0), with_scaled(v=0))  # without values queries do nothing
    assert all(not torch.allclose(with_scaled(**{part: 0}), plain, atol=1e-3) for part in "qkv")


def test_the_parts_of_a_fused_gate() -> None:
    (row,) = list_sites(tiny_model("phi3"), "model.layers.0.mlp.gate_up_proj").rows
    assert [str(view) for view in row.views] == ["gate 0:24", "up 24:48"]


def test_views_are_written_as_ranges() -> None:
    assert [str(view) for view in list_sites(tiny_model("phi3"), FUSED["phi3"]).rows[0].views] == ["q 0:16", "k 16:24", "v 24:32"]
    by_head = list_sites(tiny_model("gpt_neox"), FUSED["gpt_neox"]).rows[0].views
    assert [str(view) for view in by_head] == ["q 0:4 (+12·h, h < 4)", "k 4:8 (+12·h, h < 4)", "v 8:12 (+12·h, h < 4)"]
    assert View("k", 4, 2, 12, 2).outputs() == [4, 5, 16, 17]


def test_an_order_that_is_not_known_is_not_guessed() -> None:
    class Config:
        model_type, num_attention_heads, hidden_size = "gpt_bigcode", 4, 16

    assert views("h.0.attn.c_attn", 48, Config()) == ()
    model = nn.ModuleDict({"query_key_value": nn.Linear(4, 12)})
    assert list_sites(model).rows[0].note == "fused, in an order that is not known here"


def test_the_larger_width_is_suggested_and_paid_for() -> None:
    assert (suggested_C(768, 3072), suggested_C(3072, 768), suggested_C(768, 768)) == (3072, 3072, 768)
    (row,) = list_sites(nn.ModuleDict({"a": nn.Linear(3, 5)})).rows
    assert (row.C, row.training_bytes) == (5, 16 * 5 * 8 + 4 * 15)


def test_the_budget_is_what_training_keeps() -> None:
    from unbraid.decompose.site import Factors

    factors = Factors(6, 10, 7)
    optimizer = torch.optim.Adam(factors.parameters())
    for parameter in factors.parameters():
        nn.init.ones_(parameter)
    delta = torch.ones(6, 10) - factors.V @ factors.U
    delta.square().sum().backward()
    optimizer.step()
    kept = [*factors.parameters(), *(p.grad for p in factors.parameters())]
    kept += [optimizer.state[p][name] for p in factors.parameters() for name in ("exp_avg", "exp_avg_sq")]
    assert sum(t.numel() * t.element_size() for t in kept if t is not None) + delta.numel() * 4 == training_bytes(6, 10, 7)


def test_parts_are_listed_where_they_are_asked_for() -> None:
    model = tiny_model("gpt2")
    rows = list_sites(model, "*.0.attn.c_attn:[qv]").rows
    found = [(row.path, row.d_in, row.d_out, row.C, row.note) for row in rows]
    path = "transformer.h.0.attn.c_attn"
    assert found == [(f"{path}:q", 16, 16, 16, "part q 0:16"), (f"{path}:v", 16, 16, 16, "part v 32:48")]
    assert [row.family for row in rows] == ["transformer.h.*.attn.c_attn:q", "transformer.h.*.attn.c_attn:v"]
    both = list_sites(model, ["*.0.attn.c_attn", "*.0.attn.c_attn:*"])
    assert both.matched_parameters == 16 * 48
    assert [row.shared_with for row in both.rows] == [None, path, path, path]
    with pytest.raises(UserError, match=r"matches no matrix\. Closest: 'transformer\.h\.0\.attn\.c_attn:v'"):
        list_sites(model, "transformer.h.0.attn.c_attn:z")
    with pytest.raises(UserError, match="matches no matrix"):
        list_sites(tiny_model("falcon"), "*.query_key_value:q")


def test_convolutions_are_listed_by_their_patches() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, (2, 4)), nn.Conv2d(6, 6, 3, groups=6))
    first, second = list_sites(model).rows
    assert (first.kind, first.d_in, first.d_out, first.C, first.decomposable, first.note) == ("Conv2d", 24, 5, 24, True, None)
    assert (second.kind, second.C, second.decomposable) == ("Conv2d", None, False)
    assert second.note is not None and "6 groups" in second.note


def test_shared_matrices_are_marked_and_counted_once() -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3, bias=False), "b": nn.Linear(3, 3, bias=False)})
    model["b"].weight = model["a"].weight
    model["c"] = model["a"]  # one module under two names
    table = list_sites(model)
    assert [row.shared_with for row in table.rows] == [None, "a", "a"]
    assert table.parameters == table.matched_parameters == 9
    assert table.training_bytes == training_bytes(3, 3, 3) + 2 * 4 * 9
    alone = list_sites(model, "b")
    assert (alone.matched_parameters, alone.training_bytes) == (9, training_bytes(3, 3, 3))


def test_declared_ties_and_recipes() -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 2, bias=False), "b": nn.Linear(2, 3, bias=False), "c": nn.Linear(3, 3, bias=False)})
    table = list_sites(model, C={"a": 7, "b": 7}, tied=[("a", "b")])
    assert [(row.C, row.shared_with) for row in table.rows] == [(7, None), (7, "a"), (None, None)]
    assert table.parameters == table.matched_parameters == 6 + 9
    assert "recipe" in table.rule


def test_a_glob_that_matches_nothing_names_the_closest() -> None:
    with pytest.raises(UserError, match=r"Closest: 'model\.layers\.1\.mlp\.up_proj'.*model\.layers\.\*\.mlp\.up_proj, "):
        list_sites(tiny_model("llama"), "model.layers.1.mlp.upp_proj")
    with pytest.raises(UserError, match="Matrices of this model: none"):
        list_sites(nn.ReLU(), "a")

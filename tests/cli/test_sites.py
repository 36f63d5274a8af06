"""Does `unbraid sites` show what can be decomposed in a model on disk, and in a toy?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.targets.models.tiny import tiny_model
from unbraid.cli.sites import size
from unbraid.decompose.preset import resolve
from unbraid.targets.toy import toys


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


@pytest.mark.usefixtures("wide")
def test_layers_that_are_alike_stand_on_one_line(cli: Cli, tmp_path: Path) -> None:
    tiny_model("llama").save_pretrained(tmp_path / "x")
    told = cli("sites", "x")
    assert (told.code, told.err) == (0, "")
    (line,) = [line for line in told.out.splitlines() if "down_proj" in line]
    assert all(text in line for text in ("model.layers.*.mlp.down_proj  × 2", "24 → 16", "384", "16.9 kB"))
    assert "2 heads of 4, each for 2 query heads" in told.out
    assert "the larger of d_in and d_out" in told.out and "16·C·(d_in + d_out) + 4·d_in·d_out bytes" in told.out


@pytest.mark.usefixtures("wide")
def test_fused_and_shared_matrices_are_marked(cli: Cli, tmp_path: Path) -> None:
    tiny_model("gpt2").save_pretrained(tmp_path / "x")
    told = cli("sites", "x").out
    assert "fused: q 0:16; k 16:32; v 32:48" in told
    assert "shared with transformer.wte" in told
    assert 'A part of a fused matrix is chosen by its name: --sites "*.c_attn:q"' in told
    part = cli("sites", "x", "--match", "*.c_attn:q").out
    assert "transformer.h.*.attn.c_attn:q  × 2" in part and "part q 0:16" in part


def test_json_has_every_matrix(cli: Cli, tmp_path: Path) -> None:
    tiny_model("gpt_neox").save_pretrained(tmp_path / "x")
    tree = json.loads(cli("sites", "x", "--match", "*.mlp.*", "--match", "*.0.attention.query_key_value", "--json").out)
    assert [site["path"].removeprefix("gpt_neox.layers.") for site in tree["sites"]] == [
        "0.attention.query_key_value",
        "0.mlp.dense_h_to_4h",
        "0.mlp.dense_4h_to_h",
        "1.mlp.dense_h_to_4h",
        "1.mlp.dense_4h_to_h",
    ]
    assert [view["name"] for view in tree["sites"][0]["views"]] == ["q", "k", "v"]
    assert tree["training_bytes"] == sum(site["training_bytes"] for site in tree["sites"])
    assert tree["matched_parameters"] == sum(site["parameters"] for site in tree["sites"])


@pytest.mark.parametrize("name", sorted(toys.kinds()))
def test_every_toy(cli: Cli, name: str) -> None:
    tree = json.loads(cli("sites", name, "--json").out)
    toy = toys.get(name).parse({})
    with_C = {site["path"]: site["C"] for site in tree["sites"] if site["C"] is not None}
    assert set(with_C) and "recipe" in tree["rule"]
    components = resolve(name, None, None, ()).components
    assert set(with_C.values()) <= ({components} if isinstance(components, int) else set(components.values()))
    assert {site["shared_with"] for site in tree["sites"]} >= {owner for owner, _ in toy.tied}


def test_mistakes(cli: Cli, tmp_path: Path) -> None:
    tiny_model("llama").save_pretrained(tmp_path / "x")
    assert "Closest: 'model.layers.1.mlp.up_proj'" in cli("sites", "x", "--match", "model.layers.1.mlp.uproj").error
    assert "There is no model 'tms-5-3'" in cli("sites", "tms-5-3").error
    (tmp_path / "x" / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": {"quant_method": "awq"}}))
    assert "quantised (awq)" in cli("sites", "x").error


def test_sizes_are_written_for_people() -> None:
    assert [size(n) for n in (40, 9040, 590_000, 55_400_000, 6_163_000_000)] == ["40 B", "9.04 kB", "590 kB", "55.4 MB", "6.16 GB"]


def test_paths_are_whole_on_a_narrow_terminal(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    tiny_model("gpt_neox").save_pretrained(tmp_path / "x")
    assert "gpt_neox.layers.*.attention.query_key_value  × 2" in cli("sites", "x").out

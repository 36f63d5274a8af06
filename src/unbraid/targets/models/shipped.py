"""Which language models come with the package? Each a folder of weights at several stages of training, its text, and one decomposition.

shipped/NAME/model            the model, as transformers writes it
shipped/NAME/step-N           the same model earlier in its training; step-0 is its random start
shipped/NAME/text             its text, tokenised, some of it held out
shipped/NAME/decomposition    what `unbraid.load` gives
"""

from __future__ import annotations

import json
import math
from importlib.resources import files
from pathlib import Path

CONFIG = "config.json"


def shipped_folder() -> Path:
    """Return where the shipped models lie."""
    return Path(str(files("unbraid"))) / "shipped"


def shipped_names() -> list[str]:
    """Return the names of the shipped models."""
    return sorted(folder.parent.parent.name for folder in shipped_folder().glob(f"*/model/{CONFIG}"))


def shipped_model(reference: str) -> Path | None:
    """Return the folder of "NAME" or of an earlier stage, "NAME/step-100"; None where nothing of that name is shipped."""
    name, _, stage = reference.partition("/")
    if name not in shipped_names() or stage in (".", "..") or "/" in stage:
        return None
    folder = shipped_folder() / name / (stage or "model")
    return folder if (folder / CONFIG).is_file() else None


def shipped_stages(name: str) -> list[str]:
    """Return the references of a shipped model's earlier stages, first ones first."""
    steps = sorted(int(folder.name.removeprefix("step-")) for folder in (shipped_folder() / name).glob("step-*"))
    return [f"{name}/step-{step}" for step in steps]


def shipped_text(reference: str) -> Path | None:
    """Return the tokens of a shipped model, which all of its stages share; None where none is shipped."""
    folder = shipped_folder() / reference.partition("/")[0] / "text"
    return folder if shipped_model(reference) is not None and folder.is_dir() else None


def shipped_decomposition(name: str) -> Path | None:
    """Return the folder of the decomposition of that name; None where none is shipped."""
    folder = shipped_folder() / name / "decomposition"
    return folder if name in shipped_names() and folder.is_dir() else None


def shipped_training(reference: str) -> list[tuple[float, float]]:
    """Return (tokens, held-out cross-entropy) of a shipped model's stages up to this one; empty for other models."""
    folder = shipped_model(reference)
    if folder is None:
        return []
    stages = json.loads((shipped_folder() / reference.partition("/")[0] / "curve.json").read_text(encoding="utf-8"))
    last = int(folder.name.removeprefix("step-")) if folder.name != "model" else math.inf
    return [(stage["tokens"], stage["cross_entropy"]) for stage in stages if stage["step"] <= last]

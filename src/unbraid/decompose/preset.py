"""Which settings does a name stand for? The published recipes, and each toy's own recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import yaml

from unbraid.core.config import Tree, merge, parse_override
from unbraid.core.errors import UserError, unknown
from unbraid.decompose.config import DecomposeConfig
from unbraid.targets.models.language_model import KIND as LANGUAGE_MODEL
from unbraid.targets.models.language_model import LanguageModel
from unbraid.targets.settings import target_settings
from unbraid.targets.toy import find_toy, toys


def preset_names() -> list[str]:
    """Return the names of the published recipes."""
    return sorted(path.name.removesuffix(".yaml") for path in files("unbraid.decompose.presets").iterdir() if path.name.endswith(".yaml"))


def preset_tree(name: str) -> Tree:
    """Return the settings of a preset or of a toy's recipe, before validation.

    Raises:
        UserError: No preset or toy has this name.
    """
    if name in preset_names():
        return yaml.safe_load(files("unbraid.decompose.presets").joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
    if name not in toys.kinds():
        raise unknown("preset", name, [*preset_names(), *toys.kinds()])
    return dict(find_toy(name).recipe)


def preset(name: str, **changes: Any) -> DecomposeConfig:
    """Return a published recipe ("apd", "spd", "vpd") or a toy's own, as settings for `decompose`.

    Args:
        name: Which one.
        changes: Settings to lay over it, for example `steps=2000` or `losses={"minimality": {"coefficient": 1e-3}}`.

    Raises:
        UserError: The name or a setting is unknown, or a value is not allowed.
    """
    return DecomposeConfig.parse(merge(preset_tree(name), changes), f"preset {name!r}")


def resolve(
    target: str | None = None, base: str | None = None, file: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> DecomposeConfig:
    """Lay settings over each other: preset or the toy's recipe, then a YAML file's, then `--set` overrides.

    A file that holds every setting, as `config show` and a run folder have it, stands alone: no recipe lies under it.

    Args:
        target: A toy's name; None takes the one that the file names, or leaves the target open when there is a preset.
        base: A preset to start from; the toy's own recipe when None.
        file: Settings read from a YAML file.
        overrides: Texts like "losses.minimality.coefficient=1e-3".

    Raises:
        UserError: A name or key is unknown, a value is not allowed, or the file is for another target.
    """
    file = dict(file or {})
    name = target or _kind(file)
    whole = set(DecomposeConfig.model_fields) <= set(file)
    if whole and base is not None:
        raise UserError(f"The file holds every setting, so the preset {base!r} would change nothing.", "Give one of the two.")
    start = base or (LanguageModel.recipe if name == LANGUAGE_MODEL else name)
    if start is None:
        raise UserError("No target was named.", "Name one, for example tms-5-2. List them: unbraid targets list")
    known = {} if name is None or name == LANGUAGE_MODEL else {"target": find_toy(name).tree()}
    tree = merge(known, {} if whole else preset_tree(start))
    tree = merge(tree, {key: value for key, value in file.items() if key != "target" or value is not None})
    for text in overrides:
        tree = merge(tree, parse_override(text))
    if _kind(tree) != name:
        raise UserError(f"The settings are for the target {_kind(tree)!r}, not for {name!r}.", "Name the same target in both places.")
    # The knobs of the toy are checked here, so that a wrong one is named at once and the defaults stand in the file.
    if name is not None:
        tree["target"] = target_settings(tree["target"], "target").tree()
    return DecomposeConfig.parse(tree)


def _kind(tree: Mapping[str, Any]) -> str | None:
    """Return the name of the target that settings are for."""
    target = tree.get("target")
    return str(target["kind"]) if isinstance(target, Mapping) and "kind" in target else None

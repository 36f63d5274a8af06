"""How are settings written, checked and changed? Frozen pydantic models, YAML, and dotted `--set` overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from unbraid.core.errors import UserError, closest

Tree = dict[str, Any]
C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """A frozen group of settings; an unknown key is an error that names the closest known one."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, ser_json_inf_nan="constants", use_attribute_docstrings=True
    )

    @classmethod
    def parse(cls: type[C], tree: Mapping[str, Any], source: str = "the configuration") -> C:
        """Validate a tree of settings.

        Raises:
            UserError: A key is unknown or a value is not allowed; every fault is named with its path.
        """
        try:
            return cls.model_validate(dict(tree))
        except ValidationError as error:
            raise UserError(f"In {source}: {describe(error, cls)}", "Print a working file with: unbraid config show NAME") from None

    def tree(self) -> Tree:
        """Return the settings as plain YAML-ready values."""
        return self.model_dump(mode="json", serialize_as_any=True)

    def to_yaml(self) -> str:
        """Write the settings as YAML, in the order in which the fields are declared."""
        return yaml.dump(self.tree(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None)


class _Dumper(yaml.SafeDumper):
    """A YAML writer whose floats are read back as floats (`1.0e-05`, never the string `1e-05`)."""


def _write_float(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    text = repr(value).lower()
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e", 1)
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Dumper.add_representer(float, _write_float)


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """Say every fault of a validation error in words: where, what was given, what is allowed."""
    faults: list[str] = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"]) or "the top level"
        if fault["type"] == "extra_forbidden":
            known = _fields_at(model, [str(part) for part in fault["loc"][:-1]])
            near = closest(str(fault["loc"][-1]), known)
            listing = f" Closest: {near!r}." if near else ""
            faults.append(f"unknown key {place!r}.{listing} Allowed here: {', '.join(known)}.")
        else:
            message = fault["msg"].removeprefix("Value error, ").rstrip(".")
            faults.append(f"{place!r} was given {fault['input']!r}: {message}.")
    return " ".join(faults)


def _fields_at(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Find the field names of the nested model at `path`, as far as the annotations tell."""
    for part in path:
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    return list(model.model_fields)


def read_yaml(path: Path) -> Tree:
    """Read a YAML file whose top level is a mapping.

    Raises:
        UserError: The file is missing, is not YAML, or holds something else than a mapping.
    """
    try:
        tree: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"There is no file {str(path)!r}.", "Write one with: unbraid config show NAME > my.yaml") from None
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read: {error.strerror}.", "Give a YAML file of settings.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"{str(path)!r} is not YAML: {' '.join(str(error).split())}.", "Mend the file, or start from: unbraid config show NAME"
        ) from None
    if not isinstance(tree, dict):
        raise UserError(f"{str(path)!r} holds {type(tree).__name__}, not settings.", "Start from: unbraid config show NAME > my.yaml")
    return cast(Tree, tree)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    """Lay `changes` over `base`: mappings merge key by key, anything else replaces.

    A mapping whose `kind` changes replaces the old one whole, since another kind has other settings.
    """
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            new, previous = cast(Tree, value), cast(Tree, old)
            other_kind = "kind" in new and new["kind"] != previous.get("kind", key)
            result[key] = dict(new) if other_kind else merge(previous, new)
        else:
            result[key] = value
    return result


def parse_override(text: str) -> Tree:
    """Turn `losses.minimality.coefficient=1e-3` into the nested mapping that `merge` takes.

    Raises:
        UserError: There is no `=`, no name before it, or the value is not YAML.
    """
    path, separator, raw = text.partition("=")
    if not separator or not path.strip():
        raise UserError(f"--set was given {text!r}.", "Write it as --set name.of.setting=value, for example --set steps=2000")
    try:
        value: Any = yaml.safe_load(raw)
    except yaml.YAMLError:
        raise UserError(f"--set {path}: the value {raw!r} is not YAML.", "Quote it, for example --set 'name=\"text\"'") from None
    if isinstance(value, str):
        value = _number(value)
    for part in reversed(path.strip().split(".")):
        value = {part: value}
    return cast(Tree, value)


def _number(text: str) -> str | float:
    """Read `1e-3`, which YAML 1.1 takes for text, as the number that a person means."""
    try:
        return float(text)
    except ValueError:
        return text

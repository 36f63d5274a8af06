"""How does one new file add a loss, a toy or an importance function? Each folder has a registry of kinds, filled by importing its files."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ValidationError

from unbraid.core.config import Config, describe
from unbraid.core.errors import UserError, unknown

C = TypeVar("C", bound=Config)
K = TypeVar("K", bound=Config)


class Registry(Generic[C]):
    """The kinds of one thing: `kind` name → settings class, found by importing every file of a package.

    Args:
        noun: What a kind is called in messages, for example "loss".
        package: The package whose files register kinds.
    """

    def __init__(self, noun: str, package: str) -> None:
        self.noun = noun
        self.package = package
        self._kinds: dict[str, type[C]] = {}
        self._discovered = False

    def register(self, cls: type[K]) -> type[K]:
        """Class decorator: file `cls` under the default of its `kind` field."""
        self._kinds[str(cls.model_fields["kind"].default)] = cast("type[C]", cls)
        return cls

    def kinds(self) -> dict[str, type[C]]:
        """Return every registered kind, importing the package's files on first use."""
        if not self._discovered:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.package}.{module.name}")
            self._discovered = True  # last: after an import that fails, the kinds so far must not be taken for all of them
        return self._kinds

    def get(self, kind: str) -> type[C]:
        """Return the settings class of a kind.

        Raises:
            UserError: No file registered this kind.
        """
        kinds = self.kinds()
        if kind not in kinds:
            error = unknown(self.noun, kind, kinds)
            raise UserError(error.what, f"{error.fix} One of your own is loaded by --plugins DIR.")
        return kinds[kind]

    def parse(self, value: object, default_kind: str | None = None) -> C:
        """Turn a kind's name, a mapping with `kind`, or a ready object into validated settings.

        Raises:
            ValueError: The kind is unknown or a setting is wrong (pydantic turns it into a fault with its path).
        """
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, Mapping):
            if isinstance(value, Config):
                return cast(C, value)
            raise ValueError(f"a {self.noun} is a name or a mapping with 'kind'; the kinds are {', '.join(sorted(self.kinds()))}")
        tree = dict(cast(Mapping[str, Any], value))
        kind = str(tree.setdefault("kind", default_kind or ""))
        try:
            cls = self.get(kind)
        except UserError as error:
            raise ValueError(str(error)) from None
        try:
            return cls.model_validate(tree)
        except ValueError as error:
            raise ValueError(_explain(error, cls)) from None

    def field(self) -> Any:
        """The pydantic annotations of a field that holds one of these kinds: `Annotated[LossConfig, *registry.field()]`."""
        return BeforeValidator(self.parse)


def _explain(error: ValueError, model: type[BaseModel]) -> str:
    return describe(error, model) if isinstance(error, ValidationError) else str(error)


def _is_loaded(path: Path) -> bool:
    return any(
        getattr(module, "__file__", None) == str(path) for name, module in list(sys.modules.items()) if name.startswith("unbraid_plugin_")
    )


def _free_name(name: str) -> str:
    """Tell files of one name in two folders apart."""
    if name not in sys.modules:
        return name
    return next(f"{name}_{n}" for n in range(2, 1000) if f"{name}_{n}" not in sys.modules)


def load_plugins(folder: Path) -> list[str]:
    """Import every Python file of a folder, so that the losses, toys and importance functions in it can be named.

    Returns:
        The names of the files that were loaded.

    Raises:
        UserError: The folder is missing, or a file in it cannot be imported.
    """
    if not folder.is_dir():
        raise UserError(
            f"There is no plugin folder {str(folder)!r}.",
            "Give a folder of Python files that register a loss, a toy or an importance function.",
        )
    loaded: list[str] = []
    for path in sorted(folder.resolve().glob("*.py")):
        name = _free_name(f"unbraid_plugin_{path.stem}")
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None or _is_loaded(path):
            continue
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError, LookupError, RuntimeError, OSError) as error:
            del sys.modules[name]
            raise UserError(
                f"The plugin {str(path)!r} cannot be imported: {type(error).__name__}: {error}.",
                "Mend the file, or take it out of the folder.",
            ) from error
        loaded.append(path.name)
    return loaded

"""How can `unbraid.decompose` be both the room and its verb? The package's module object is made callable."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType


class _VerbModule(ModuleType):
    """A module that, when called, calls its own `verb` file's function of the same name."""

    def __call__(self, *args: object, **kwargs: object) -> object:
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module(f"{self.__name__}.verb"), name)(*args, **kwargs)


def make_callable(package: str) -> None:
    """Let `package(...)` call `package.verb.<name>(...)`.

    Without this, importing any file of the room would hide the function of the same name on `unbraid`.
    """
    sys.modules[package].__class__ = _VerbModule

"""Which code decides a toy's numbers? A hash of it, so that a result of other code is never taken for this one's.

Comments and docstrings do not count, nor does code that only draws or prints; of the toys only the one in question counts,
with what its file imports.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from functools import cache
from pathlib import Path

import unbraid
from unbraid.targets.toy import Toy

_ROOT = Path(unbraid.__file__).parent
_TRAINING, _SCORING = ("core", "decompose"), ("components", "verify")
_NO_NUMBERS = ("plot", "panel", "verify/table", "verify/result", "verify/verb")


def code_of(toy: Toy) -> str:
    """Return the hash of all code that a record depends on: what trains and what scores."""
    return hashlib.sha256(f"{training_code_of(toy)} {_rooms(_SCORING)}".encode()).hexdigest()[:16]


def training_code_of(toy: Toy) -> str:
    """Return the hash of the engine, of the toy's own file with everything that it imports, and of its bundled weights.

    A finished run of the same training code is scored again where only the scoring has changed.
    """
    digest = hashlib.sha256(_rooms(_TRAINING).encode())
    for path in sorted(_imported(Path(inspect.getfile(type(toy))))):
        digest.update(_meaning(path).encode())
    weights = toy.bundled_path()
    if toy.is_trained and weights.exists():
        digest.update(weights.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _rooms(rooms: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for room in rooms:
        for path in sorted((_ROOT / room).rglob("*")):
            name = path.relative_to(_ROOT).as_posix()
            if any(word in name for word in _NO_NUMBERS):
                continue
            if path.suffix == ".py":
                digest.update(_meaning(path).encode())
            elif path.suffix == ".c":
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _imported(start: Path) -> set[Path]:
    """Return a file and every file of the rooms of targets and below that it imports, directly or not."""
    found: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("unbraid.targets."):
                module = _ROOT.parent / (node.module.replace(".", "/") + ".py")
                if module.exists() and not any(word in module.name for word in _NO_NUMBERS):
                    waiting.append(module)
    return found


@cache
def _meaning(path: Path) -> str:
    """Return a Python file's syntax tree without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            node.body = [*body[1:], ast.Pass()]  # type: ignore[attr-defined]
    return f"{path.name} {ast.dump(tree)}"

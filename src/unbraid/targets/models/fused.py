"""Which outputs of a matrix are queries, which keys, which values? Several families compute them with one matrix, in different orders.

A part is written `PATH:NAME`, as in `transformer.h.0.attn.c_attn:q`, and chosen by globs as everything else: `*.c_attn:*`, `*.c_attn:[qk]`.
(`PATH[q]` would be a glob for `PATHq`.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

PART = ":"


@dataclass(frozen=True)
class View:
    """A part of what a fused matrix writes: `count` blocks of `length` outputs, `step` apart.

    Attributes:
        name: "q", "k", "v", "gate" or "up".
        start: The first output, counted from 0.
        length: How many outputs stand together.
        step: From the first output of one block to that of the next.
        count: How many blocks there are; 1 where the part stands in one piece.
    """

    name: str
    start: int
    length: int
    step: int
    count: int

    def outputs(self) -> list[int]:
        """Return the numbers of the outputs, in order: columns of M [d_in, d_out], rows of a Linear's weight."""
        return [self.start + block * self.step + offset for block in range(self.count) for offset in range(self.length)]

    @property
    def width(self) -> int:
        """How many outputs there are."""
        return self.count * self.length

    def of(self, matrix: Float[Tensor, "*lead d_out"]) -> Float[Tensor, "*lead width"]:
        """Return these columns of M, or these entries of a bias; without a copy where they stand in one piece."""
        return matrix[..., self.start : self.start + self.length] if self.count == 1 else matrix[..., self.outputs()]

    def __str__(self) -> str:
        stop = self.start + self.length
        return f"{self.name} {self.start}:{stop}" + (f" (+{self.step}·h, h < {self.count})" if self.count > 1 else "")


@dataclass(frozen=True)
class Heads:
    """The sizes of a model's attention.

    Attributes:
        query: Number of query heads.
        key: Number of key and value heads; fewer than `query` in grouped-query attention.
        width: Coordinates of one head.
    """

    query: int
    key: int
    width: int


_FUSED = ("c_attn", "query_key_value", "qkv_proj", "qkv", "Wqkv", "gate_up_proj")
# The order is the family's, not the name's: another family with a `c_attn` interleaves its heads. Families that are not here are not guessed.
_IN_TURN = ("gpt2", "phi3", "mpt")  # all queries, then all keys, then all values
_BY_HEAD = ("gpt_neox", "bloom")  # each head's q, k and v stand together


def text_config(module: nn.Module) -> Any:
    """Return the configuration of a model's text part; None for a module that has none."""
    config: Any = getattr(module, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def heads_of(config: Any) -> Heads | None:
    """Read the sizes of the attention from a Hugging Face configuration; None where it does not say."""
    query, d = getattr(config, "num_attention_heads", None), getattr(config, "hidden_size", None)
    if not isinstance(query, int) or not isinstance(d, int):
        return None
    width = getattr(config, "head_dim", None) or d // query
    return Heads(query, getattr(config, "num_key_value_heads", None) or query, width)


def split_part(path: str) -> tuple[str, str | None]:
    """Split `PATH:NAME` into the module's path and the part's name; None for a whole matrix."""
    module, mark, name = path.partition(PART)
    return module, name if mark else None


def config_near(root: nn.Module, path: str) -> Any:
    """Return the configuration of the innermost module around this path that has one, since a model may be wrapped; None without."""
    names = path.split(".")
    around = [root, *(root.get_submodule(".".join(names[:n])) for n in range(1, len(names)))]
    return next((config for module in reversed(around) if hasattr(config := text_config(module), "model_type")), None)


def parts_of(root: nn.Module, path: str, d_out: int) -> dict[str, View]:
    """Return the parts of a model's fused matrix by name; empty where it is not fused, or in an order that is not known here."""
    return {view.name: view for view in views(path, d_out, config_near(root, path))} if is_fused(path) else {}


def is_fused(path: str) -> bool:
    """Whether a module is named as those are that compute several things with one matrix."""
    return path.rpartition(".")[2] in _FUSED


def views(path: str, d_out: int, config: Any) -> tuple[View, ...]:
    """Return the parts of a fused matrix; empty when it is not fused, or in an order that is not known here.

    Args:
        path: The module's path; its last part tells what it computes.
        d_out: Width of what it writes.
        config: The model's Hugging Face configuration, or None.
    """
    name, family, heads = path.rpartition(".")[2], getattr(config, "model_type", None), heads_of(config)
    if name not in _FUSED or heads is None:
        return ()
    q, kv, w = heads.query * heads.width, heads.key * heads.width, heads.width
    if name == "gate_up_proj":
        return _in_turn(("gate", "up"), (d_out // 2, d_out // 2)) if family == "phi3" else ()
    if family in _BY_HEAD and d_out == 3 * q:
        return tuple(View(part, number * w, w, 3 * w, heads.query) for number, part in enumerate("qkv"))
    return _in_turn(("q", "k", "v"), (q, kv, kv)) if family in _IN_TURN and d_out == q + 2 * kv else ()


def _in_turn(names: tuple[str, ...], widths: tuple[int, ...]) -> tuple[View, ...]:
    starts = [sum(widths[:number]) for number in range(len(widths))]
    return tuple(View(name, start, width, width, 1) for name, start, width in zip(names, starts, widths, strict=True))


def heads_note(path: str, d_out: int, config: Any) -> str | None:
    """Say how many heads a query, key or value matrix writes; None for other matrices."""
    heads, name = heads_of(config), path.rpartition(".")[2]
    if heads is None or name not in ("q_proj", "k_proj", "v_proj"):
        return None
    count = heads.query if name == "q_proj" else heads.key
    if d_out != count * heads.width:
        return None
    shared = heads.query // heads.key if name != "q_proj" else 1
    return f"{count} heads of {heads.width}" + (f", each for {shared} query heads" if shared > 1 else "")

"""How does text become token ids, and which tokenizer was it? Anything with the interface of Hugging Face's fast tokenizers.

The library `tokenizers` alone is enough; transformers is not needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from unbraid.core.errors import UserError
from unbraid.core.storage import read_json

# What decides which ids a text becomes; truncation, padding, decoding and added beginnings play no part here.
_DECIDES = ("added_tokens", "normalizer", "pre_tokenizer", "model")


@dataclass(frozen=True)
class TextTokenizer:
    """A fast tokenizer of its own: never truncating, never padding, adding nothing.

    Attributes:
        backend: The `tokenizers.Tokenizer`, a copy of the one that was given.
        sha256: Hash of everything that decides which ids a text becomes.
        vocabulary_size: One more than the largest id.
        eos: The id that ends a document, if the tokenizer has one.
    """

    backend: Any
    sha256: str
    vocabulary_size: int
    eos: int | None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text. Special tokens that are written out in a text become their ids, as in the model's own pipeline."""
        return [encoding.ids for encoding in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]


def read_tokenizer(given: object, eos: str | None = None) -> TextTokenizer:
    """Take a tokenizer from a folder with tokenizer.json, a `tokenizers.Tokenizer`, or a fast tokenizer of transformers.

    Args:
        given: The folder or the object; the object is not changed.
        eos: The token that ends a document. By default the one that the folder's files or the object name.

    Raises:
        UserError: The tokenizer is missing, damaged or not a fast one, or has no such token.
    """
    if isinstance(given, TextTokenizer):
        return given
    named: str | int | None = None
    if isinstance(given, str | Path):
        backend: Any = _load(Path(given))
        named = _eos_of_folder(Path(given))
    else:
        named = getattr(given, "eos_token_id", None)
        backend = getattr(given, "backend_tokenizer", given)
        if not (hasattr(backend, "encode_batch_fast") and hasattr(backend, "to_str")):
            raise UserError(f"The tokenizer is {type(given).__name__}.", "Give a folder with tokenizer.json, or a fast tokenizer.")
    text: str = backend.to_str()
    copy = type(backend).from_str(text)
    copy.no_truncation()
    copy.no_padding()
    vocabulary: dict[str, int] = copy.get_vocab(with_added_tokens=True)
    tree = json.loads(text)
    decides = json.dumps({key: tree.get(key) for key in _DECIDES}, sort_keys=True, ensure_ascii=True)
    sha256 = hashlib.sha256(decides.encode()).hexdigest()
    return TextTokenizer(copy, sha256, max(vocabulary.values(), default=-1) + 1, _eos_id(named if eos is None else eos, vocabulary))


def _load(folder: Path) -> Any:
    path = folder / "tokenizer.json" if folder.is_dir() else folder
    if not path.is_file():
        raise UserError(f"There is no tokenizer at {str(folder)!r}.", "Give a folder with tokenizer.json, such as the model's own.")
    try:
        library: Any = import_module("tokenizers")
    except ImportError:
        raise UserError("Text needs tokenizers, which is not installed.", "Install it: pip install 'unbraid[lm]'") from None
    text = json.dumps(read_json(path), ensure_ascii=False)  # a file that is not JSON is told as such
    try:
        return library.Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing more particular
        if type(error) is not Exception:
            raise
        raise UserError(f"{str(path)!r} is no tokenizer: {error}.", "Take the file from a copy.") from None


def _eos_of_folder(folder: Path) -> str | int | None:
    """Find the token that ends a text, where a model's folder says it."""
    folder = folder if folder.is_dir() else folder.parent
    for name, key in (
        ("tokenizer_config.json", "eos_token"),
        ("special_tokens_map.json", "eos_token"),
        ("generation_config.json", "eos_token_id"),
        ("config.json", "eos_token_id"),
    ):
        if (folder / name).is_file():
            value: Any = read_json(folder / name).get(key)
            value = value.get("content") if isinstance(value, dict) else value[0] if isinstance(value, list) and value else value
            if isinstance(value, str | int):
                return value
    return None


def _eos_id(named: str | int | None, vocabulary: dict[str, int]) -> int | None:
    if named is None:
        return None
    ids = set(vocabulary.values())
    found = named if isinstance(named, int) else vocabulary.get(named)
    if found is None or found not in ids:
        raise UserError(f"The tokenizer has no token {named!r} to end a document with.", "Name one of its own tokens as eos.")
    return found

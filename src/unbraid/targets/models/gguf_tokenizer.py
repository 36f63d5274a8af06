"""How does the tokenizer inside a GGUF file split text? Byte-level BPE, with the split of words that its `pre` field names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import PreTokenizer
    from transformers import PreTrainedTokenizerFast

CONTROL = 3  # llama.cpp's token type of a token that stands for no text
USER_DEFINED = 4  # … and of one that is never split

_LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def read_tokenizer(reader: GGUFReader) -> tuple[PreTrainedTokenizerFast | None, str | None]:
    """Return the tokenizer of a GGUF file, or None and the reason why it cannot be read."""
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    def field(name: str) -> Any:
        found = reader.get_field(f"tokenizer.{name}")
        return None if found is None else found.contents()

    kind, split = field("ggml.model"), field("ggml.pre") or "not named"
    words = _split(split)
    if kind != "gpt2" or words is None:
        what = f"splits words as {split!r} does" if kind == "gpt2" else f"is of the kind {kind!r}"
        return None, f"the tokenizer in the file {what}, which is not known here; put the model's own tokenizer.json into the folder"
    tokens: list[str] = field("ggml.tokens")
    merges = [tuple(merge.split(" ", 1)) for merge in field("ggml.merges")]
    bpe = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges))
    bpe.pre_tokenizer = words
    bpe.decoder = decoders.ByteLevel()
    types: list[int] = field("ggml.token_type") or []
    whole = [(token, type_) for token, type_ in zip(tokens, types, strict=False) if type_ in (CONTROL, USER_DEFINED)]
    bpe.add_tokens([AddedToken(token, normalized=False, special=type_ == CONTROL) for token, type_ in whole])
    special = {
        f"{name}_token": tokens[number]
        for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if (number := field(f"ggml.{key}_token_id")) is not None
    }
    if field("ggml.add_bos_token") and "bos_token" in special:
        _begin_with(bpe, special["bos_token"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, clean_up_tokenization_spaces=False, **special)
    tokenizer.chat_template = field("chat_template")
    return tokenizer, None


def _split(name: str) -> PreTokenizer | None:
    """Return how words are split under one of llama.cpp's names; None for a name that is not known here."""
    from tokenizers import Regex, pre_tokenizers

    if name == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name == "smollm":  # digits stand alone, and so the space before one belongs to what came earlier
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    if name == "llama-bpe":
        words = pre_tokenizers.Split(Regex(_LLAMA_3), behavior="isolated")
        return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return None


def _begin_with(bpe: Any, token: str) -> None:
    """Put a token before every text, as models expect that were trained so."""
    from tokenizers.processors import TemplateProcessing

    number = bpe.token_to_id(token)
    bpe.post_processor = TemplateProcessing(single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, number)])

"""What does every converter give? A Llama model: its sizes, its tensors under transformers' names, its tokenizer, and what is known about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unbraid.core.errors import UserError

if TYPE_CHECKING:
    from transformers import LlamaConfig, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Converted:
    """A model that was read from a file of another format.

    Attributes:
        config: Keyword arguments of transformers' `LlamaConfig`.
        tensors: Tensors under the names of transformers' `LlamaForCausalLM`, float32.
        tokenizer: The tokenizer; None when it could not be read.
        licence: What the file says about its licence; None when it says nothing.
        object: What exactly the weights are, such as "4-bit-rounded".
        no_tokenizer: Why there is no tokenizer.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    tokenizer: PreTrainedTokenizerFast | None
    licence: str | None
    object: str
    no_tokenizer: str | None = None

    @property
    def parameters(self) -> int:
        """How many numbers the tensors hold."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def llama_config(self) -> LlamaConfig:
        """Return transformers' configuration."""
        from transformers import LlamaConfig

        return LlamaConfig(**self.config, architectures=["LlamaForCausalLM"], dtype="float32")


def check_tensors(converted: Converted, source: str) -> Converted:
    """Check that the tensors are those of a Llama model of these sizes, neither more nor fewer, and finite.

    Raises:
        UserError: A tensor is missing, has another shape, or holds NaN or infinity.
    """
    import torch
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        wanted = dict(LlamaForCausalLM(converted.llama_config()).named_parameters())
    again = "Take the file from a copy, or download it again."
    for name, parameter in wanted.items():
        found = converted.tensors.get(name)
        if found is None:
            raise UserError(f"{source} has no tensor for {name!r}.", again)
        if found.shape != parameter.shape:
            raise UserError(f"{source}: {name!r} is {list(found.shape)}, where its sizes say {list(parameter.shape)}.", again)
        if not bool(torch.isfinite(found).all()):
            raise UserError(f"{source}: {name!r} holds NaN or infinity.", again)
    more = sorted(set(converted.tensors) - set(wanted))
    if more:
        raise UserError(f"{source} has a tensor that a Llama of its sizes does not have: {more[0]!r}.", again)
    return converted

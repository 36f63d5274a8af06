"""Which modules give the same output whenever they are given the same tensor, so that it may be remembered?"""

from __future__ import annotations

from torch import nn

_OF_TORCH = (nn.Linear, nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.Identity)

OF_TRANSFORMERS = (
    "BloomGelu",
    "FastGELUActivation",
    "GELUActivation",
    "GELUTanh",
    "Gemma2RMSNorm",
    "Gemma3RMSNorm",
    "Gemma3TextScaledWordEmbedding",
    "GemmaRMSNorm",
    "LlamaRMSNorm",
    "MistralRMSNorm",
    "NewGELUActivation",
    "Olmo2RMSNorm",
    "Phi3RMSNorm",
    "Qwen2RMSNorm",
    "Qwen3RMSNorm",
    "QuickGELUActivation",
    "SiLUActivation",
    "SmolLM3RMSNorm",
)
"""Classes of transformers whose `forward(x)` depends on x and their own frozen tensors alone; a test holds each of them to it."""


def is_pure(module: nn.Module) -> bool:
    """Whether a module in evaluation mode is a pure function of one tensor; only those are named of which it is known."""
    kind = type(module)
    known = kind in _OF_TORCH or (kind.__module__.startswith("transformers.") and kind.__name__ in OF_TRANSFORMERS)
    return known and not getattr(module, "inplace", False) and getattr(module, "max_norm", None) is None

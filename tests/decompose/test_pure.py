"""Is each module that is called pure a function of one tensor, which keeps nothing and changes nothing?"""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest
import torch
from torch import Tensor, nn
from transformers import activations

from tests.decompose.test_layouts import SITES
from tests.models import decomposed
from tests.targets.models.tiny import some_ids, tiny_model
from unbraid.decompose.masks import constant_masks
from unbraid.decompose.pure import OF_TRANSFORMERS, is_pure
from unbraid.decompose.site import Remembered
from unbraid.targets.target import Target

_FILES = {"Mistral": "mistral", "Llama": "llama", "Phi3": "phi3", "Olmo2": "olmo2", "SmolLM3": "smollm3", "Bloom": "bloom"} | {
    f"{name}{number}": f"{name.lower()}{number}" for name in ("Gemma", "Qwen") for number in ("", "2", "3")
}


def named(name: str) -> type[nn.Module]:
    """Find a class of transformers by its name alone."""
    if hasattr(activations, name):
        return getattr(activations, name)
    family = max((start for start in _FILES if name.startswith(start)), key=len)
    return getattr(import_module(f"transformers.models.{_FILES[family]}.modeling_{_FILES[family]}"), name)


def built(name: str) -> tuple[nn.Module, Tensor]:
    """Return one of them with an input for it."""
    kind = named(name)
    if issubclass(kind, nn.Embedding):
        return kind(11, 8, padding_idx=0, embed_scale=2.0).eval(), torch.arange(11)
    module = kind(8) if "Norm" in name else kind()
    return module.eval(), torch.randn(5, 8)


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_it_is_a_function_of_one_tensor(name: str) -> None:
    module, x = built(name)
    assert is_pure(module)
    wanted = [p.name for p in inspect.signature(module.forward).parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    assert len(wanted) == 1
    before, state = x.clone(), {key: value.clone() for key, value in module.state_dict().items()}
    first = module(x)
    module(torch.randint(11, (4,)) if x.dtype == torch.int64 else torch.randn(3, 8))
    torch.manual_seed(5)
    assert torch.equal(module(x), first)
    assert torch.equal(x, before)
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


def test_what_is_not_known_is_not_called_pure() -> None:
    class LlamaRMSNorm(nn.Module):
        """Somebody's own, under a name of transformers."""

    assert not is_pure(LlamaRMSNorm())
    assert not is_pure(nn.Dropout()) and not is_pure(nn.BatchNorm1d(3))
    assert not is_pure(nn.ReLU(inplace=True)) and not is_pure(nn.Embedding(3, 2, max_norm=1.0))


@pytest.mark.parametrize("family", SITES)
def test_norms_and_activations_of_a_model_are_remembered(family: str) -> None:
    target = Target(tiny_model(family), sites="*.1.*", data=[some_ids()], behaviour="kl")
    model = decomposed(target, C=4)[0]
    kinds = {type(module.inner).__name__ for module in model._twin[0].modules() if isinstance(module, Remembered)}
    assert any("Norm" in kind for kind in kinds), kinds
    clean = model.clean(some_ids())
    nothing = constant_masks({path: torch.ones(*site.x.shape[:-1], 4) for path, site in clean.sites.items()}, 0.0, delta=1.0)
    torch.testing.assert_close(model.masked(clean, {}), clean.output)
    assert not torch.equal(model.masked(clean, nothing), clean.output)

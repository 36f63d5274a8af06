"""Is an activation exchanged where it is said to be, in every family of language model, and is what is kept the same as what is run anew?"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.models import mlp
from tests.targets.models.tiny import some_ids, tiny_model
from unbraid.core.errors import UserError
from unbraid.stability.engine.anchors import anchors_of
from unbraid.stability.engine.carrier import Carrier
from unbraid.stability.engine.places import INPUT, Place, blocks_of, default_place, kind_of, parts_of, place_named
from unbraid.stability.path.drawn_alike import drawn_alike

FAMILIES = ("gpt2", "llama", "mistral", "gpt_neox", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "bloom", "mpt", "stablelm", "falcon")
every_family = pytest.mark.parametrize("family", FAMILIES)


def prompt_for(module: nn.Module, length: int = 6) -> torch.Tensor:
    return some_ids(1, length)[0]


@every_family
def test_blocks_and_their_parts_are_found_by_shape(family: str) -> None:
    module = tiny_model(family)
    blocks = blocks_of(module)

    assert len(blocks) == module.config.num_hidden_layers
    first = place_named(module, 0)
    for part in ("mlp", "attention", "norm"):
        assert parts_of(module, part, first), part


@every_family
def test_nothing_exchanged_is_the_models_own_answer_and_kept_keys_change_nothing(family: str) -> None:
    module = tiny_model(family)
    prompt, place = prompt_for(module), default_place(module)
    with torch.no_grad():
        own = module(prompt[None]).logits[0, -1]
    kept, whole = Carrier(module, prompt, place), Carrier(module, prompt, place, prefix=False)
    points = torch.stack([kept.anchor, kept.anchor + torch.randn_like(kept.anchor)])

    assert torch.allclose(kept.read(points)["logits"][0], own, atol=1e-4)
    assert torch.allclose(kept.own_answer(), own, atol=1e-5)
    for name, value in kept.read(points, ("logits", "final")).items():
        assert torch.allclose(value, whole.read(points, ("logits", "final"))[name], atol=1e-4), name
    assert not torch.allclose(kept.read(points)["logits"][1], own, atol=1e-3)


def test_an_earlier_position_is_exchanged_and_read_at_the_last_one() -> None:
    module = tiny_model("llama")
    prompt, place = prompt_for(module), default_place(module)
    kept, whole = (Carrier(module, prompt, place, position=2, prefix=prefix) for prefix in (True, False))
    points = torch.randn(5, len(kept.anchor))

    assert torch.allclose(kept.read(points)["logits"], whole.read(points)["logits"], atol=1e-4)
    assert kept.record(points, [place.path])[place.path].shape[:2] == (5, 4)


def test_points_that_are_run_in_parts_give_what_they_give_together() -> None:
    module = tiny_model("llama")
    together = Carrier(module, prompt_for(module), default_place(module))
    parts = Carrier(module, prompt_for(module), default_place(module), at_once=2)
    points = torch.randn(5, len(together.anchor))

    assert torch.allclose(together.read(points)["logits"], parts.read(points)["logits"], atol=1e-5)


def test_the_bank_has_what_each_prompts_carrier_has() -> None:
    module = tiny_model("llama")
    prompts, place = some_ids(3, 5), default_place(module)

    bank, _ = anchors_of(module, prompts, place)

    assert torch.allclose(bank[1], Carrier(module, prompts[1], place).anchor, atol=1e-5)


def test_draws_share_mean_and_covariance_with_what_is_real(generator: torch.Generator) -> None:
    real = torch.randn(200, 3, generator=generator) @ torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.1]]) + 5

    drawn = drawn_alike(real, 20_000, generator)

    assert torch.allclose(drawn.mean(0), real.mean(0), atol=0.1)
    assert torch.allclose(drawn.T.cov(), real.T.cov(), atol=0.15)


def test_answers_have_a_gradient_where_points_ask_for_one() -> None:
    module = tiny_model("llama")
    carrier = Carrier(module, prompt_for(module), default_place(module))
    points = carrier.anchor[None].clone().requires_grad_()

    carrier.read(points)["logits"].sum().backward()

    assert points.grad is not None
    assert float(points.grad.norm()) > 0


def test_a_model_of_vectors_is_exchanged_at_its_input_or_at_a_layer() -> None:
    module, x = mlp(), torch.randn(4)
    at_input, at_layer = Carrier(module, x, Place(INPUT)), Carrier(module, x, Place("1"))

    points = torch.randn(3, 4)
    assert torch.equal(at_input.read(points)["logits"], module(points))
    hidden = torch.randn(3, 6)
    assert torch.allclose(at_layer.read(hidden)["logits"], module[2](hidden))


def test_edits_hold_only_while_they_are_asked_for() -> None:
    module = tiny_model("llama")
    carrier = Carrier(module, prompt_for(module), default_place(module))
    points, last = carrier.anchor[None], blocks_of(module)[-1]
    before = carrier.read(points)["logits"]

    with carrier.edited({last: lambda output, given: output * 0}):
        during = carrier.read(points)["logits"]

    assert not torch.allclose(before, during)
    assert torch.equal(carrier.read(points)["logits"], before)


def test_mistakes_are_told() -> None:
    module = tiny_model("llama")
    prompt = prompt_for(module)
    with pytest.raises(UserError, match="Position 9"):
        Carrier(module, prompt, default_place(module), position=9)
    with pytest.raises(UserError, match="Block 7"):
        place_named(module, 7)
    with pytest.raises(UserError, match="Closest: 'model.layers.0.mlp'"):
        place_named(module, "model.layer.0.mlp")
    with pytest.raises(UserError, match="tokens, which cannot be moved"):
        Carrier(module, prompt, Place(INPUT))
    with pytest.raises(UserError, match="no blocks"):
        Carrier(mlp(), torch.randn(4), Place(INPUT)).read(torch.randn(2, 4), ("final",))


def test_kinds_of_parts() -> None:
    assert kind_of("drop", nn.Dropout()) is None
    assert kind_of("ln_1", nn.LayerNorm(4)) == "norm"
    assert kind_of("attn", nn.Linear(4, 4)) == "attention"
    assert kind_of("ffn", nn.Linear(4, 4)) == "mlp"

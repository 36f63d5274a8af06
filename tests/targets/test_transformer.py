from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from unbraid.core.errors import UserError
from unbraid.targets.toy_kit.transformer import Block, Decoder, Positions, sinusoids, uniform_attention

TOKENS = torch.randint(0, 7, (5, 6), generator=torch.Generator().manual_seed(0))


def decoder(positions: Positions = "learned", trimmed: bool = False, d_mlp: int = 10) -> Decoder:
    torch.manual_seed(0)
    return Decoder(7, 6, d_model=8, n_layers=2, n_heads=2, d_mlp=d_mlp, positions=positions, trimmed=trimmed)


@pytest.mark.parametrize("positions", ["none", "learned", "sinusoidal"])
def test_trimming_changes_no_answer(positions: Positions) -> None:
    whole, trimmed = decoder(positions), decoder(positions, trimmed=True)
    assert whole(TOKENS).shape == (5, 7)
    torch.testing.assert_close(whole(TOKENS), trimmed(TOKENS))
    assert trimmed.streams(TOKENS)[-1].shape == (5, 1, 8)


def test_attention_is_torchs_own() -> None:
    block = Block(d_model=8, n_heads=2, d_mlp=0)
    stream = torch.randn(3, 6, 8)
    q, k, v = (layer(stream).view(3, 6, 2, 4).transpose(1, 2) for layer in (block.q, block.k, block.v))
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    torch.testing.assert_close(block(stream), stream + block.o(expected))


def test_attention_never_looks_ahead() -> None:
    model = decoder()
    changed = TOKENS.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 7
    for before, after in zip(model.streams(TOKENS), model.streams(changed), strict=True):
        torch.testing.assert_close(before[:, :-1], after[:, :-1])


def test_sinusoids_reach_queries_and_keys_but_not_the_stream() -> None:
    model = decoder("sinusoidal")
    assert torch.equal(model.start(TOKENS), model.embed(TOKENS))
    assert not torch.equal(model(TOKENS), decoder("none")(TOKENS))
    assert "sinusoids" not in model.state_dict()


def test_sinusoids_of_two_places_depend_on_their_distance_alone() -> None:
    waves = sinusoids(20, 8)
    products = waves @ waves.T
    torch.testing.assert_close(products[3, 5], products[11, 13])


def test_patterns_can_be_replaced() -> None:
    model = decoder()
    patterns = model.attention(TOKENS)
    torch.testing.assert_close(model(TOKENS, dict(enumerate(patterns))), model(TOKENS))
    level = uniform_attention(patterns[0])
    torch.testing.assert_close(level[0, 0, 3], torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0, 0.0]))
    assert not torch.allclose(model(TOKENS, {0: level}), model(TOKENS))


def test_without_neurons_there_is_no_mlp() -> None:
    names = {name.rpartition(".")[0].rpartition(".")[2] for name, _ in decoder(d_mlp=0).named_parameters()}
    assert names == {"q", "k", "v", "o", "embed", "place", "unembed"}


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(UserError, match="3 heads do not divide a stream of width 8"):
        Decoder(7, 6, d_model=8, n_layers=1, n_heads=3)

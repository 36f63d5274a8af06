from __future__ import annotations

import math

import pytest
import torch

import unbraid
from tests.decompose.test_text import Bigram
from unbraid.decompose.next_token import compute_recovered, cross_entropy, tokens_in


def test_cross_entropy_is_of_the_next_token() -> None:
    logits = torch.full((2, 3, 4), -40.0)
    tokens = torch.tensor([[0, 1, 2], [3, 2, 1]])
    logits[:, :-1].scatter_(-1, tokens[:, 1:, None], 40.0)
    assert float(cross_entropy(logits, tokens)) < 1e-6
    assert math.isclose(float(cross_entropy(torch.zeros(2, 3, 4), tokens)), math.log(4), rel_tol=1e-6)


def test_only_models_that_answer_each_token_have_next_tokens() -> None:
    tokens = torch.zeros(2, 3, dtype=torch.long)
    assert tokens_in(tokens, torch.zeros(2, 3, 5)) is tokens
    assert tokens_in({"input_ids": tokens}, torch.zeros(2, 3, 5)) is tokens
    assert tokens_in(tokens, torch.zeros(2, 5)) is None
    assert tokens_in(torch.zeros(2, 3), torch.zeros(2, 3, 5)) is None


def test_the_scorecard_of_a_language_model_speaks_in_nats() -> None:
    torch.manual_seed(0)
    data = [torch.randint(0, 11, (8, 6)) for _ in range(4)]
    target = unbraid.Target(Bigram(11), sites="*", data=data, behaviour="kl")
    evaluation = {"batches": 2, "batch_size": 8, "adversary_steps": [20, 25], "ladder_batches": 1}
    card = unbraid.decompose(
        target, unbraid.preset("vpd", steps=2, batch_size=8, components=4, warmup={"steps": 1}, evaluation=evaluation)
    ).scorecard()
    with torch.no_grad():
        own = sum(float(cross_entropy(target(batch), batch)) for batch in data) / len(data)
    assert math.isclose(card["ce_target"].value.value, own, rel_tol=0.05)
    share = card["kl_stoch_masked"].value.value / card["kl_zero_masked"].value.value
    assert math.isclose(share, card["stoch_masked"].value.value, rel_tol=0.05)
    assert card["kl_pgd_20"].bar is not None and card["kl_pgd_25"].bar is None
    assert math.isclose(card["l0_total"].value.value, sum(card[f"l0/{site.path}"].value.value for site in target.sites), rel_tol=1e-5)


CURVE = ((0.0, 7.0), (100.0, 5.0), (10_000.0, 3.0))


@pytest.mark.parametrize(("above", "share"), [(0.0, 1.0), (-0.01, 1.0), (1.0, 0.1), (2.0, 0.01), (3.0, 0.005), (5.0, 0.0)])
def test_a_loss_is_worth_the_training_that_it_undoes(above: float, share: float) -> None:
    assert compute_recovered(CURVE, above) == pytest.approx(share)

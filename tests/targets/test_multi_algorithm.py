from __future__ import annotations

import pytest
import torch
from torch import nn

from unbraid.core.errors import UserError
from unbraid.targets.toy_kit.calculator import ADD, BOTH, COPY, MAX, Calculator, Questions, answer, reordered, results, uses
from unbraid.targets.toys.multi_algorithm import MultiAlgorithm

TOY = MultiAlgorithm()


def question(operation: int, a: int = 5, b: int = 4, c: int = 3) -> torch.Tensor:
    return torch.tensor([[a, b, c, TOY.p + operation]])


def examples(count: int = 512) -> torch.Tensor:
    return TOY.data().batch(0, count, torch.Generator().manual_seed(0))


def test_the_operations() -> None:
    assert [int(TOY.wanted(question(operation))) for operation in (ADD, MAX, COPY, BOTH)] == [2, 5, 5, 3]


def test_a_swapped_sum_reaches_the_maximum_that_uses_it() -> None:
    x, given = question(BOTH), results(question(ADD, 6, 0), TOY.p)
    swap = torch.tensor([[True, False, False]])
    assert int(answer(TOY.operation(x), results(x, TOY.p, given, swap))) == 6
    unused = torch.tensor([[False, False, True]])
    assert int(answer(TOY.operation(x), results(x, TOY.p, given, unused))) == 3


def test_the_data_has_the_composed_share() -> None:
    x = Questions(7, 0.5).batch(0, 20_000, torch.Generator().manual_seed(0))
    rates = torch.bincount(x[:, -1] - 7) / len(x)
    torch.testing.assert_close(rates, torch.tensor([1 / 6, 1 / 6, 1 / 6, 0.5]), atol=0.02, rtol=0)
    assert int(x[:, :3].min()) == 0
    assert int(x[:, :3].max()) == 6


def test_the_bundled_model_passes_its_checks() -> None:
    module = TOY.load()
    assert [check for check in TOY.checks(module) if not check.passed] == []


def test_an_untrained_model_is_not_real() -> None:
    torch.manual_seed(0)
    failed = {check.name for check in TOY.checks(TOY.build()) if not check.passed}
    assert "accuracy of the worst operation" in failed
    assert "largest activation of an unused block, of all" in failed


def test_a_run_is_what_the_model_answers() -> None:
    module, x = TOY.load(), examples()
    assert isinstance(module, Calculator)
    run = module.run(x)
    torch.testing.assert_close(run.logits, module(x))
    everything = torch.ones(len(x), 3, dtype=torch.bool)
    order = torch.arange(len(x)).flip(0)
    torch.testing.assert_close(module.run(x, run, everything).logits, module(x))
    swapped = module.run(x, reordered(run, order), everything)
    torch.testing.assert_close(swapped.neurons[1], run.neurons[1][order])


def test_muted_blocks_say_nothing() -> None:
    module, x = TOY.load(), examples()
    assert isinstance(module, Calculator)
    run = module.run(x, mute=~uses(TOY.operation(x)))
    torch.testing.assert_close(run.logits, module(x))
    silent = module.run(x, mute=torch.ones(len(x), 3, dtype=torch.bool))
    assert float(torch.stack([each.abs().max() for each in silent.neurons]).max()) == 0
    accuracy = (silent.logits.argmax(1) == TOY.wanted(x)).float().mean()
    assert float(accuracy) < 0.5


def test_the_planted_pieces_do_what_the_model_does() -> None:
    truth, x = TOY.truth(TOY.load()), examples()
    assert truth.module_names == ["add", "max", "copy"]
    module, clean = TOY.load(), TOY.load()
    for path, site in truth.sites.items():
        module.get_parameter(f"{path}.weight").copy_((site.V @ site.U).T)
    torch.testing.assert_close(module(x), clean(x), atol=1e-4, rtol=1e-4)


def test_pieces_are_on_in_the_operations_that_use_their_block() -> None:
    truth, x = TOY.truth(TOY.load()), examples()
    for site in truth.sites.values():
        on, needed = site.on(x), site.needed(x)
        assert on.shape == needed.shape == (len(x), site.rank)
        assert bool((needed[on == 0] == 0).all())
        for piece, name in enumerate(site.modules):
            used = uses(TOY.operation(x))[:, ["add", "max", "copy"].index(name)]
            assert torch.equal(on[:, piece] > 0, used)


def test_the_naive_answer_knows_the_operation_only() -> None:
    every = TOY.data().all()
    logits = TOY.naive(every)
    assert torch.unique(logits, dim=0).shape[0] == 2  # sums and copies are uniform, maxima are alike
    torch.testing.assert_close(TOY.naive(question(MAX))[0].exp() / 7**3, (2 * torch.arange(7) + 1) / 49)


def test_the_panel_has_a_class_per_operation() -> None:
    panel = TOY.panel(TOY.load())
    assert panel.features == ("add", "max", "copy", "max of sum")
    assert bool((panel.loss_per_feature < 0.1 * panel.naive_per_feature).all())


def test_another_model_is_refused() -> None:
    with pytest.raises(UserError, match="Linear"):
        TOY.truth(nn.Linear(2, 2))


def test_an_unlearned_operation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MultiAlgorithm, "training_steps", 5)
    with pytest.raises(UserError, match="unlearned"):
        TOY.train(0)

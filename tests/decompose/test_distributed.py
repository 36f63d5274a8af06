"""Do ranks that share a batch train what one process trains, and do they notice when one of them differs or is gone?"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.decompose.rank_worker import CASES, run
from tests.ranks import begin, finish
from unbraid.core.errors import UserError
from unbraid.core.ranks import ALONE, LostRank, Ranks
from unbraid.decompose.adversary import over_ranks
from unbraid.decompose.checkpoint import _of_all, _own
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.distributed import check_agreement, share_out, told_what_is_saved
from unbraid.decompose.finite import check_step
from unbraid.decompose.step import Step, importances_of
from unbraid.decompose.training import prepare
from unbraid.targets.data import Batch
from unbraid.targets.target import Target

WORKER = str(Path(__file__).with_name("rank_worker.py"))


def trained_by(count: int, folder: Path) -> None:
    for told in finish(begin(count, [WORKER, str(folder)], folder)):
        assert told.code == 0, told.err


def assert_equal_to_one_process(count: int, folder: Path) -> None:
    """Compare what every rank ended with, and what was logged, with the same cases in this process."""
    for index, name in enumerate(CASES):
        alone, logged = run(name, ALONE)
        for rank in range(count):
            shared = load_file(folder / f"{count}-{rank}" / f"{index}.safetensors")
            metrics = json.loads((folder / f"{count}-{rank}" / f"{index}.json").read_text())
            for key, value in alone.items():
                torch.testing.assert_close(shared[key], value, rtol=1e-5, atol=1e-5, msg=lambda text, at=(name, rank, key): f"{at}: {text}")
            assert metrics == pytest.approx(logged, rel=1e-5, abs=1e-6), name


def test_two_ranks_train_what_one_process_trains(tmp_path: Path) -> None:
    trained_by(2, tmp_path)
    assert_equal_to_one_process(2, tmp_path)


@pytest.mark.slow
def test_four_ranks_train_what_one_process_trains(tmp_path: Path) -> None:
    trained_by(4, tmp_path)
    assert_equal_to_one_process(4, tmp_path)


class TwoThatSay(Ranks):
    """Two ranks of which the second says the first's facts, changed."""

    def __init__(self, **changed: object) -> None:
        super().__init__(0, 2)
        object.__setattr__(self, "changed", changed)

    def texts(self, text: str, patient: bool = False) -> list[str]:
        return [text, json.dumps({**json.loads(text), **self.__dict__["changed"]})]


class TwoThatHold(Ranks):
    """Two ranks that hold these rows of each part."""

    def __init__(self, held: list[Tensor], rank: int) -> None:
        super().__init__(rank, 2)
        object.__setattr__(self, "held", held)

    def concat(self, rows: Tensor) -> Tensor:
        return torch.cat([part.unflatten(0, (2, -1)).transpose(0, 1) for part in self.__dict__["held"]])


@pytest.mark.parametrize(
    "changed",
    [
        {"the seed": 5},
        {"the step to go on from": 40},
        {"torch's version": "1.0"},
        {"the target (its weights' fingerprint)": "other"},
        {"the code of unbraid (a hash)": "other"},
        {"the setting optimizer.factors.clip": 0.5},
        {"the setting losses.extra.coefficient": 0.5},
    ],
)
def test_what_ranks_disagree_on_is_named(target: Target, changed: dict[str, object]) -> None:
    config = DecomposeConfig(components=3)
    training = prepare(target, config)
    check_agreement(TwoThatSay(), training, config, "print")
    (name,) = changed
    with pytest.raises(UserError, match=re.escape(f"The ranks do not agree on {name}: rank 0 has")):
        check_agreement(TwoThatSay(**changed), training, config, "print")


def test_starts_that_ranks_cannot_compare_are_refused(target: Target) -> None:
    config = DecomposeConfig.parse({"components": 3, "batch_size": 8, "accumulate": 2, "starts": {}, "losses": {"merged": {}}})
    with pytest.raises(UserError, match="Several ranks cannot choose between starts with accumulate=2 and the loss 'merged'"):
        check_agreement(TwoThatSay(), prepare(target, config), config, "print")


@pytest.mark.parametrize("merged", [{}, {"scope": "bc", "pool": 3}], ids=["one", "pool"])
def test_rows_of_parts_are_put_together_and_shared_out_again(target: Target, merged: dict[str, object]) -> None:
    """A batch of 8 in 2 parts on 2 ranks: each part's 4 rows are shared out for themselves, each with its whole pool."""
    whole = torch.arange(24.0).view(8, 3, 1) if merged else torch.arange(8.0)[:, None]
    held = [whole[[0, 1, 4, 5]], whole[[2, 3, 6, 7]]]
    config = DecomposeConfig.parse({"components": 3, "batch_size": 8, "accumulate": 2, "losses": {"merged": merged}})
    for rank in range(2):
        training = prepare(target, config, ranks=TwoThatHold(held, rank))
        assert torch.equal(_own(training, "merged.sources_0", whole), held[rank])
        assert torch.equal(_own(training, "merged.updates", whole), whole)
        assert torch.equal(_of_all(training, held[rank]), whole)


def test_a_rank_that_leaves_the_numbers_stops_all(target: Target) -> None:
    class OtherIsBad(Ranks):
        def any(self, flag: bool) -> bool:
            return True

    training = prepare(target, DecomposeConfig(components=3))
    clean = training.model.clean(target.data.batch(0, 4, torch.Generator()))
    importances = importances_of(training.model, training.function, clean)
    step = Step(training.model, clean, importances, target.behaviour, 0.0, training.streams, ranks=OtherIsBad(0, 2))
    with pytest.raises(UserError, match="another rank's part"):
        check_step(step, torch.tensor(1.0), {})


@pytest.mark.parametrize("make", [lambda x: x, lambda x: (x, torch.ones(3)), lambda x: {"x": x, "scale": torch.tensor(2.0)}])
def test_shares_make_up_the_batch_and_what_is_not_one_per_input_goes_to_all(make: Callable[[Tensor], Batch]) -> None:
    def rows(batch: Batch) -> Tensor:
        return batch if isinstance(batch, Tensor) else next(iter(batch.values() if isinstance(batch, dict) else batch))

    x = torch.randn(12, 4)
    parts = [share_out(Ranks(rank, 4), make(x), None, None)[0] for rank in range(4)]
    assert torch.equal(torch.cat([rows(part) for part in parts]), x)
    if not isinstance(parts[0], Tensor):
        assert [len(part) for part in parts] == [2] * 4


def test_weights_are_shared_with_their_rows_and_keep_their_mean() -> None:
    x, weights = torch.randn(7, 2), torch.rand(7)
    shares = [share_out(Ranks(rank, 3), x, weights, 9) for rank in range(3)]
    assert sum(float((part[:, 0] * w).sum()) for part, w, _, _ in shares) / 3 == pytest.approx(float((x[:, 0] * weights).sum()), abs=1e-6)
    assert [share.rows for _, _, _, share in shares] == [2, 2, 3]


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(UserError, match="A batch of 63 inputs cannot be shared by 2 ranks. Make batch_size a multiple of 2."):
        share_out(Ranks(0, 2), torch.zeros(63, 2), None, None)
    with pytest.raises(UserError, match="A batch of 3 rows cannot be shared by 4 ranks."):
        share_out(Ranks(0, 4), torch.zeros(3, 2), torch.ones(3), 9)


def test_a_site_without_the_batch_in_front_cannot_be_shared() -> None:
    share = Ranks(0, 2).share(8)
    assert share is not None
    with pytest.raises(UserError, match="A site reads 7 inputs where the batch has 4"):
        share.draw(torch.zeros, (7, 3))


def test_drawn_rows_are_those_of_one_process() -> None:
    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=torch.Generator().manual_seed(0))

    parts = [Ranks(rank, 3).share(7).draw(draw, (2, rows * 5, 4), axis=1) for rank, rows in enumerate((2, 2, 3))]
    assert torch.equal(torch.cat(parts, dim=1), draw((2, 35, 4)))


def test_gradients_of_own_sources_have_the_size_that_one_process_gives_them() -> None:
    grads = {"a": torch.full((2, 3), 4.0)}
    assert torch.equal(over_ranks(grads, "bsc", Ranks(1, 4))["a"], torch.ones(2, 3))
    assert over_ranks(grads, "bc", ALONE)["a"] is grads["a"]


def test_a_lost_rank_names_what_is_saved(tmp_path: Path) -> None:
    def lose(folder: Path | None) -> str:
        with pytest.raises(UserError) as told, told_what_is_saved(folder):
            raise LostRank("Connection closed by peer")
        return str(told.value)

    assert lose(None) == "A rank was lost (Connection closed by peer), and nothing was saved. Start again."
    assert "No state was saved yet" in lose(tmp_path)
    for step, whole in ((10, True), (20, True), (30, False)):
        state = tmp_path / "state" / f"step-{step:09d}"
        state.mkdir(parents=True)
        if whole:
            (state / "manifest.json").write_text("{}")
    told = lose(tmp_path)
    assert f"The last saved state is {tmp_path / 'state' / 'step-000000020'}." in told
    assert told.endswith(f"--resume {tmp_path}")

"""Is a rank that hangs noticed while others wait for it without a time limit, and one that works for long left alone?"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ranks import begin, finish
from unbraid.core.heartbeat import Heartbeat

WORKER = str(Path(__file__).with_name("rank_that_hangs.py"))


@pytest.mark.parametrize(("hangs", "other"), [(0, 1), (1, 0)])
def test_a_rank_that_hangs_is_named_by_the_one_that_waits_for_it(tmp_path: Path, hangs: int, other: int) -> None:
    processes = begin(2, [WORKER, str(hangs)], tmp_path, UNBRAID_RANK_TIMEOUT="1")
    try:
        (told,) = finish([processes[other]], seconds=60)
    finally:
        processes[hangs].kill()
        processes[hangs].communicate()
    assert (told.code, told.out) == (2, f"rank {hangs} gave no sign of life for 1 seconds"), told


def test_a_rank_that_works_for_long_is_waited_for(tmp_path: Path) -> None:
    for told in finish(begin(2, [WORKER, "nobody"], tmp_path, UNBRAID_RANK_TIMEOUT="1")):
        assert (told.code, told.out) == (0, "rank 0 works"), told


class Numbers(dict[str, int]):
    """A store that lies in this process."""

    def add(self, key: str, amount: int) -> int:
        self[key] = self.get(key, 0) + amount
        return self[key]


def test_silence_counts_from_the_last_sign_and_a_completed_wait_ends_at_once() -> None:
    store = Numbers()
    mine, theirs = (Heartbeat(rank, 2, store, patience=0.2) for rank in range(2))
    asked: list[int] = []

    def after_many_questions() -> bool:
        asked.append(len(asked))
        return len(asked) > 20

    assert mine.wait(after_many_questions) is None  # twenty naps are many times the patience
    theirs.stop()
    assert mine.wait(lambda: False) == 1
    assert mine.wait(lambda: True) is None
    mine.stop()

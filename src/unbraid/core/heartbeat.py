"""Is a rank that says nothing still at work? Each counts up in the store where they met, and looks at what the others have counted.

While one rank works alone for hours the others must wait for it without a time limit, and yet not for one that is gone. A closed connection is noticed by
torch; a process that was stopped, or a machine that hangs, is noticed here: its count stands still.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol, runtime_checkable

import torch.distributed as dist

_LONGEST_NAP = 0.05


@runtime_checkable
class Store(Protocol):
    """What is needed of the store."""

    def add(self, key: str, amount: int, /) -> int:
        """Add to the number under a key, and return it."""
        ...


class Heartbeat:
    """A thread of this rank that counts for the others, and keeps what they have counted.

    Nothing here compares clocks, and the time in which this process itself was stopped is not held against the others.
    """

    def __init__(self, rank: int, count: int, store: Store, patience: float) -> None:
        """Begin to count.

        Args:
            rank: This rank's number.
            count: How many ranks there are.
            store: Where they met; a connection of this thread's own, because one that waits blocks all who share it.
            patience: Seconds without a sign after which a rank is taken for lost.
        """
        self._rank, self._store, self._patience = rank, store, patience
        self._others = [other for other in range(count) if other != rank]
        self._counts = dict.fromkeys(self._others, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="unbraid-heartbeat", daemon=True)
        self._thread.start()
        atexit.register(self.stop)  # a thread that is inside torch while the interpreter ends would abort the process

    def _beat(self) -> None:
        while not self._stop.wait(min(1.0, self._patience / 4)):
            try:
                self._store.add(_key(self._rank), 1)
                for other in self._others:
                    self._counts[other] = self._store.add(_key(other), 0)
            except RuntimeError:  # the store is gone, and with it the rank that holds it: from now on all counts stand still
                return

    def stop(self) -> None:
        """Stop counting."""
        self._stop.set()
        self._thread.join(timeout=1)

    def wait(self, completed: Callable[[], bool]) -> int | None:
        """Wait until something is completed, for as long as the others give signs of life.

        Returns:
            None, or the rank that has given none for too long.
        """
        seen, silent, nap = dict(self._counts), dict.fromkeys(self._others, 0.0), 0.001
        while not completed():
            time.sleep(nap)
            for other, counted in list(self._counts.items()):
                silent[other] = silent[other] + nap if counted == seen[other] else 0.0
                seen[other] = counted
                if silent[other] > self._patience:
                    return other
            nap = min(2 * nap, _LONGEST_NAP)
        return None


def connect(host: str, port: int, rank: int, count: int, patience: float) -> Heartbeat:
    """Begin to count at the address where the ranks have met."""
    store = dist.TCPStore(  # pyright: ignore[reportPrivateImportUsage] - documented, though torch's types do not export it
        host, port, None, False, timedelta(seconds=max(patience, 1.0)), False
    )
    return Heartbeat(rank, count, store, patience)


def _key(rank: int) -> str:
    return f"unbraid-heartbeat-{rank}"

from __future__ import annotations

import signal

import pytest

from unbraid.core.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_second_interrupt_stops(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stopped:
        assert not stopped()
        signal.raise_signal(number)
        assert stopped()
        assert stopped.signal is number
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(number) is before

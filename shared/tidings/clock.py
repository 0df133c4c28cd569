"""Time as a parameter: what needs to know the time is given a `Clock`, tests give a `ManualClock`."""

import time
from typing import Protocol

__all__ = ["Clock", "ManualClock", "SystemClock"]


class Clock(Protocol):
    """Two views of time, both in seconds."""

    def now(self) -> float:
        """Unix time: for token expiry and broker timestamps. May jump."""

    def monotonic(self) -> float:
        """Never goes back: for deadlines and durations. Its zero means nothing."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Both clocks go on by `seconds`."""
        self._now += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Only Unix time changes, as when an operator or NTP sets it."""
        self._now += seconds

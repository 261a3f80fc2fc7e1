"""Axes of charts: from a value to a position, and where the ticks are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis, in the chart's units, and its text."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Linear:
    """Values low..high onto positions start..end."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int = 8) -> list[Tick]:
        """Round values, 1, 2 or 5 times a power of ten apart: as many as do not exceed `most`."""
        least = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(least))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [Tick(self(count * step), short(count * step)) for count in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Log:
    """Values low..high, both above 0, onto positions start..end by their logarithms."""

    low: float
    high: float
    start: float
    end: float

    @staticmethod
    def around(values: Iterable[float], start: float, end: float) -> Log:
        """All of `values`, with room for a factor of two beyond them."""
        every = list(values)
        return Log(min(every) / 2, max(every) * 2, start, end)

    def __call__(self, value: float) -> float:
        span = math.log10(self.high / self.low)
        return self.start + math.log10(value / self.low) / span * (self.end - self.start)

    def ticks(self) -> list[Tick]:
        """Powers of ten, and 2 and 5 times these where the scale has less than three decades."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        factors = (1, 2, 5) if self.high / self.low < 1000 else (1,)
        values = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        return [Tick(self(value), short(value)) for value in values if self.low <= value <= self.high]


def short(value: float) -> str:
    """A number in a few characters: 0.25, 12, 3.4k, 1.2M."""
    for limit, factor, unit in ((999.5e6, 1e9, "G"), (999.5e3, 1e6, "M"), (9999.5, 1e3, "k")):
        if abs(value) >= limit:
            return f"{_plain(value / factor)}{unit}"
    return _plain(value)


def _plain(value: float) -> str:
    if value == 0 or abs(value) >= 99.95:
        return f"{value:.0f}"
    return f"{value:.3g}"

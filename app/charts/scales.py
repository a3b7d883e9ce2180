"""From values to pixels along round ticks, and how sizes are written. Drawing is elsewhere."""

import math
from dataclasses import dataclass

TICKS = 5
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
# Okabe & Ito's colours that are told apart with every kind of colour blindness, on either ground.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")


@dataclass(frozen=True, slots=True)
class Axis:
    """From values to pixels, along whole ticks."""

    ticks: tuple[float, ...]
    start: float
    end: float

    def at(self, value: float) -> float:
        first, last = self.ticks[0], self.ticks[-1]
        return round(self.start + (value - first) / (last - first) * (self.end - self.start), 2)


def ticks(low: float, high: float, count: int = TICKS) -> tuple[float, ...]:
    """Round numbers around an interval: multiples of 1, 2 or 5 times a power of ten."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * each for each in (1, 2, 5, 10) if power * each * count >= span)
    first, last = math.floor(low / step), math.ceil(high / step)
    if first == last:
        last += 1
    return tuple(number * step for number in range(first, last + 1))


def size(size: float) -> str:
    """Bytes, to three digits."""
    unit, name = next((each for each in UNITS if size >= each[0]), UNITS[-1])
    return f"{size / unit:.3g} {name}"

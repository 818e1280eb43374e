"""Side by side timing: two functions called in turn, so that a busy machine slows both alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple


class Paired(NamedTuple):
    """Median seconds of both, and the median of the ratios of neighbors, ours to theirs."""

    ours: float
    theirs: float
    ratio: float


def paired(ours: Callable[[], object], theirs: Callable[[], object], rounds: int, repeat: int = 1) -> Paired:
    """Time `repeat` calls of each, alternating `rounds` times and in alternating order, after a warm-up of both."""
    for _ in range(3):
        ours(), theirs()
    a: list[float] = []
    b: list[float] = []
    for i in range(rounds):
        pair = [(a, ours), (b, theirs)]
        for times, function in pair if i % 2 else pair[::-1]:
            times.append(seconds(function, repeat))
    return Paired(median(a), median(b), median(x / y for x, y in zip(a, b, strict=True)))


def seconds(function: Callable[[], object], repeat: int = 1) -> float:
    """Seconds of one call, averaged over `repeat`."""
    start = time.perf_counter()
    for _ in range(repeat):
        function()
    return (time.perf_counter() - start) / repeat

"""Side by side timing: functions called in turn, so that a busy machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

Function = Callable[[], object]


class Paired(NamedTuple):
    """Median seconds of both, and the median of the ratios of neighbors, ours to theirs."""

    ours: float
    theirs: float
    ratio: float


def paired(ours: Function, theirs: Function, rounds: int, repeat: int = 1) -> Paired:
    """Two functions side by side."""
    return compare(*side_by_side([ours, theirs], rounds, repeat))


def compare(ours: Sequence[float], theirs: Sequence[float]) -> Paired:
    """Two columns of what `side_by_side` has measured."""
    return Paired(median(ours), median(theirs), median(a / b for a, b in zip(ours, theirs, strict=True)))


def side_by_side(functions: Sequence[Function], rounds: int, repeat: int = 1) -> list[list[float]]:
    """Seconds of one call of each, averaged over `repeat`, in each of `rounds`; each round starts with another one."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(3):
        for function in functions:
            function()
    for i in range(rounds):
        for k in range(len(functions)):
            which = (i + k) % len(functions)
            times[which].append(seconds(functions[which], repeat))
    return times


def seconds(function: Function, repeat: int = 1) -> float:
    """Seconds of one call, averaged over `repeat`."""
    start = time.perf_counter()
    for _ in range(repeat):
        function()
    return (time.perf_counter() - start) / repeat

"""One line of the table, and the models that are stepped: lists of tensor sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from scirs2_adapters.demo.timing import compare, side_by_side


@dataclass(frozen=True)
class Row:
    """Medians in milliseconds. `gigabytes` is what our step moves in a second, of which the triad reaches `triad`.

    `parts` says where the time goes, or what else was measured, ours and theirs by name; `least` is the ratio of an
    optimizer that takes no time.
    """

    group: str
    case: str
    baseline: str
    ours: float
    theirs: float | None = None
    ratio: float | None = None
    gigabytes: float | None = None
    triad: float | None = None
    least: float | None = None
    parts: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """Sizes of tensors under the words that the table has for them."""

    name: str
    sizes: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """How many parameters."""
        return sum(self.sizes)

    @property
    def rounds(self) -> tuple[int, int]:
        """How often to measure, and how many steps a time: small models many, large ones few."""
        return (40, 20) if self.numbers < 1_000_000 else (25, 2) if self.numbers < 20_000_000 else (15, 1)


def models(quick: bool) -> list[Model]:
    """The three of the claims: many small tensors, a mixed model, a large one."""
    small = Model("50 tensors x 2,000", (2_000,) * 50)
    if quick:
        return [small, Model("30 mixed tensors, 0.3 M", mixed(30, 300_000))]
    large = Model("100 tensors, 50 M", (500_000,) * 100)
    return [small, Model("300 mixed tensors, 10 M", mixed(300, 10_000_000)), large]


def mixed(count: int, numbers: int) -> tuple[int, ...]:
    """Sizes as a real model has them: most tensors small, most numbers in few tensors."""
    sizes = np.random.default_rng(0).lognormal(0.0, 1.5, count)
    sizes = np.maximum(1, np.floor(sizes / sizes.sum() * numbers)).astype(int)
    sizes[sizes.argmax()] += numbers - sizes.sum()
    return tuple(int(n) for n in sizes)


def measure(
    group: str,
    case: str,
    ours: Callable[[], object],
    baselines: dict[str, Callable[[], object]],
    rounds: tuple[int, int],
    traffic: int = 0,
    triad: tuple[Callable[[], object], int] | None = None,
) -> Iterator[Row]:
    """Rows of our step against each baseline, all in one measurement, and against the triad where one is given."""
    functions = [ours, *baselines.values(), *([triad[0]] if triad else [])]
    times = side_by_side(functions, *rounds)
    gigabytes = traffic / median(times[0]) / 1e9 if traffic else None
    part = _part(times, traffic, triad[1]) if triad else None
    for name, column in zip(baselines, times[1:], strict=False):
        pair = compare(times[0], column)
        yield Row(group, case, name, pair.ours * 1e3, pair.theirs * 1e3, pair.ratio, gigabytes, part)
    if not baselines:
        yield Row(group, case, "has none", median(times[0]) * 1e3, None, None, gigabytes, part)


def _part(times: Sequence[Sequence[float]], traffic: int, triad_traffic: int) -> float:
    return median(traffic / a / (triad_traffic / b) for a, b in zip(times[0], times[-1], strict=True))


def process_memory(name: str) -> int:
    """A line of Linux's account of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def count_peak_anew() -> None:
    """Let the peak, `VmHWM`, begin at what there is now."""
    Path("/proc/self/clear_refs").write_text("5")

"""What a worker has reported of one optimizer that trains a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from scirs2_adapters.demo.processes import Event

from .section import shown


@dataclass
class Training:
    """`seconds` are those of each part of each step; `growth` the bytes by which the memory's peak has risen."""

    losses: list[float] = field(default_factory=list)
    seconds: list[list[float]] = field(default_factory=list)
    growth: int | None = None
    numbers: int = 0

    def take(self, event: Event) -> None:
        """An event of the worker."""
        if event["event"] == "step":
            self.losses.append(event["loss"])
            self.seconds.append(event["seconds"])
        elif event["event"] == "trained":
            self.growth, self.numbers = event["growth"], event["numbers"]

    def parts(self) -> list[float]:
        """Median milliseconds of each part; the first steps, which load and compile, are not in them."""
        return [median(part) * 1e3 for part in zip(*self.seconds[min(3, len(self.seconds) - 1) :], strict=True)]

    def loss(self) -> float:
        """The mean of the last ones."""
        last = self.losses[-5:]
        return sum(last) / len(last)

    def memory(self) -> str:
        """The growth in MiB."""
        return "-" if self.growth is None else shown(self.growth / 2**20)

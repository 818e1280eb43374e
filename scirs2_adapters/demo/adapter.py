"""What the demo asks of each framework: to train, and to step beside the framework's own optimizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from .data import SNAPSHOTS, Digits, Settings, read_digits

Emit = Callable[..., None]
Step = Callable[[], object]


class Watch:
    """Follows a run: reports the loss of each step, and copies the parameters every few steps."""

    def __init__(self, steps: int, emit: Emit) -> None:
        self._every = max(1, steps // SNAPSHOTS)
        self._emit, self._step, self._snapshots = emit, 0, list[np.ndarray]()
        self.last: list[np.ndarray] = []

    def start(self, parameters: Sequence[np.ndarray]) -> None:
        """Keep the parameters before the first step."""
        self._keep(parameters)

    def __call__(self, loss: float, parameters: Callable[[], Sequence[np.ndarray]]) -> None:
        """One step is done; `parameters` is called only if a snapshot is due."""
        self._step += 1
        self._emit("step", step=self._step, loss=loss)
        if self._step % self._every == 0:
            self._keep(parameters())

    def finish(self, parameters: Sequence[np.ndarray]) -> None:
        """Keep the parameters after the last step."""
        self._keep(parameters)

    def save(self, file: Path) -> None:
        """Write the snapshots, one a row."""
        np.save(file, np.stack(self._snapshots))

    def _keep(self, parameters: Sequence[np.ndarray]) -> None:
        self.last = [np.array(p, dtype=np.float32) for p in parameters]
        self._snapshots.append(np.concatenate([p.ravel() for p in self.last]))


class Adapter(ABC):
    """One framework of the demo. `COUNTERPARTS`: for each of our optimizers the framework's, where it has one."""

    COUNTERPARTS: ClassVar[Mapping[str, str]] = {}

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def kinds(self, optimizer: str) -> list[str]:
        """The runs to make: ours, and the framework's own."""
        return ["ours", "own"] if optimizer in self.COUNTERPARTS else ["ours"]

    @abstractmethod
    def train(self, optimizer: str, kind: str, watch: Watch) -> tuple[float, float]:
        """Train from the first weights over all batches; return final loss and accuracy."""

    @abstractmethod
    def steppers(self, optimizer: str) -> tuple[Step, Step]:
        """Two functions that make one optimizer step on the demo's model: ours, and the framework's own."""


class DigitsAdapter(Adapter):
    """An adapter that trains the perceptron on digits."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.digits: Digits = read_digits(settings)
        rng = np.random.default_rng(settings.seed)
        self.gradients = [rng.standard_normal(p.shape).astype(np.float32) for p in self.digits.initial]

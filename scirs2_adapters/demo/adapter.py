"""What the demo asks of each framework: to train, and to step beside the framework's optimizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from .data import Settings, read_digits
from .processes import Emit

Step = Callable[[], object]
Parameters = Callable[[], Sequence[np.ndarray]]
#: Steps on a batch and returns its loss.
Learn = Callable[[np.ndarray, np.ndarray], float]


class Watch:
    """Follows a run: reports the loss of each step, and copies the parameters every few steps."""

    def __init__(self, steps: int, emit: Emit, snapshots: int) -> None:
        self._every = max(1, steps // snapshots)
        self._emit, self._step = emit, 0
        self.snapshots: list[np.ndarray] = []

    def __call__(self, loss: float, parameters: Parameters) -> None:
        """One step is done; `parameters` is called only if a snapshot is due."""
        self._step += 1
        self._emit("step", step=self._step, loss=loss)
        if self._step % self._every == 0:
            self.keep(parameters())

    def keep(self, parameters: Sequence[np.ndarray]) -> None:
        """Copy the parameters, also before the first step and after the last one."""
        self.snapshots.append(np.concatenate([np.ravel(p) for p in parameters], dtype=np.float32))


class Adapter(ABC):
    """One framework of the demo. `COUNTERPARTS`: for each of our optimizers the framework's, where it has one."""

    COUNTERPARTS: ClassVar[Mapping[str, str]] = {}

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def kinds(self, optimizer: str) -> list[str]:
        """The runs to make: ours, and the framework's own."""
        return ["ours", "own"] if optimizer in self.counterparts() else ["ours"]

    def counterparts(self) -> dict[str, str]:
        """The framework's optimizers that are run."""
        asked = self.settings.hyper if self.settings.peers else ()
        return {optimizer: theirs for optimizer, theirs in self.COUNTERPARTS.items() if optimizer in asked}

    @abstractmethod
    def train(self, optimizer: str, kind: str, watch: Watch) -> tuple[float, float]:
        """Train from the first weights over all batches; return final loss and accuracy."""

    @abstractmethod
    def walk(self, optimizer: str, kind: str, watch: Watch) -> object:
        """Train as `train` does, and return what it judges."""

    @abstractmethod
    def stepper(self, optimizer: str, kind: str) -> Step:
        """A function that makes one optimizer step on the demo's model."""


class DigitsAdapter(Adapter):
    """An adapter that trains on digits: the perceptron, if a class below it names no other model."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.digits = read_digits(settings)
        rng = np.random.default_rng(settings.seed)
        self.gradients = [rng.standard_normal(p.shape).astype(np.float32) for p in self.digits.initial]

    def train(self, optimizer: str, kind: str, watch: Watch) -> tuple[float, float]:
        return self.digits.score(self.walk(optimizer, kind, watch))

    def walk(self, optimizer: str, kind: str, watch: Watch) -> Sequence[np.ndarray]:
        learn, parameters = self.trainer(optimizer, kind)
        watch.keep(self.digits.initial)
        for x, y in zip(self.digits.x, self.digits.y, strict=True):
            watch(learn(x, y), parameters)
        watch.keep(parameters())
        return parameters()

    @abstractmethod
    def trainer(self, optimizer: str, kind: str) -> tuple[Learn, Parameters]:
        """A function that trains on one batch, from the first weights on, and one that gives the parameters."""

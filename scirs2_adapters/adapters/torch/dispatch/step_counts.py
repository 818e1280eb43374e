"""Steps counted for many parameters at once.

A `step` tensor in the state is written, never exchanged: others may hold it, in this process or, in shared memory, in
another one. Those that are made or loaded here are elements of one tensor, so that one addition counts for all of them;
any other is counted by itself.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import torch

from scirs2_adapters.core.step.plan import grouped

from ..state.memory import count_dtype
from ..state.tensors import on_host
from .param_entry import TensorEntry

Tensor = torch.Tensor
_STALE = operator.attrgetter("stale")


class CountTensor:
    """The steps of a plan that are elements of one tensor, and what a step adds to that tensor."""

    def __init__(self, flat: Tensor, steps: Sequence[Tensor]) -> None:
        self.flat, self.steps = flat, list(steps)
        self.places = {id(step): step.storage_offset() - flat.storage_offset() for step in steps}
        self.version = -1

    @functools.cached_property
    def increment(self) -> Tensor | int:
        """What is added to the tensor."""
        if len(self.places) == self.flat.numel():
            return 1
        ones = torch.zeros_like(self.flat)
        ones[sorted(self.places.values())] = 1
        return ones

    def look(self) -> None:
        """Reads the counts as they are."""
        self.values, self.version = self.flat.tolist(), self.flat._version

    @property
    def stale(self) -> bool:
        """Whether no one has looked, or a count was written since; another process leaves no trace but the values."""
        return self.flat._version != self.version or (self.flat.is_shared() and not self.flat.is_cuda)

    def advance(self) -> None:
        """Counts this step."""
        self.flat.add_(self.increment)
        self.version = self.flat._version


def together(step: Tensor) -> Tensor | None:
    """The tensor that this step is an element of, as those made here are, or None."""
    flat = step._base if type(step) is Tensor and step.device.type != "meta" else None
    fits = flat is not None and flat.ndim == 1 and flat.is_contiguous() and step.ndim == 0
    return flat if fits and type(flat) is Tensor and flat.dtype == step.dtype == count_dtype() else None


class StepCounts:
    """Tells each parameter of a plan the number of its next step, and counts it."""

    def __init__(self, entries: Sequence[TensorEntry]) -> None:
        counting = [entry.param_state for entry in entries if entry.counts]
        steps = [param_state["step"] for param_state in counting if param_state is not None]
        self.loose = [step for step in steps if together(step) is None]
        elements = grouped([step for step in steps if together(step) is not None], lambda step: id(step._base))
        self.counted = [CountTensor(steps[0]._base, steps) for steps in elements.values()]  # type: ignore[arg-type]
        self.shift = 0

    def look(self) -> None:
        """Reads the counts as they are."""
        for counted in self.counted:
            counted.look()
        self.shift = 0

    @property
    def stale(self) -> bool:
        """Whether someone else has written to a count, or may have."""
        return bool(self.loose) or any(map(_STALE, self.counted))

    @property
    def waits(self) -> bool:
        """Whether `look` waits for a device."""
        return not all(on_host(counted.flat) for counted in self.counted)

    def next(self, entry: TensorEntry) -> Tensor | int | float:
        """The number of the step that this parameter was to take when `look` was called."""
        param_state = entry.param_state
        if not entry.counts or param_state is None:
            return 1 if entry.rule.time_dependence == "none" or entry.first else 2
        step = param_state["step"]
        for counted in self.counted:
            if (place := counted.places.get(id(step))) is not None:
                return int(counted.values[place]) + 1
        return step.item() + 1 if type(step) is Tensor and on_host(step) else step.double() + 1

    def on_device(self, entry: TensorEntry) -> Tensor | None:
        """The number of its next step as a tensor, read on the device where it lies, for steps that are captured."""
        step = None if entry.param_state is None else entry.param_state["step"]
        counted = next((c for c in self.counted if id(step) in c.places), None)
        if counted is None or on_host(counted.flat):
            return None
        return counted.flat[counted.places[id(step)]].double() + 1

    def advance(self) -> None:
        """Counts this step."""
        for counted in self.counted:
            counted.advance()
        self.shift += 1
        if self.loose:
            torch._foreach_add_(self.loose, 1)

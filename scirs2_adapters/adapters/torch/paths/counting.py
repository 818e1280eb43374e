"""Steps counted for many parameters at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..state import Held, count_dtype
from .member import Member

Tensor = torch.Tensor


class Counter:
    """The steps of many parameters in one tensor of a device, of which each parameter's `step` is an element.

    One addition counts for all of them, and the tensor's version tells whether anyone else has written to one.
    """

    def __init__(self, optimizer: Any, device: torch.device) -> None:
        every = (h for h in optimizer.state.values() if isinstance(h, dict))
        self.held = [h for h in every if countable(h.get("step")) and h["step"].device == device]
        steps = [h["step"] for h in self.held]
        self.flat = torch.stack([s.detach() for s in steps]) if steps else torch.empty(0, device=device)
        for i, h in enumerate(self.held):
            h["step"] = self.flat[i]
        self.steps = [h["step"] for h in self.held]
        self.places = {id(h): i for i, h in enumerate(self.held)}

    def has(self, held: Held) -> bool:
        """Whether this memory's step is one of the elements."""
        place = self.places.get(id(held))
        return place is not None and held["step"] is self.steps[place]


def countable(step: Any) -> bool:
    """Whether a step can be an element of a `Counter`: an ordinary number, as torch makes it."""
    return type(step) is Tensor and step.dtype == count_dtype() and step.ndim == 0 and step.device.type != "meta"


class Clock:
    """Tells each member of a plan the number of its next step, and counts it."""

    def __init__(self, optimizer: Any, members: Sequence[Member]) -> None:
        counting = [m.held for m in members if m.rule.counts == "step" and m.held is not None]
        self.loose = [h["step"] for h in counting if not countable(h["step"])]
        self.counters: list[tuple[Counter, Any]] = []
        for device in dict.fromkeys(h["step"].device for h in counting if countable(h["step"])):
            plain = [h for h in counting if countable(h["step"]) and h["step"].device == device]
            counter = optimizer._counters.get(device)
            if counter is None or not all(map(counter.has, plain)):
                counter = optimizer._counters[device] = Counter(optimizer, device)
            self.counters.append((counter, _increment(counter, plain)))
        self.look()

    def look(self) -> None:
        """Reads the counts as they are."""
        self.values = {id(counter): counter.flat.tolist() for counter, _ in self.counters}
        self.versions = [counter.flat._version for counter, _ in self.counters]
        self.shift = 0

    @property
    def stale(self) -> bool:
        """Whether someone else has written to a count, or may have."""
        return bool(self.loose) or [counter.flat._version for counter, _ in self.counters] != self.versions

    def next(self, member: Member) -> Any:
        """The number of the step that this member was to take when `look` was called."""
        counts, held = member.rule.counts, member.held
        if counts != "step" or held is None:
            return 1 if counts == "none" or member.first else 2
        for counter, _ in self.counters:
            if counter.has(held):
                return int(self.values[id(counter)][counter.places[id(held)]]) + 1
        step = held["step"]
        return step.item() + 1 if type(step) is Tensor and step.device.type == "cpu" else step.double() + 1

    def on_device(self, member: Member) -> Tensor | None:
        """The number of its next step as a tensor, read on the device where it lies, for steps that are captured."""
        held = member.held
        found = (c for c, _ in self.counters if held is not None and c.has(held) and c.flat.device.type != "cpu")
        counter = next(found, None)
        return None if counter is None else counter.flat[counter.places[id(held)]].double() + 1

    def advance(self) -> None:
        """Counts this step."""
        for counter, increment in self.counters:
            counter.flat.add_(increment)
        self.versions = [counter.flat._version for counter, _ in self.counters]
        self.shift += 1
        for step in self.loose:
            step.add_(1)


def _increment(counter: Counter, plain: Sequence[Held]) -> Any:
    """What a step adds: 1 to those that take it."""
    if len(plain) == len(counter.held):
        return 1
    increment = torch.zeros_like(counter.flat)
    increment[[counter.places[id(h)] for h in plain]] = 1
    return increment

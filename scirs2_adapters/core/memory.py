"""How many bytes an optimizer takes: what `optimizer.memory()` returns in every framework.

Before a parameter's first step its state is not there yet. What it will be follows from the rule, the parameter and the
options alone (`expected`), so that nothing is allocated to find out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .formats import BLOCK_DTYPES, blocks, companion
from .rounding import ERROR_BITS, ROUNDING_ERROR, ROUNDING_SEED
from .rule import Rule
from .slots import Extent, Leaf
from .step.options import StateDtype, param_storage, slot_dtype

#: What corrects the rounding of parameters, among their arrays.
CORRECTIONS = (ROUNDING_ERROR, ROUNDING_SEED)
#: What `Memory.notes` say, in every framework.
OPERATIONS = "what the framework's own operations allocate within a step is not known"
PARTS = "of tensors that are divided over processes, the parts of this one"


@dataclass(frozen=True)
class Memory:
    """Bytes that a model's parameters and their optimizer take. `print` shows them as a table.

    `parameters` and `gradients` are those that there are now. `state` has the bytes of each slot by dtype, as they are
    from the first step on, of parameters that have not been stepped too; a slot's scales are a slot NAME_scale.
    `corrections` are rounding errors and seeds. `temporaries` are the tables and lists that steps are planned with, as
    far as a step has made them, and the most that a step allocates where that is known. `numbers` counts the elements
    of all parameters. `notes` say what else these bytes mean.

    Memory that several arrays share is counted once.
    """

    parameters: int
    gradients: int
    state: Mapping[str, Mapping[str, int]]
    corrections: int
    temporaries: int
    numbers: int
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return sum(size for _, size in self._rows())

    @property
    def bytes_per_parameter(self) -> float:
        """`total` for each element of the parameters."""
        return self.total / max(1, self.numbers)

    @property
    def state_bytes(self) -> int:
        """The state and the corrections, in bytes."""
        return sum(sum(each.values()) for each in self.state.values()) + self.corrections

    def _rows(self) -> list[tuple[str, int]]:
        slots = [(f"state {name} ({dtype})", n) for name, each in self.state.items() for dtype, n in each.items()]
        ours = [("corrections", self.corrections), ("temporaries", self.temporaries)]
        return [("parameters", self.parameters), ("gradients", self.gradients), *slots, *ours]

    def __str__(self) -> str:
        rows = [*self._rows(), ("total", self.total)]
        width, each = max(len(name) for name, _ in rows), max(1, self.numbers)
        lines = [f"{name:<{width}} {size:>18,} {size / each:>12.3f}" for name, size in rows]
        return "\n".join([f"{'':<{width}} {'bytes':>18} {'a parameter':>12}", *lines, *self.notes])


class Stored(NamedTuple):
    """Arrays of one slot, or of one companion, that have a dtype in common, and their bytes."""

    name: str
    dtype: str
    bytes: int


class Span(NamedTuple):
    """Where an array lies in one address space, from its first byte to behind its last, and how many are its bytes."""

    space: int
    start: int
    stop: int
    bytes: int


def occupied(spans: Iterable[Span]) -> int:
    """The bytes of these arrays; memory that they share is counted once."""
    total = begin = stop = size = 0
    space: int | None = None
    for x in sorted(set(spans)):
        if x.space != space or x.start >= stop:
            total += min(stop - begin, size)
            space, begin, stop, size = x.space, x.start, x.stop, 0
        stop, size = max(stop, x.stop), size + x.bytes
    return total + min(stop - begin, size)


def item_bytes(dtype: str) -> int:
    """The bytes of one number: its dtype's name ends with its bits."""
    return int(re.sub(r"\D", "", dtype)) // 8


def expected(
    rule: Rule, leaf: Leaf, state_dtype: StateDtype, rounding: str = "nearest", shape: tuple[int, ...] | None = None
) -> Iterator[Stored]:
    """The arrays of a parameter's memory under the rule that steps it; `shape` is what of it lies in this process."""
    shape = leaf.shape if shape is None else shape
    for slot in rule.slots(leaf):
        if slot.extent is Extent.MODEL:
            continue
        numbers, dtype = math.prod(slot.shape(shape)), slot_dtype(slot, leaf, state_dtype)
        if leaf.complex and slot.extent is Extent.FULL:  # two parts each, in the parameter's dtype
            dtype, numbers = f"complex{16 * item_bytes(leaf.dtype)}", numbers // 2
        yield Stored(slot.name, dtype, numbers * item_bytes(dtype))
        if dtype in BLOCK_DTYPES:
            yield Stored(companion(slot.name, dtype) or "", "float32", 4 * blocks(numbers))
    stored = param_storage(leaf, rounding, state_dtype)
    if (name := companion("p", stored)) is not None:
        kind = stored.partition("+")[2]
        by_number = kind in ERROR_BITS  # a seed is one integer for the parameter
        yield Stored(name, kind if by_number else "int32", math.prod(shape) * item_bytes(kind) if by_number else 4)


def completed(present: Iterable[Stored], wanted: Iterable[Stored]) -> list[Stored]:
    """The arrays that a parameter has, and those that are expected of slots that it has not."""
    present = list(present)
    names = {x.name for x in present}
    return [*present, *(x for x in wanted if not {x.name, x.name.removesuffix("_scale")} & names)]


def report(
    parameters: int, numbers: int, gradients: int, arrays: Iterable[Stored], temporaries: int = 0, *notes: str
) -> Memory:
    """The report of these bytes and arrays."""
    state: dict[str, dict[str, int]] = {}
    corrections = 0
    for name, dtype, size in arrays:
        if name in CORRECTIONS:
            corrections += size
        else:
            by_dtype = state.setdefault(name, {})
            by_dtype[dtype] = by_dtype.get(dtype, 0) + size
    return Memory(parameters, gradients, state, corrections, temporaries, numbers, notes)

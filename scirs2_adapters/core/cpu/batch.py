"""The parameters that one compiled program serves, and how a pass over them is run."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..eigenbases import gram_numbers, moved_gram
from ..formats import BLOCK_DTYPES, DITHER
from ..kronecker import factor_numbers, moved_factor
from ..matrix import COPIES, LAST_AXES, matrices
from ..newton_schulz import orthogonalize, orthogonalize_numbers
from ..ops import Array
from ..program.recorded import Program
from ..projections import across, at_random, basis_numbers, normalized, random_numbers_held, spanned, spanned_numbers
from ..slices import largest, plus_least
from ..slots import Extent
from ..step.plan import array_names
from ..step.reference import NUMPY
from . import compile
from .kernel import CompiledPass, Kernel, kernel, over_numbers, pass_arrays, uses_rows
from .layout import MAX_WORKERS, WORD_BYTES, Item, Work
from .lines import Lines
from .noise import normals, random
from .region import NO_REGION, ParallelRegion
from .work_items import flat_items, row_items

#: Below this many numbers for each thread, starting the thread costs more than it saves, and more still if threads of
#: the framework spin.
SHARE = 1 << 19
#: The same where each number takes several times as long: codes of 8 bits, powers.
SLOW_SHARE = 1 << 17
#: The same where threads are there already.
REGION_SHARE = 1 << 16
#: How many assignments of coefficients to tensors a batch remembers; each costs 64 bytes an item.
REMEMBERED = 16
#: How many values like a projection are kept until the step ends (the moments and the step), and while one is computed.
_KEPT, _TRANSIENT = 3, 2
#: How many numbers numpy buffers where both operands are broadcast.
_BUFFERED = 2 << 13
_NOTHING = np.empty(0)
_IN_PLACE = ctypes.c_char * 0
#: Calls a function of matrices with arrays and numbers, and options.
MatrixCall = Callable[[Callable[..., Array], Sequence[Array], Mapping[str, object]], np.ndarray]


def addresses_of(arrays: Sequence[np.ndarray]) -> list[int]:
    """The addresses of the arrays' memory. For contiguous and writeable arrays, the buffer protocol gives them five
    times as fast as the array interface.
    """
    try:
        return list(map(ctypes.addressof, map(_IN_PLACE.from_buffer, arrays)))  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):
        return [x.__array_interface__["data"][0] for x in arrays]


def address(x: np.ndarray) -> int:
    """The address of one array's memory."""
    return addresses_of([x])[0]


#: numpy's operations, and compiled loops where it would take dozens of them.
OPS = replace(NUMPY, random=random, normal=normals)


def by_numpy(function: Callable[..., Array], args: Sequence[Array], options: Mapping[str, object]) -> np.ndarray:
    """By the BLAS and LAPACK of numpy."""
    result: np.ndarray = function(OPS, *args, **options)
    return result


@dataclass(frozen=True)
class Launch:
    """What is the same at each call of a pass: its items, how many sums it yields, and the words for the driver."""

    items: np.ndarray
    sums: int
    work: ctypes.Array[ctypes.c_int64]


#: How many numbers a function of matrices holds at a time, for a tensor of this shape; of others `COPIES` says it.
_SCRATCH: dict[Callable[..., Array], Callable[[tuple[int, ...], Mapping[str, Any]], int]] = {
    orthogonalize: lambda shape, options: orthogonalize_numbers(shape, options.get("matrix", LAST_AXES)),
    at_random: lambda shape, options: random_numbers_held(shape, options["matrix"]),
    moved_gram: lambda shape, options: gram_numbers(shape, options["side"], options.get("matrix", LAST_AXES)),
    largest: lambda shape, options: sum(shape),
    plus_least: lambda shape, options: math.prod(shape) + _BUFFERED,
    moved_factor: lambda shape, options: factor_numbers(shape, options["side"], options["matrix"]),
    spanned: lambda shape, options: spanned_numbers(shape, options["matrix"]),
}
#: How many numbers those return that are of a side.
_OF_SIDES: dict[Callable[..., Array], Callable[[tuple[int, ...], Mapping[str, Any]], int]] = {
    **dict.fromkeys(
        (moved_gram, moved_factor),
        lambda shape, options: gram_numbers(shape, options["side"], options.get("matrix", LAST_AXES)),
    ),
    **dict.fromkeys((largest, plus_least), lambda shape, options: sum(shape)),
    **dict.fromkeys(
        (across, normalized),
        lambda shape, options: basis_numbers(shape, options["matrix"], options["matrix"].projected),
    ),
    spanned: lambda shape, options: basis_numbers(shape, options["matrix"], options["matrix"].kept),
}


def _along(extent: Extent, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of an array of this extent, for a tensor of this shape."""
    kept = {Extent.ROW: shape[:-1], Extent.COLUMN: (*shape[:-2], *shape[-1:]), Extent.BATCH: shape[:-2]}
    return kept.get(extent, shape)


def in_blocks(dtypes: Mapping[str, str]) -> bool:
    """Whether any array is stored in blocks, which no two threads may share."""
    return any(dtype in BLOCK_DTYPES for dtype in dtypes.values())


class Batch:
    """Parameters with one program and one tuple of storage dtypes; immutable, and safe to use from several threads at
    once.

    `arrays` names what the columns of an address table are: the parameter, its gradient, and each slot that is an
    array. `call` calls functions of matrices. `region` has threads that are there already.
    """

    def __init__(
        self,
        program: Program,
        shapes: Sequence[tuple[int, ...]],
        dtypes: Mapping[str, str],
        emit: str = "p",
        compiled: Kernel | None = None,
        call: MatrixCall = by_numpy,
        region: ParallelRegion = NO_REGION,
    ) -> None:
        self.program, self.call, self.region = program, call, region
        self.shapes = [tuple(s) for s in shapes]
        self.kernel = compiled or kernel(program, dtypes, emit)
        self.arrays = array_names(program.slots, dtypes)
        self.by_rows = uses_rows(program)
        self.matrices = [matrices(program.lines, s) for s in self.shapes] if program.looked else self.shapes
        self.at_once = program.levels == 0 and all(s.extent in (Extent.FULL, Extent.TENSOR) for s in program.slots)
        along_rows = any(p.parts.by_rows for p in self.kernel.passes)  # no pass walks what is of a side
        self.items = row_items(self.matrices, in_blocks(dtypes)) if along_rows else flat_items(self.shapes)
        numbers = sum(math.prod(s) for s in self.shapes)
        slow = in_blocks(dtypes) or any(node.op == "power" for node in program.nodes)
        share = REGION_SHARE if region.address else SLOW_SHARE if slow else SHARE
        #: How many threads are worth their start.
        self.most_workers = max(1, min(len(self.items), numbers // share, MAX_WORKERS))
        first = self.kernel.passes[0]
        self.scalars = [program.nodes[i].name for i in first.parts.coefficients] + [DITHER] * first.dithered
        self.every_tensor = np.arange(len(self.shapes))
        self._columns = [self._pick(p) for p in self.kernel.passes]
        self._launches: dict[tuple[int, int, bytes], Launch] = {}

    @functools.cached_property
    def first(self) -> Batch | None:
        """The batch that runs before the only pass of a rule with slots of one number, which are its tensors."""
        if (compiled := over_numbers(self.kernel)) is None:
            return None
        return Batch(self.program, [()] * len(self.shapes), compiled.dtypes, compiled=compiled)

    @functools.cached_property
    def lines(self) -> Lines:
        """Where the rows and columns of each tensor stand among those of all."""
        return Lines(self.matrices)

    @property
    def allocated(self) -> int:
        """Bytes of its work lists, and of the arrays that exist only between the passes of a step."""
        launches, first = self._launches.values(), vars(self).get("first")
        lines = self.lines.nbytes if "lines" in vars(self) else 0
        kept = sum(x.nbytes for x in (self.items, self.every_tensor, *(launch.items for launch in launches)))
        kept += sum(ctypes.sizeof(launch.work) for launch in launches) + (first.allocated if first else 0)
        sums = WORD_BYTES * max((launch.sums for launch in launches), default=0)
        computed = {a.name: a.extent for p in self.kernel.passes for a in p.parts.arrays if a.computed and a.node >= 0}
        small = [node.extent for node in self.program.nodes if Extent.TENSOR < node.extent < Extent.FULL]
        squares = self._numbers_of_matrices[1]
        numbers = np.dtype(self.kernel.compute).itemsize * (self._numbers(computed.values()) + squares)
        return kept + lines + sums + numbers + WORD_BYTES * (self._numbers(small) + _KEPT * self._low)

    @property
    def transient(self) -> int:
        """The most bytes that exist while one function of matrices runs or one value like a projection is computed,
        without the results that are like the parameter.
        """
        matrices = [n.extent for n in self.program.nodes if n.op == "matrix" and n.extent is Extent.FULL]
        size, returned = np.dtype(self.kernel.compute).itemsize, self._numbers(matrices[:1])
        of_projections = (WORD_BYTES * _TRANSIENT + size) * self._low  # with the projection that it is computed of
        return max(size * self._numbers_of_matrices[0], of_projections - size * returned)

    @property
    def _low(self) -> int:
        """How many numbers the projections of all tensors have."""
        slot = next((s for s in self.program.slots if s.extent is Extent.LOW), None)
        return sum(math.prod(slot.shape(shape)) for shape in self.shapes) if slot else 0

    @functools.cached_property
    def _numbers_of_matrices(self) -> tuple[int, int]:
        """How many numbers functions of matrices need: the most that one holds, and the results of sides of all."""
        most, squares = 0, 0
        for node in self.program.nodes:
            function, options = node.static if node.op == "matrix" else (None, ())
            if function in COPIES:
                most = max(most, *(COPIES[function] * math.prod(shape) for shape in self.shapes))
            if function in _SCRATCH:
                numbers = [_SCRATCH[function](shape, dict(options)) for shape in self.shapes]
                most = max(most, *numbers)
            if function in _OF_SIDES and node.extent is Extent.SIDE:
                squares += sum(_OF_SIDES[function](shape, dict(options)) for shape in self.shapes)
        return most, squares

    def _numbers(self, extents: Iterable[Extent]) -> int:
        """How many numbers arrays of these extents have, for all tensors."""
        return sum(math.prod(_along(extent, shape)) for extent in extents for shape in self.matrices)

    def _pick(self, this: CompiledPass) -> list[int] | None:
        """Which columns of the caller's table a pass needs; None for the table as it is."""
        names = tuple(pass_arrays(this.parts, self.kernel.dtypes))
        return None if names == self.arrays else [self.arrays.index(n) if n in self.arrays else -1 for n in names]

    def table(self, level: int, addresses: np.ndarray, computed: Mapping[str, Sequence[np.ndarray]]) -> np.ndarray:
        """The addresses for one pass, those of the arrays `computed` in this step among them: one for each tensor, or
        one of the rows or columns of all.
        """
        if (columns := self._columns[level]) is None:
            return addresses
        table = addresses.take(columns, axis=1)
        for k, a in enumerate(self.kernel.passes[level].parts.arrays):
            if a.computed and a.extent is Extent.FULL:
                table[:, k] = addresses_of(computed[a.name])
            elif a.computed:
                (x,) = computed[a.name]
                table[:, k] = address(x) + x.itemsize * self.lines.starts[a.extent]
        return table

    def run_pass(
        self, level: int, table: np.ndarray, coefficients: int, rows: np.ndarray | None, threads: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Runs one pass; returns its sums and the items whose OUT says where each item's are.

        `coefficients` is the address of rows; `rows` says which of them each tensor takes, or is None if there is one.
        """
        launch = self._launch(level, rows, threads)
        out = np.empty(launch.sums) if launch.sums else _NOTHING
        work = type(launch.work).from_buffer_copy(launch.work)
        work[Work.TABLE], work[Work.TABLE_STRIDE] = address(table), table.strides[0]
        work[Work.COEFFICIENTS] = coefficients
        work[Work.OUT], work[Work.REGION] = address(out) if launch.sums else 0, self.region.address
        compile.function_of("driver", "drive")(ctypes.addressof(work))
        return out, launch.items

    def _launch(self, level: int, rows: np.ndarray | None, threads: int) -> Launch:
        """Remembered, because the same rows come at each step."""
        workers = min(threads, self.most_workers)
        key = (level, workers, b"" if rows is None else rows.tobytes())
        if (launch := self._launches.get(key)) is None:
            if len(self._launches) >= REMEMBERED:
                self._launches.clear()
            launch = self._launches[key] = self.new_launch(level, rows, workers)
        return launch

    def new_launch(self, level: int, rows: np.ndarray | None, workers: int) -> Launch:
        """The call of a pass by this many threads, without the addresses of a step."""
        items, compiled = self.items.copy(), self.kernel.passes[level]
        items[:, Item.COEFFICIENT_ROW] = 0 if rows is None else rows[items[:, Item.TENSOR]]
        sizes = len(compiled.parts.sums) + len(compiled.parts.columns) * items[:, Item.COLUMNS]
        items[:, Item.OUT] = np.cumsum(sizes) - sizes
        work = (ctypes.c_int64 * (Work.THREADS + 2 * workers))()
        work[Work.KERNEL], work[Work.WORKER] = compiled.address, compile.address_of("driver", "worker")
        work[Work.COEFFICIENT_STRIDE] = np.dtype(self.kernel.compute).itemsize * compiled.width
        work[Work.WORKERS], work[Work.ITEMS], work[Work.COUNT] = workers, address(items), len(items)
        return Launch(items, int(sizes.sum()), work)

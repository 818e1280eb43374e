"""Parameters on a CUDA device, stepped by one launch of a kernel that Triton compiles from the recorded formula.

As on the host: a table of addresses, a list of (tensor, stretch) items over all tensors, a row of coefficients for
each tensor. Coefficients may be tensors on the device, so that a captured step needs nothing of the host.
"""

from __future__ import annotations

import functools
import importlib.util
import linecache
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import numpy as np
import torch

from scirs2_adapters.core import formats
from scirs2_adapters.core.cpu import engine as host
from scirs2_adapters.core.cpu.batch import in_blocks
from scirs2_adapters.core.cpu.emit import dithered, operation
from scirs2_adapters.core.cpu.storage import compute_dtype
from scirs2_adapters.core.formats import BLOCK_DTYPES, DITHER, companion
from scirs2_adapters.core.ops import Scalar
from scirs2_adapters.core.program.passes import split_passes
from scirs2_adapters.core.program.recorded import Program
from scirs2_adapters.core.rounding import STOCHASTIC
from scirs2_adapters.core.step.plan import array_names
from scirs2_adapters.core.step.protocols import KernelEntry, Model, Scalars

from ..dispatch.param_entry import TensorEntry
from ..state.tensors import Tensor, dtype_name
from .sparse import is_sparse
from .triton_formats import function_name, functions


class Kernel(Protocol):
    """A function that Triton has compiled: `kernel[(programs,)](*arrays)` queues it."""

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]: ...


#: Numbers that one program of the launch walks, and how many at a time.
CHUNK, BLOCK, WARPS = 8192, 1024, 4
#: What lets a thread load 16 bytes at once.
ALIGNMENT = 16
#: What arrays consist of; Triton calls it the same.
KINDS = ("float64", "float32", "float16", "bfloat16", "int8", "uint8", "int16", "int32")
#: The dtypes of companions whose storage does not say them: scales and seeds.
_OTHERS = {"": "float32", "stochastic": "int32"}


def kernel_obstacle(program: Program, tensors: Mapping[str, Tensor]) -> str | None:
    """Why no kernel of ours can step these tensors, or None."""
    if any(x.device.type != "cuda" or x.layout is not torch.strided for x in tensors.values()):
        return "it is not all in CUDA memory"
    if any(type(x).__torch_dispatch__ is not Tensor.__torch_dispatch__ for x in tensors.values()):
        return "a tensor computes in its own way"
    if any(dtype_name(x.dtype) not in KINDS for x in tensors.values()):
        return "a dtype is none that it computes with"
    return formula_obstacle(program) or (None if _has_triton() else "Triton is not installed")


def formula_obstacle(program: Program) -> str | None:
    """Why no kernel of ours has this formula, or None."""
    small = any(s.extent < s.extent.FULL for s in program.slots)
    return "the formula looks at whole tensors" if program.levels or small else None


def steps(entry: TensorEntry, g: Tensor, kernel: str) -> bool:
    """Whether a kernel of its device steps this parameter; `kernel` is what the user has asked for."""
    if kernel == "traced" or entry.p.device.type != "cuda" or torch.is_grad_enabled() or entry.divided is not None:
        return False
    tensors = dict(zip(entry.names, entry.arrays(g._values() if is_sparse(g) else g), strict=True))
    return kernel_obstacle(entry.program, tensors) is None


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


class Batch:
    """Parameters of one program and one tuple of dtypes on one device."""

    #: Its one launch makes no arrays.
    transient = 0

    def __init__(self, program: Program, shapes: Sequence[tuple[int, ...]], dtypes: Mapping[str, str]) -> None:
        self.compute = compute_dtype(dtypes["p"])
        self.program, self.dtypes = program, tuple(dtypes.items())
        text = _Text(program, dtypes)
        self.scalars = [program.nodes[i].name for i in text.parts.coefficients] + [DITHER] * text.dithered
        sizes = [math.prod(s) for s in shapes]
        items = [(k, o, min(CHUNK, n - o)) for k, n in enumerate(sizes) for o in range(0, n, CHUNK)]
        self.items = np.array(items, dtype=np.int64).reshape(-1, 3)
        self.sent: dict[str, tuple[bytes, Tensor]] = {}

    @property
    def allocated(self) -> int:
        """Bytes of its list of work, here and on the device."""
        return self.items.nbytes + sum(x.nbytes for _, x in self.sent.values())


class Engine:
    """What `core.cpu.engine` is for host memory, for that of one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def plan(self, entries: Sequence[KernelEntry]) -> list[tuple[Batch, list[int]]]:
        """Sorts (program, shape, dtypes) of parameters into batches; with each, the positions of its parameters."""
        return host.plan_batches(entries, Batch)

    def run(
        self,
        batches: Sequence[Batch],
        tables: Sequence[np.ndarray],
        scalars: Sequence[Sequence[Scalars]],
        rows: Sequence[np.ndarray | None],
        model: Model,
        threads: int | None,
    ) -> dict[str, float]:
        """One step of all batches, in place, queued on the device's current stream."""
        del model, threads
        for batch, table, batch_scalars, row in zip(batches, tables, scalars, rows, strict=True):
            if len(batch.items):
                with torch.cuda.device(self.device):
                    self._launch(batch, table, batch_scalars, np.zeros(len(table), np.int64) if row is None else row)
        return {}

    def _launch(self, batch: Batch, table: np.ndarray, scalars: Sequence[Scalars], row: np.ndarray) -> None:
        aligned = not (np.bitwise_or.reduce(table, axis=None) % ALIGNMENT)
        kernel = _kernel(batch.program, batch.dtypes, aligned)
        sent = [self._sent(batch, name, x) for name, x in (("table", table), ("items", batch.items), ("row", row))]
        coefficients = self._coefficients(batch, scalars)
        kernel[(len(batch.items),)](*sent, coefficients, num_warps=WARPS, enable_fp_fusion=False)

    def _sent(self, batch: Batch, name: str, x: np.ndarray) -> Tensor:
        """The array on the device, sent again only if it has changed."""
        known, there = batch.sent.get(name, (b"", None))
        now = x.tobytes()
        if there is None or known != now:
            there = torch.from_numpy(x.copy()).pin_memory().to(self.device, non_blocking=True)
            batch.sent[name] = now, there
        return there

    def _coefficients(self, batch: Batch, scalars: Sequence[Scalars]) -> Tensor:
        values = [row[name] for row in scalars for name in batch.scalars]
        dtype = getattr(torch, batch.compute)
        if any(isinstance(v, Tensor) for v in values):
            return torch.stack([self._number(v) for v in values]).to(dtype)
        return torch.tensor(values or [0.0], dtype=dtype).pin_memory().to(self.device, non_blocking=True)

    def _number(self, value: Scalar) -> Tensor:
        if isinstance(value, Tensor):
            return value.to(device=self.device, dtype=torch.float64).reshape(())
        return torch.full((), value, dtype=torch.float64, device=self.device)


@functools.cache
def _kernel(program: Program, dtypes: tuple[tuple[str, str], ...], aligned: bool) -> Kernel:
    return compiled(source(program, dict(dtypes), aligned), program.rule)


def compiled(text: str, called: str) -> Kernel:
    """The function `kernel` of a text; Triton reads the source of what it compiles, so the text gets a file name."""
    import triton

    name = f"<scirs2 {called} {hash(text):x}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    space: dict[str, object] = {"triton": triton, "tl": triton.language, "__name__": __name__}
    exec(compile(text, name, "exec"), space)
    return cast(Kernel, space["kernel"])


def source(program: Program, dtypes: Mapping[str, str], aligned: bool) -> str:
    """The text of the kernel: addresses, coefficients, then the formula, one line an operation."""
    text = _Text(program, dtypes)
    # A mask keeps loads from being wide; only the last stretch of a tensor needs one.
    lines = [*text.head(aligned), f"    if length == {CHUNK}:", *text.loop(masked=False), "    else:"]
    return "\n".join([*lines, *text.loop(masked=True)]) + "\n"


class _Text:
    """The lines of a kernel. `a3` points to array 3 and `z3` to its companion, `s3` is its seed; `x5` is node 5. In a
    loop, `i` are the elements of a tensor, `b` its blocks, and `places` the elements' in their blocks: a tile has one
    block in each row.
    """

    def __init__(self, program: Program, dtypes: Mapping[str, str]) -> None:
        self.program, self.dtypes, this = program, dtypes, split_passes(program, "p")[0]
        self.wide, self.parts = f"tl.{compute_dtype(dtypes['p'])}", this
        self.columns = array_names(program.slots, dtypes)
        self.storages = [dtypes[a.name] for a in this.arrays]
        self.dithered = dithered(this, self.storages)

    def head(self, aligned: bool) -> list[str]:
        """Before the loops."""
        this = self.parts
        coefficients = [f"x{i}" for i in this.coefficients] + ["dither"] * self.dithered
        coded = dict.fromkeys(dtype for dtype in self.storages if companion("", dtype))
        lines = [*_HELPERS[self.wide], *(text for dtype in coded for text in functions(dtype))]
        lines += ["", "@triton.jit", "def kernel(table, items, coefficient_row, coefficients):"]
        lines += ["    item = items + tl.program_id(0).to(tl.int64) * 3"]
        lines += ["    tensor, length = tl.load(item), tl.load(item + 2)"]
        lines += [f"    offset = tl.multiple_of(tl.load(item + 1), {CHUNK})"]
        lines += [f"    row = coefficients + tl.load(coefficient_row + tensor) * {len(coefficients)}"]
        for k, a in enumerate(this.arrays):
            stored, _, other = self.storages[k].partition("+")
            lines += [f"    a{k} = {self._pointer(a.name, stored, aligned)}"]
            if name := companion(a.name, self.storages[k]):
                lines += [f"    z{k} = {self._pointer(name, _OTHERS.get(other, other), aligned)}"]
            lines += [f"    s{k} = tl.load(z{k})"] * self._seeded(k)
        return lines + [f"    {name} = tl.load(row + {k})" for k, name in enumerate(coefficients)]

    def _seeded(self, k: int) -> bool:
        return self.storages[k].endswith(STOCHASTIC)

    def _pointer(self, name: str, dtype: str, aligned: bool) -> str:
        """Where this array of a tensor begins."""
        place = f"tl.load(table + tensor * {len(self.columns)} + {self.columns.index(name)})"
        pointer = f"{place}.to(tl.pointer_type(tl.{dtype}))"
        return f"tl.multiple_of({pointer}, {ALIGNMENT})" if aligned else pointer

    def loop(self, masked: bool) -> list[str]:
        """The formula for a stretch, BLOCK numbers at a time."""
        lines = [f"for start in range(0, {CHUNK}, {BLOCK}):"]
        if in_blocks(self.dtypes):
            lines += [f"    places = tl.arange(0, {formats.BLOCK})[None, :]"]
            lines += [f"    first = start + tl.arange(0, {BLOCK // formats.BLOCK})[:, None] * {formats.BLOCK}"]
            lines += [f"    b = (offset + first) // {formats.BLOCK}", "    j = first + places", "    i = offset + j"]
        else:
            lines += [f"    j = start + tl.arange(0, {BLOCK})", "    i = offset + j"]
        for k, a in enumerate(self.parts.arrays):
            lines += [f"    x{a.node} = {self._load(k, masked)}.to({self.wide})"] * (a.node >= 0)
        lines += [f"    x{i} = {_operation(self.program, i)}" for i in self.parts.body]
        for k, i in self.parts.stores.items():
            lines += self._store(k, f"x{i}", masked)
        return [" " * 8 + line for line in lines]

    def _load(self, k: int, masked: bool) -> str:
        mask, dtype = ", j < length" if masked else "", self.storages[k]
        loaded = f"tl.load(a{k} + i{mask})"
        if not companion("", dtype):
            return loaded
        place, other_mask = self._place(k, masked)
        other = f"s{k}" if self._seeded(k) else f"tl.load({place}{other_mask})"
        return f"{function_name('load', dtype)}({loaded}, {other})"

    def _store(self, k: int, x: str, masked: bool) -> list[str]:
        mask, dtype = ", j < length" if masked else "", self.storages[k]
        if not companion("", dtype):
            return [f"    tl.store(a{k} + i, {x}{mask})"]
        # What lies behind the end of a tensor must not count in the scale.
        x = f"tl.where(j < length, {x}, 0.0)" if masked else x
        seed = f"s{k}" if self._seeded(k) else "0"
        places = "places" if dtype in BLOCK_DTYPES else "i.to(tl.int32)"
        number = "dither" if self.dithered else "0.5"
        call = f"{function_name('store', dtype)}({x}.to(tl.float32), {number}, {seed}, {places})"
        lines = [f"    y, z = {call}", f"    tl.store(a{k} + i, y{mask})"]
        place, other_mask = self._place(k, masked)
        return lines + [f"    tl.store({place}, z{other_mask})"] * (not self._seeded(k))

    def _place(self, k: int, masked: bool) -> tuple[str, str]:
        """Where the companion's numbers are, and its mask."""
        by_block = self.storages[k] in BLOCK_DTYPES
        mask = f", {'first' if by_block else 'j'} < length" if masked else ""
        return f"z{k} + {'b' if by_block else 'i'}", mask


def _operation(program: Program, index: int) -> str:
    node = program.nodes[index]
    return "div_(x{}, x{})".format(*node.args) if node.op == "div" else operation(program, index)


def _helpers(root: str, quotient: str) -> list[str]:
    bodies = {"select(c, a, b)": "tl.where(c, a, b)", "sqrt_(x)": root, "abs_(x)": "tl.abs(x)", "div_(a, b)": quotient}
    of_zero = "tl.where(a < 0.0, float('inf'), tl.where(a == 0.0, 1.0, 0.0))"
    bodies["power_(x, a)"] = f"tl.where(x == 0.0, {of_zero}, tl.exp2(a * tl.log2(tl.where(x == 0.0, 1.0, x))))"
    functions = [f"@triton.jit\ndef {name}:\n    return {body}\n" for name, body in bodies.items()]
    return [*functions, "zero, one = tl.constexpr(0.0), tl.constexpr(1.0)"]


#: Roots and quotients rounded to nearest, for which Triton has other names in float32.
_HELPERS = {"tl.float32": _helpers("tl.sqrt_rn(x)", "tl.div_rn(a, b)"), "tl.float64": _helpers("tl.sqrt(x)", "a / b")}

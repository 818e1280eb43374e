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

from scirs2_adapters.core.cpu import engine as host
from scirs2_adapters.core.cpu.emit import operation
from scirs2_adapters.core.cpu.storage import STORAGES, compute_dtype
from scirs2_adapters.core.ops import Scalar
from scirs2_adapters.core.program.passes import Pass, split_passes
from scirs2_adapters.core.program.recorded import Program
from scirs2_adapters.core.step.protocols import KernelEntry, Model, Scalars

from ..dispatch.param_entry import TensorEntry
from ..state.tensors import Tensor, dtype_name
from .sparse import is_sparse


class Kernel(Protocol):
    """A function that Triton has compiled: `kernel[(programs,)](*arrays)` queues it."""

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]: ...


#: Numbers that one program of the launch walks, and how many at a time.
CHUNK, BLOCK, WARPS = 8192, 1024, 4
#: What lets a thread load 16 bytes at once.
ALIGNMENT = 16
_KINDS = {"float64": "tl.float64", "float32": "tl.float32", "float16": "tl.float16", "bfloat16": "tl.bfloat16"}


def kernel_obstacle(program: Program, tensors: Mapping[str, Tensor]) -> str | None:
    """Why no kernel of ours can step these tensors, or None."""
    if any(x.device.type != "cuda" or x.layout is not torch.strided for x in tensors.values()):
        return "it is not all in CUDA memory"
    if any(type(x).__torch_dispatch__ is not Tensor.__torch_dispatch__ for x in tensors.values()):
        return "a tensor computes in its own way"
    if any(dtype_name(x.dtype) not in STORAGES for x in tensors.values()):
        return "a dtype is none that it computes with"
    if program.levels or any(s.extent < s.extent.FULL for s in program.slots):
        return "the formula looks at whole tensors"
    return None if _has_triton() else "Triton is not installed"


def steps(entry: TensorEntry, g: Tensor, kernel: str) -> bool:
    """Whether a kernel of its device steps this parameter; `kernel` is what the user has asked for."""
    if kernel == "traced" or entry.p.device.type != "cuda" or torch.is_grad_enabled() or entry.divided is not None:
        return False
    if entry.companions:  # torch's own operations step them there
        return False
    tensors = dict(zip(entry.names, entry.arrays(g._values() if is_sparse(g) else g), strict=True))
    return kernel_obstacle(entry.program, tensors) is None


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


class Batch:
    """Parameters of one program and one tuple of dtypes on one device."""

    def __init__(self, program: Program, shapes: Sequence[tuple[int, ...]], dtypes: Mapping[str, str]) -> None:
        self.compute = compute_dtype(dtypes["p"])
        self.program, self.dtypes = program, tuple(dtypes.items())
        self.scalars = [program.nodes[i].name for i in split_passes(program, "p")[0].coefficients]
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
        threads: int,
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
    """The compiled function; Triton wants to read the source of what it compiles, so it is given a name for it."""
    import triton

    text = source(program, dict(dtypes), aligned)
    name = f"<scirs2 {program.rule} {hash(text):x}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    space: dict[str, object] = {"triton": triton, "tl": triton.language, "__name__": __name__}
    exec(compile(text, name, "exec"), space)
    return cast(Kernel, space["kernel"])


def source(program: Program, dtypes: Mapping[str, str], aligned: bool) -> str:
    """The text of the kernel: addresses, coefficients, then the formula, one line an operation."""
    this, wide = split_passes(program, "p")[0], _KINDS[compute_dtype(dtypes["p"])]
    columns = list(dtypes)
    lines = [*_HELPERS[wide], "", "@triton.jit", "def kernel(table, items, coefficient_row, coefficients):"]
    lines += ["    item = items + tl.program_id(0).to(tl.int64) * 3"]
    lines += ["    tensor, length = tl.load(item), tl.load(item + 2)"]
    lines += [f"    offset = tl.multiple_of(tl.load(item + 1), {CHUNK})"]
    lines += [f"    row = coefficients + tl.load(coefficient_row + tensor) * {len(this.coefficients)}"]
    for k, a in enumerate(this.arrays):
        place = f"tl.load(table + tensor * {len(columns)} + {columns.index(a.name)})"
        pointer = f"{place}.to(tl.pointer_type({_KINDS[dtypes[a.name]]}))"
        lines += [f"    a{k} = " + (f"tl.multiple_of({pointer}, {ALIGNMENT})" if aligned else pointer)]
    lines += [f"    x{i} = tl.load(row + {k})" for k, i in enumerate(this.coefficients)]
    # A mask keeps loads from being wide; only the last stretch of a tensor needs one.
    lines += [f"    if length == {CHUNK}:", *_loop(program, this, wide, ""), "    else:"]
    return "\n".join([*lines, *_loop(program, this, wide, ", j < length")]) + "\n"


def _loop(program: Program, this: Pass, wide: str, mask: str) -> list[str]:
    lines = [f"for start in range(0, {CHUNK}, {BLOCK}):"]
    lines += [f"    j = start + tl.arange(0, {BLOCK})", "    i = offset + j"]
    lines += [f"    x{a.node} = tl.load(a{k} + i{mask}).to({wide})" for k, a in enumerate(this.arrays) if a.node >= 0]
    lines += [f"    x{i} = {_operation(program, i)}" for i in this.body]
    lines += [f"    tl.store(a{k} + i, x{i}{mask})" for k, i in this.stores.items()]
    return [" " * 8 + line for line in lines]


def _operation(program: Program, index: int) -> str:
    node = program.nodes[index]
    return "div_(x{}, x{})".format(*node.args) if node.op == "div" else operation(program, index)


def _helpers(root: str, quotient: str) -> list[str]:
    bodies = {"select(c, a, b)": "tl.where(c, a, b)", "sqrt_(x)": root, "abs_(x)": "tl.abs(x)", "div_(a, b)": quotient}
    functions = [f"@triton.jit\ndef {name}:\n    return {body}\n" for name, body in bodies.items()]
    return [*functions, "zero, one = tl.constexpr(0.0), tl.constexpr(1.0)"]


#: Roots and quotients rounded to nearest, for which Triton has other names in float32.
_HELPERS = {"tl.float32": _helpers("tl.sqrt_rn(x)", "tl.div_rn(a, b)"), "tl.float64": _helpers("tl.sqrt(x)", "a / b")}

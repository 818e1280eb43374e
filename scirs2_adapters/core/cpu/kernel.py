"""A compiled program: the passes of a rule's step for one tuple of storage dtypes."""

from __future__ import annotations

import functools
import linecache
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import CodeType

from ..errors import bad_value
from ..formats import companion
from ..program.passes import Pass, numbers, split_passes
from ..program.recorded import Program
from ..slots import Extent
from .compile import compiler_obstacle, load, native, sources
from .emit import dithered, source
from .storage import FLOATS, STORAGES, compute_dtype

#: Addresses of the arrays' addresses, of the work item, of the coefficients and of the sums.
SIGNATURE = "void(intp, intp, intp, intp)"
_WAY_OUT = 'Use kernel="traced" or "auto".'


@dataclass(frozen=True)
class CompiledPass:
    """A pass, the address of its machine code, and whether its last coefficient is the step's `dither`."""

    parts: Pass
    address: int
    dithered: bool = False

    @property
    def width(self) -> int:
        """How many coefficients it takes."""
        return len(self.parts.coefficients) + self.dithered


@dataclass(frozen=True, eq=False)
class Kernel:
    """All passes of a program in machine code, made once. `dtypes` maps "p", "g" and each slot to its storage;
    `compute` is the arithmetic's.
    """

    program: Program
    dtypes: Mapping[str, str]
    compute: str
    passes: tuple[CompiledPass, ...]


def kernel_obstacle(dtypes: Mapping[str, str]) -> str | None:
    """Why these arrays cannot be stepped by a host kernel here, or None."""
    for name, dtype in dtypes.items():
        if dtype not in STORAGES:
            array = "the parameter" if name == "p" else name
            return f"{array} has dtype {dtype}; it computes with {', '.join(FLOATS)}"
    return compiler_obstacle()


def kernel(program: Program, dtypes: Mapping[str, str], emit: str = "p") -> Kernel:
    """The kernel of a program for these storage dtypes; compiled on first use and remembered."""
    if obstacle := kernel_obstacle(dtypes):
        raise bad_value("", "kernel", f"cannot be the host kernel here: {obstacle}", "host", _WAY_OUT)
    return _kernel(program, tuple(sorted(dtypes.items())), emit)


@functools.cache
def over_numbers(after: Kernel) -> Kernel | None:
    """The kernel that makes the coefficients of this one and steps the slots of one number; None if it needs none."""
    program, stored = after.program, dict(after.dtypes)
    if (this := numbers(program, after.passes[0].parts)) is None:
        return None
    return Kernel(program, stored, "float64", (_compiled_pass(program, this, stored, "float64"),))


@functools.cache
def _kernel(program: Program, dtypes: tuple[tuple[str, str], ...], emit: str) -> Kernel:
    stored = dict(dtypes)
    compute = compute_dtype(stored["p"])
    passes = tuple(_compiled_pass(program, this, stored, compute) for this in split_passes(program, emit))
    return Kernel(program, stored, compute, passes)


def pass_arrays(this: Pass, stored: Mapping[str, str]) -> list[str]:
    """The arrays whose addresses a pass gets: what it reads and writes, then their scales and rounding errors."""
    names = [a.name for a in this.arrays]
    companions = [companion(name, stored.get(name, "")) for name in names]
    return names + [name for name in companions if name]


def _compiled_pass(program: Program, this: Pass, stored: Mapping[str, str], compute: str) -> CompiledPass:
    if this.idle:
        return CompiledPass(this, 0)
    memory = [stored[a.name] if not a.computed else compute for a in this.arrays]
    text = source(program, this, memory)
    # a change of the instructions, or of what puts them together, is another kernel
    parts = sources("intrinsics", "kernel", "layout", "coded", "powers", "../formats", "../rounding")
    identity = f"{text}\n{memory} {compute}\n{parts}"
    address = load(program.rule, identity, lambda symbol: _build(text, memory, compute, this, symbol))
    return CompiledPass(this, address, dithered(this, memory))


def _build(text: str, memory: list[str], compute: str, this: Pass, symbol: str) -> bytes:
    return native(python_function(text, memory, compute, symbol), SIGNATURE, reorders(this), symbol)


def reorders(this: Pass) -> bool:
    """Whether additions of a pass may be reordered, as they may where nothing is stored."""
    return not any(this.arrays[k].name[0] != "%" for k in this.stores)


def python_function(text: str, memory: Sequence[str], compute: str, symbol: str) -> object:
    """The pass as a function for numba."""
    import numpy as np

    from . import coded, powers
    from . import intrinsics as use

    number = np.dtype(compute).type
    companions = [k for k, dtype in enumerate(memory) if companion("", dtype)]
    sums = len(memory) + len(companions)  # sums and coefficients are one more alias scope each
    arrays = sums + 2
    names: dict[str, object] = {
        "load_i64": use.load_i64,
        "select": use.make_select(compute),
        "coefficient": use.make_load(compute, compute, sums + 1, arrays),
        "get_sum": use.make_load("float64", "float64", sums, arrays),
        "set_sum": use.make_store("float64", "float64", sums, arrays),
        "wide": np.float64,
        "narrow": number,
        "nothing": np.float64(0),
        "zero": number(0),
        "one": number(1),
        "scratch": coded.scratch,
        "power_": powers.make_power(compute),
        **{f"{op}_": getattr(np, op) for op in ("sqrt", "abs")},
    }
    for k, dtype in enumerate(memory):
        other = len(memory) + companions.index(k) if k in companions else None
        functions = coded.functions(dtype, compute, k, other, arrays)
        names |= {f"{name}{k}": function for name, function in functions.items()}
    exec(compile_source(text, symbol), names)  # declarations of ours only: no user text reaches it
    return names["kernel"]


def compile_source(text: str, name: str) -> CodeType:
    """A code object whose lines tracebacks can show."""
    file = f"<scirs2 kernel {name}>"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    return compile(text, file, "exec")


def uses_rows(program: Program) -> bool:
    """Whether anything in the program is neither a number nor like the tensor."""
    return any(n.extent > Extent.TENSOR and n.extent is not Extent.FULL for n in program.nodes)

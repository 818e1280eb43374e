"""The host kernels behind an op of TensorFlow's: registered through its C interface, one compiled kernel for every
rule, without a C++ compiler.

A call names its plan by a number and not by address, so that a graph of another process finds nothing and fails with a
message. Parameters and slots are stepped in place, in memory that their variables take over from here. Each step gives
every variable a new tensor of the same memory: if then an earlier one is still alive, somebody looks at it, and the
variable gets other memory.
"""

from __future__ import annotations

import ctypes
import functools
import secrets
import threading
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from . import compile
from .batch import Batch
from .engine import default_threads
from .kernel import pass_arrays
from .layout import GREETING, WORD_BYTES, Action, Anchor, Cell, Owner, Plan, Source, Work

#: The op. After `call`, plan and action, come the operands: a pass has coefficients and gradients, other actions what
#: the variables hold. `memory` are the variables, not read by the kernel: they put the op in order with their readers.
OP = "Scirs2Call"
_SIGNATURE = (
    ("TF_OpDefinitionBuilderAddAttr", "inputs: list(type) >= 0"),
    ("TF_OpDefinitionBuilderAddAttr", "outputs: list(type) >= 0"),
    ("TF_OpDefinitionBuilderAddAttr", "variables: int >= 0"),
    ("TF_OpDefinitionBuilderAddInput", "call: int64"),
    ("TF_OpDefinitionBuilderAddInput", "operands: inputs"),
    ("TF_OpDefinitionBuilderAddInput", "memory: variables * resource"),
    ("TF_OpDefinitionBuilderAddOutput", "results: outputs"),
)
_DEFINITION = ("TF_NewOpDefinitionBuilder", "TF_OpDefinitionBuilderSetIsStateful", "TF_RegisterOpDefinition")
_KERNEL = ("TF_NewKernelBuilder", "TF_RegisterKernelBuilder")
#: What the handler calls (`tf_handler`).
_SYMBOLS = (
    "TF_GetInput", "TF_SetOutput", "TF_AllocateOutput", "TF_NewTensor", "TF_DeleteTensor", "TF_TensorData",
    "TF_TensorByteSize", "TF_NewStatus", "TF_DeleteStatus", "TF_SetStatus", "TF_OpKernelContext_Failure",
)  # fmt: skip
_MESSAGE = ctypes.create_string_buffer(
    b"scirs2: this graph's step cannot be taken: its optimizer is gone or of another process, it steps in another "
    b"thread at this moment, or memory has run out"
)
#: TensorFlow's numbers for the dtypes that are stored.
DTYPES = {"float32": 1, "float64": 2, "uint8": 4, "int16": 5, "int8": 6, "int32": 3, "bfloat16": 14, "float16": 19}
_lock = threading.Lock()
_anchor = np.zeros(len(Anchor), dtype=np.int64)
_anchor[Anchor.MESSAGE] = ctypes.addressof(_MESSAGE)
#: Words of plans, never freed: a graph may outlive its optimizer, and then finds that it is gone.
_plans: list[np.ndarray] = []


def register(path: str) -> str | None:
    """Makes the op known to TensorFlow, whose library is at this path, once; returns why it cannot be, or None."""
    with _lock:
        return _register(path)


@functools.cache
def _register(path: str) -> str | None:
    try:
        library = compile.search(path)
    except OSError as error:
        return f"TensorFlow's library cannot be loaded ({error})"
    wanted = {*_SYMBOLS, *_DEFINITION, *_KERNEL, *(name for name, _ in _SIGNATURE), "TF_GetCode"}
    if missing := sorted(name for name in wanted if not hasattr(library, name)):
        return f"this TensorFlow has no {missing[0]}"
    _anchor[Anchor.RELEASE] = compile.address_of("tf_handler", "release", 3)
    compile.function_of("tf_handler", "handler", 2)(GREETING, _anchor.ctypes.data)
    for name in (*wanted, "TF_NewStatus", "TF_DeleteStatus"):
        getattr(library, name).restype = ctypes.c_void_p
    status = ctypes.c_void_p(library.TF_NewStatus())
    op = ctypes.c_void_p(library.TF_NewOpDefinitionBuilder(OP.encode()))
    for function, text in _SIGNATURE:
        getattr(library, function)(op, text.encode())
    library.TF_OpDefinitionBuilderSetIsStateful(op, ctypes.c_bool(True))
    library.TF_RegisterOpDefinition(op, status)
    kernel = ctypes.c_void_p(compile.address_of("tf_handler", "handler", 2))
    builder = ctypes.c_void_p(library.TF_NewKernelBuilder(OP.encode(), b"CPU", None, kernel, None))
    library.TF_RegisterKernelBuilder(OP.encode(), builder, status)
    code = ctypes.c_int(library.TF_GetCode(status) or 0).value
    library.TF_DeleteStatus(status)
    return None if code == 0 else f"TensorFlow refuses the op (code {code})"


class Memory:
    """The cells of one optimizer's arrays, and the plans of its calls. `close` ends them."""

    def __init__(self) -> None:
        self._words = np.zeros(len(Owner), dtype=np.int64)
        self._cells: dict[Hashable, np.ndarray] = {}
        self._kept: list[object] = []

    def cell(self, key: Hashable, shape: tuple[int, ...], dtype: str) -> int:
        """The address of an array's cell; equal keys have one."""
        if key not in self._cells:
            size = int(np.prod(shape, dtype=np.int64)) * (2 if dtype == "bfloat16" else np.dtype(dtype).itemsize)
            axes = np.array([*shape, 0], dtype=np.int64)
            words = {Cell.BYTES: size, Cell.DTYPE: DTYPES[dtype], Cell.RANK: len(shape), Cell.SHAPE: axes.ctypes.data}
            self._kept.append(axes)
            self._cells[key] = np.array([words.get(word, 0) for word in Cell], dtype=np.int64)
        return int(self._cells[key].ctypes.data)

    def publish(self, batch: Batch, level: int, rows: Sequence[int], cells: Mapping[tuple[str, int], int]) -> int:
        """The number by which calls name a pass.

        `rows` says which row of coefficients each tensor takes; `cells` are those of parameters, slots and companions,
        by name and tensor.
        """
        workers = min(default_threads(), batch.most_workers)
        launch = batch.new_launch(level, np.asarray(rows, dtype=np.int64), workers)
        parts = batch.kernel.passes[level].parts
        names, sources = pass_arrays(parts, batch.kernel.dtypes), _sources(batch, level, list(cells))
        launch.work[Work.TABLE_STRIDE] = WORD_BYTES * len(names)
        addresses = np.array([*cells.values(), 0])
        words = {
            Plan.NAME: secrets.randbits(62),
            Plan.DRIVE: compile.address_of("driver", "drive"),
            Plan.WORK: ctypes.addressof(launch.work),
            Plan.WORK_BYTES: ctypes.sizeof(launch.work),
            Plan.TENSORS: len(batch.shapes),
            Plan.ARRAYS: len(names),
            Plan.SUMS: len(parts.sums),
            Plan.WIDE: batch.kernel.compute == "float64",
            Plan.SOURCES: sources.ctypes.data,
            Plan.OPERANDS: 1 + ("g" in names) * len(batch.shapes),
            Plan.CELLS: addresses.ctypes.data,
            Plan.CELL_COUNT: len(cells),
            Plan.OWNER: self._words.ctypes.data,
        }
        self._kept += [launch, sources, addresses]
        return _publish(words)

    def close(self) -> None:
        """Ends all calls, and lets go of all memory unless a call is at work."""
        busy = compile.function_of("tf_handler", "close")(self._words.ctypes.data)
        if busy:
            _plans.append(self._words)
            return
        for words in self._cells.values():
            compile.function_of("tf_handler", "empty")(words.ctypes.data)
        _plans.append(self._words)  # its plans ask whether it is closed
        self._cells.clear()
        self._kept.clear()


def _sources(batch: Batch, level: int, cells: list[tuple[str, int]]) -> np.ndarray:
    """Where each array of a pass comes from: gradients are operands, all others have cells."""
    places = {key: place for place, key in enumerate(cells)}
    names = pass_arrays(batch.kernel.passes[level].parts, batch.kernel.dtypes)
    sources = np.full((len(batch.shapes), len(names), len(Source)), -1, dtype=np.int64)
    for k, name in enumerate(names):
        if name == "g":
            sources[:, k, Source.OPERAND] = 1 + batch.every_tensor
        else:
            sources[:, k, Source.CELL] = [places[name, t] for t in range(len(batch.shapes))]
    return sources


def _publish(words: Mapping[Plan, int]) -> int:
    with _lock:
        plan = np.array([{**words, Plan.NEXT: _anchor[Anchor.PLAN]}.get(word, 0) for word in Plan], dtype=np.int64)
        _plans.append(plan)
        _anchor[Anchor.PLAN] = plan.ctypes.data  # complete before a handler can see it
    return int(words[Plan.NAME])


__all__ = ["DTYPES", "OP", "Action", "Memory", "register"]

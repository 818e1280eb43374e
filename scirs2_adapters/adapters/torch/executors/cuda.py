"""Parameters on a CUDA device, stepped by kernels that Triton compiles from the recorded formula (`triton_text.py`).

As on the host: a table of addresses, a list of blocks over all tensors, a row of coefficients for each tensor. What
the kernels read besides the arrays is one packed copy (`packed.py`). Coefficients may be tensors on the device, so that
a captured step needs nothing of the host.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import linecache
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import numpy as np
import torch

from scirs2_adapters.core.cpu import engine as host
from scirs2_adapters.core.ops import Scalar
from scirs2_adapters.core.program.recorded import Program
from scirs2_adapters.core.slots import Extent
from scirs2_adapters.core.step.protocols import KernelEntry, Model, Scalars

from ..dispatch.param_entry import TensorEntry
from ..state.tensors import Tensor, dtype_name
from .line_lists import LineLists
from .model_numbers import ModelNumbers
from .packed import Sender
from .sparse import is_sparse
from .triton_kernel import Text
from .triton_layout import Layout, formula_obstacle
from .triton_pass import BLOCK, LONGEST
from .triton_text import step_texts


class Kernel(Protocol):
    """A function that Triton has compiled: `kernel[(programs,)](*arrays)` queues it."""

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]: ...


#: Threads of a program, by 32.
WARPS = 8
#: What arrays consist of; Triton calls it the same.
KINDS = ("float64", "float32", "float16", "bfloat16", "int8", "uint8", "int16", "int32")


def kernel_obstacle(program: Program, tensors: Mapping[str, Tensor]) -> str | None:
    """Why no kernel of ours can step these tensors, or None."""
    if any(x.device.type != "cuda" or x.layout is not torch.strided for x in tensors.values()):
        return "it is not all in CUDA memory"
    if any(type(x).__torch_dispatch__ is not Tensor.__torch_dispatch__ for x in tensors.values()):
        return "a tensor computes in its own way"
    if any(dtype_name(x.dtype) not in KINDS for x in tensors.values()):
        return "a dtype is none that it computes with"
    if program.looked and any(x.numel() >= LONGEST for x in tensors.values()):
        return "rows and columns are of more numbers than 32 bits count"
    return formula_obstacle(program) or (None if _has_triton() else "Triton is not installed")


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
    """Parameters of one program and one tuple of dtypes on one device. `items` are the blocks of all of them: a tensor
    and the place of a block in it; those of tensor k begin at `firsts[k]`.
    """

    def __init__(self, program: Program, shapes: Sequence[tuple[int, ...]], dtypes: Mapping[str, str]) -> None:
        self.program, self.dtypes, self.layout = program, tuple(dtypes.items()), Layout(program, dtypes)
        self.sizes = np.array([math.prod(s) for s in shapes], dtype=np.int64)
        # One at least where the last program finishes the sums of a tensor.
        blocks = np.maximum(-(-self.sizes // BLOCK), int(program.levels > 0))
        self.firsts = np.concatenate([[0], np.cumsum(blocks)]).astype(np.int64)
        tensors = np.repeat(np.arange(len(shapes)), blocks)
        self.items = np.column_stack([tensors, np.arange(len(tensors)) - self.firsts[tensors]]).astype(np.int32)
        self.lines = LineLists(self.layout, shapes) if program.looked else None
        most = max(len(tensors), len(self.lines.items) if self.lines else 0)
        counts = {"numbers": len(shapes) * self.layout.widths[Extent.TENSOR], "partials": most * self.layout.sums}
        counts |= self.lines.scratch if self.lines else {}
        #: How many numbers pass from one kernel to the next.
        self.scratch = {name: count for name, count in counts.items() if count}

    @property
    def allocated(self) -> int:
        """Bytes of its lists of work, here and on the device, and of its table there."""
        return 2 * sum(x.nbytes for x in self.lists.values()) + 8 * len(self.sizes) * (len(self.layout.columns) + 1)

    @property
    def transient(self) -> int:
        """Bytes of the sums of blocks and of the numbers of tensors."""
        return 8 * sum(self.scratch.values())

    @functools.cached_property
    def programs(self) -> dict[str, int]:
        """How many programs a launch has, by the list that it goes along."""
        return {name: len(x) for name, x in self.lists.items()}

    @property
    def lists(self) -> dict[str, np.ndarray]:
        """Its lists of work, by the names of a kernel's arguments."""
        lines = self.lines.lists if self.lines else {}
        arrived = {"arrived": np.zeros(len(self.sizes), dtype=np.int32)} if self.program.levels else {}
        return {"items": self.items, "sizes": self.sizes, "firsts": self.firsts, **arrived, **lines}

    def coefficients(self, scalars: Sequence[Scalars]) -> list[Scalar]:
        """Its rows of coefficients, one after the other."""
        return [row[name] for row in scalars for name in self.layout.scalars]


class Engine:
    """What `core.cpu.engine` is for host memory, for that of one device."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.sender, self.model = device, Sender(device), ModelNumbers(device)

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
    ) -> Model:
        """One step of all batches, in place, queued on the device's current stream."""
        del threads
        full = [k for k, batch in enumerate(batches) if len(batch.items)]
        if full:
            works = [batches[k] for k in full]
            numbers = [batches[k].coefficients(scalars[k]) for k in full]
            with torch.cuda.device(self.device):
                sent = self.sender.send(works, [tables[k] for k in full], [rows[k] for k in full], numbers)
                known = zip(sent.arguments, self.model.arguments(works, model), strict=True)
                forms = zip(works, sent.aligned, sent.rows, [{**a, **b} for a, b in known], strict=True)
                by_batch = [self._launches(*form) for form in forms]
                for launch in filter(None, itertools.chain.from_iterable(itertools.zip_longest(*by_batch))):
                    launch()
        return self.model.numbers

    def _launches(
        self, batch: Batch, aligned: tuple[bool, ...], rows: np.ndarray | None, arguments: Mapping[str, Tensor | int]
    ) -> list[Callable[[], None]]:
        """Those of a batch, in order. Batches take turns: what is summed over the model is summed over all."""
        arguments = {**arguments, **{name: self._new(count) for name, count in batch.scratch.items()}}
        launches: list[Callable[[], None]] = []
        for text, kernel in _kernels(batch.program, batch.dtypes, aligned, rows is None):
            grid, chosen = (batch.programs[text.by],), [arguments[name] for name in text.arguments]
            launches.append(functools.partial(kernel[grid], *chosen, num_warps=WARPS, enable_fp_fusion=False))
        return launches

    def _new(self, count: int) -> Tensor:
        return torch.empty(count, dtype=torch.float64, device=self.device)


@functools.cache
def _kernels(
    program: Program, dtypes: tuple[tuple[str, str], ...], aligned: tuple[bool, ...], shared: bool
) -> list[tuple[Text, Kernel]]:
    """The launches of a step, in order."""
    return [(text, compiled(text.source, program.rule)) for text in step_texts(program, dict(dtypes), aligned, shared)]


def compiled(text: str, called: str) -> Kernel:
    """The function `kernel` of a text; Triton reads the source of what it compiles, so the text gets a file name."""
    import triton

    name = f"<scirs2 {called} {hash(text):x}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    space: dict[str, object] = {"triton": triton, "tl": triton.language, "__name__": __name__}
    exec(compile(text, name, "exec"), space)
    return cast(Kernel, space["kernel"])

"""A CUDA graph for tests without a card: tensors on the CPU are stepped by the kernels for CUDA devices, in Triton's
interpreter, or by torch's operations, and what a block queues is recorded in the place of being run.

As on a card, a captured block computes nothing, a replay repeats its operations and launches on the same memory, and
nothing of the host is repeated. What the host asks of a tensor is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scirs2_adapters.adapters.torch import ops
from scirs2_adapters.adapters.torch.dispatch import capturing, step, step_counts
from scirs2_adapters.adapters.torch.dispatch.param_entry import TensorEntry
from scirs2_adapters.adapters.torch.executors import cuda, packed
from scirs2_adapters.adapters.torch.state import memory
from scirs2_adapters.core.program.recorded import Program

#: The graph that is captured at this moment.
_graphs: list[Graph] = []
REFUSED = "operation not permitted when stream is capturing"


class Graph(TorchDispatchMode):
    """What a block queues: operations with their tensors, and launches."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], object]] = []
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self.made: set[int] = set()

    def __enter__(self) -> Graph:
        _graphs.append(self)
        super().__enter__()
        return self

    def __exit__(self, *reason: Any) -> None:
        super().__exit__(*reason)
        _graphs.remove(self)
        for there, kept in self.before.values():
            there.copy_(kept)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if "_local_scalar_dense" in func._schema.name:
            raise RuntimeError(REFUSED)
        for argument, x in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in x if isinstance(x, list | tuple) else [x]:
                    self._keep(tensor)
        results = func(*args, **kwargs)
        known = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        self.made.update({x.untyped_storage().data_ptr() for x in _tensors(results)} - known)
        self.calls.append(partial(_again, func, args, kwargs, results))
        return results

    def _keep(self, x: torch.Tensor) -> None:
        """Remembers the memory of a tensor that is from outside before it is written for the first time."""
        memory = x.untyped_storage()
        if memory.data_ptr() not in self.made:
            self.before.setdefault(memory.data_ptr(), (memory, memory.clone()))

    def replay(self) -> None:
        """Runs everything once more."""
        with torch.no_grad():
            for call in self.calls:
                call()


def _tensors(results: Any) -> list[torch.Tensor]:
    every = results if isinstance(results, list | tuple) else [results]
    return [x for x in every if isinstance(x, torch.Tensor)]


def _again(func: Any, args: Any, kwargs: Any, results: Any) -> None:
    for new, old in zip(_tensors(func(*args, **kwargs)), _tensors(results), strict=True):
        if new.data_ptr() != old.data_ptr():
            old.copy_(new)


class _Kernel:
    """A kernel whose launches are recorded while a graph is captured."""

    def __init__(self, kernel: cuda.Kernel) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
        return partial(self._launch, grid)

    def _launch(self, grid: tuple[int], *arguments: Any, **options: Any) -> None:
        launch = partial(self.kernel[grid], *arguments, **options)
        _graphs[-1].calls.append(launch) if _graphs else launch()


def is_capturing(params: object = None) -> bool:
    return bool(_graphs)


@pytest.fixture
def device(interpreted: list[Program], monkeypatch: pytest.MonkeyPatch) -> list[Program]:
    """The CPU is taken for a CUDA device that can capture graphs; the programs of which kernels were launched."""
    made, tolist, obstacle = cuda._kernels, torch.Tensor.tolist, TensorEntry.kernel_obstacle

    def kernels(*form: Any) -> list[tuple[Any, _Kernel]]:
        return [(text, _Kernel(kernel)) for text, kernel in made(*form)]

    def listed(x: torch.Tensor) -> Any:
        if _graphs:
            raise RuntimeError(REFUSED)
        return tolist(x)

    def no_kernel(entry: TensorEntry, *how: Any) -> str | None:
        return obstacle(entry, *how) or cuda.formula_obstacle(entry.program)

    monkeypatch.setattr(cuda, "_kernels", kernels)
    monkeypatch.setattr(TensorEntry, "kernel_obstacle", no_kernel)
    monkeypatch.setattr(torch.Tensor, "tolist", listed)
    monkeypatch.setattr(packed, "current_stream", lambda device: (len(_graphs), bool(_graphs)))
    monkeypatch.setattr(capturing, "is_capturing", is_capturing)
    for module in (capturing, memory, step, step_counts):
        monkeypatch.setattr(module, "on_host", lambda x: False)
    monkeypatch.setattr(ops, "_is_readable", lambda number: not _graphs)
    return interpreted

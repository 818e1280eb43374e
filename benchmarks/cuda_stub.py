"""A stub in the place of a CUDA device: kernels are launched and copies are sent in name only, and counted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from scirs2_adapters import torch as adapter
from scirs2_adapters.adapters.torch.dispatch import step
from scirs2_adapters.adapters.torch.executors import cuda, packed
from scirs2_adapters.adapters.torch.executors.triton_layout import formula_obstacle
from scirs2_adapters.adapters.torch.executors.triton_text import step_texts
from scirs2_adapters.core import get, names
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf

#: Shapes by which it is said whether an optimizer has kernels for all parameters.
_SHAPES = ((40, 50), (2000,))


@dataclass(frozen=True)
class Counts:
    """One step: milliseconds of the calling thread until it returns, the 10th percentile; launches, copies to the
    device and their bytes. The second triple is of a step whose gradients have moved.
    """

    host: float
    launches: int
    copies: int
    sent: int
    moved_host: float
    moved_copies: int
    moved_sent: int


class _Device:
    """Counts what an engine does with a device that is not there."""

    def __init__(self) -> None:
        self.launched, self.engines = 0, list[cuda.Engine]()

    def engine(self) -> cuda.Engine:
        self.engines.append(cuda.Engine(torch.device("cpu")))
        return self.engines[-1]

    def kernels(self, program: Any, dtypes: Any, aligned: Any, shared: bool) -> list[tuple[Any, Any]]:
        return [(text, self) for text in step_texts(program, dict(dtypes), aligned, shared)]

    def __getitem__(self, grid: tuple[int]) -> Any:
        return self._launch

    def _launch(self, *arguments: Any, **options: Any) -> None:
        self.launched += 1

    def counts(self) -> tuple[int, int, int]:
        senders = [engine.sender for engine in self.engines]
        return self.launched, sum(s.copies for s in senders), sum(s.bytes for s in senders)


def _stream(device: torch.device) -> tuple[int, bool]:
    """As `packed.current_stream`. A mock that remembers its calls takes longer than torch does for it."""
    return 0, False


@contextlib.contextmanager
def _device() -> Iterator[_Device]:
    device, made = _Device(), dict[Any, Any]()

    def kernels(*form: Any) -> Any:
        if form not in made:
            made[form] = device.kernels(*form)
        return made[form]

    patches = [
        mock.patch.object(cuda, "_kernels", kernels),
        mock.patch.object(packed, "current_stream", _stream),
        mock.patch.object(torch.Tensor, "pin_memory", lambda x: x),
        mock.patch.object(torch.cuda, "device", contextlib.nullcontext),
        mock.patch.object(step, "HostEngine", device.engine),
    ]
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield device


def obstacle(name: str) -> str | None:
    """Why kernels do not step every parameter of this optimizer, or None."""
    rule = get(name)()
    if get(name).needs_closure or get(name).sparse == "rows":
        return "it needs a closure or sparse gradients"
    leaves = [Leaf(shape, "float32") for shape in _SHAPES]
    return next(filter(None, (formula_obstacle(record(rule.route(leaf), leaf)) for leaf in leaves)), None)


def with_kernels() -> list[str]:
    """The optimizers whose parameters are all stepped by kernels."""
    return [name for name in names() if obstacle(name) is None]


def counted(name: str, shapes: list[tuple[int, ...]], options: dict[str, Any], rounds: int) -> Counts:
    """What a step of this optimizer does; no number is computed."""
    params = [torch.nn.Parameter(torch.empty(shape)) for shape in shapes]
    with _device() as device:
        optimizer = getattr(adapter, get(name).__name__)(params, **options)
        results = []
        places = [[torch.empty_like(p) for p in params] for _ in range(2)]
        for new in (False, True):
            _set_gradients(params, places[0])
            optimizer.step()
            times, before = [], device.counts()
            for k in range(rounds):
                if new:  # other tensors elsewhere, without the host's time to get memory
                    _set_gradients(params, places[(k + 1) % 2])
                begun = time.thread_time()
                optimizer.step()
                times.append(1e3 * (time.thread_time() - begun))
            per_step = [(b - a) // rounds for a, b in zip(before, device.counts(), strict=True)]
            results.append(SimpleNamespace(host=sorted(times)[len(times) // 10], counts=per_step))
    kept, moved = results
    return Counts(kept.host, *kept.counts, moved.host, *moved.counts[1:])


def _set_gradients(params: list[torch.nn.Parameter], places: list[torch.Tensor]) -> None:
    """Gradients that are new tensors in these places."""
    for p, g in zip(params, places, strict=True):
        p.grad = g.detach()

"""Steps on the threads of torch's OpenMP runtime: the same bits however many come, no region in a forked child."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch

from scirs2_adapters.adapters.torch.executors import kernel, openmp
from scirs2_adapters.core.cpu.region import NO_REGION, ParallelRegion
from scirs2_adapters.torch import AdamW
from tests.boundaries.support import fresh

from .test_torch_robust import walked
from .torch_support import alike, each_optimizer

linux = pytest.mark.skipif(sys.platform != "linux", reason="the system tells only of Linux's processes what is a fork")
pytestmark = pytest.mark.usefixtures("one_thread", "threads_for_little_work")
_WORKER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_PARALLEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)


class Runtime:
    """An OpenMP runtime of so many threads; it counts its regions. With `flush`, its threads take numbers below the
    normal ones for 0; `flushed` is what such a number is to each of them after the work.
    """

    def __init__(self, threads: int, flush: bool = False) -> None:
        self.regions, self.threads, self.flush, self.flushed = 0, threads, flush, list[float]()
        self.function = _PARALLEL(self._parallel)
        self.region = ParallelRegion(ctypes.cast(self.function, ctypes.c_void_p).value or 0)

    def _parallel(self, function: int, data: int, threads: int, flags: int) -> None:
        assert (threads, flags) == (0, 0)  # another number would end threads, which torch would have to start again
        self.regions += 1
        team = [threading.Thread(target=self._work, args=(_WORKER(function), data)) for _ in range(self.threads)]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()

    def _work(self, worker: Callable[[int], None], data: int) -> None:
        torch.set_flush_denormal(self.flush)
        worker(data)
        self.flushed.append(float(np.float32(1e-40) * np.float32(1)))


@each_optimizer
def test_the_number_of_threads_in_a_region_changes_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer than the step has shares of work, as many, and more."""
    torch.set_num_threads(2)  # `one_thread` sets it back
    results, runtimes = [], [Runtime(threads) for threads in (1, 2, 3)]
    for region in (NO_REGION, *(runtime.region for runtime in runtimes)):
        monkeypatch.setattr(kernel, "parallel_region", lambda region=region: region)
        results.append(walked(name, kernel="host"))
    assert all(runtime.regions for runtime in runtimes)
    assert all(alike(name, results[0], result) for result in results[1:])


def test_threads_of_a_runtime_compute_in_the_mode_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether numbers below the normal ones are 0 is said for each thread, as by `torch.set_flush_denormal`."""
    torch.set_num_threads(2)  # `one_thread` sets it back
    runtime = Runtime(2, flush=True)
    monkeypatch.setattr(kernel, "parallel_region", lambda: runtime.region)
    p = torch.nn.Parameter(torch.ones(1 << 17))
    optimizer = AdamW([p], kernel="host")
    p.grad = torch.full_like(p, 1e-20)
    optimizer.step()
    assert runtime.regions == 1
    assert np.all(optimizer.state[p]["exp_avg_sq"].numpy().view(np.int32) > 0)
    assert runtime.flushed == [0.0, 0.0]  # each thread is again in the mode it was in


@linux
def test_the_region_is_that_of_the_runtime_that_torch_calls() -> None:
    library = ctypes.CDLL(f"{os.path.dirname(torch.__file__)}/lib/libtorch_cpu.so")
    visible = ctypes.CDLL(None)
    theirs = visible if hasattr(visible, "GOMP_parallel") else library
    assert openmp.parallel_region().address == ctypes.cast(theirs.GOMP_parallel, ctypes.c_void_p).value


def test_torch_without_openmp_has_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.openmp, "is_available", lambda: False)
    assert openmp.parallel_region.__wrapped__() is NO_REGION


#: The child is forked before and after the package is imported; its parent's team has worked. Each tensor is less than
#: torch shares out among threads, which would wait without end; all of them are enough for two threads of a step.
FORKED = """
import os, torch
torch.set_num_threads(2)
torch.ones(1 << 20).exp_()
{before}
child = os.fork()
if child == 0:
    from scirs2_adapters.adapters.torch.executors.openmp import parallel_region
    from scirs2_adapters.torch import SOAP, AdamW
    params = [torch.nn.Parameter(torch.ones(30_000)) for _ in range(9)]
    for p in params:
        p.grad = torch.ones(30_000)
    AdamW(params).step()
    matrix = torch.nn.Parameter(torch.eye(100))
    for soap in [SOAP([matrix])] * 2:
        matrix.grad = torch.eye(100)
        soap.step()
    os._exit(0 if parallel_region().address == 0 else 1)
assert os.waitpid(child, 0)[1] == 0
"""
IMPORTED = """
from scirs2_adapters.adapters.torch.executors.openmp import parallel_region
assert parallel_region().address
"""


@linux
@pytest.mark.slow
@pytest.mark.parametrize("before", ["", IMPORTED], ids=["imported in the child", "imported before"])
def test_a_forked_child_starts_its_threads(before: str) -> None:
    fresh(FORKED.format(before=before))

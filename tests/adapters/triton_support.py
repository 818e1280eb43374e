"""The kernels that are generated for CUDA devices, run on the CPU by Triton's interpreter, which takes addresses of CPU
memory.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from scirs2_adapters.adapters.torch.dispatch import step
from scirs2_adapters.adapters.torch.executors import cuda, packed
from scirs2_adapters.core.cpu import storage
from scirs2_adapters.core.program.recorded import Program

if sys.platform != "linux":
    pytest.skip("Triton has builds for Linux only", allow_module_level=True)
if "TRITON_INTERPRET" not in os.environ:
    pytest.skip("kernels run on this machine's card, in test_torch_cuda.py", allow_module_level=True)

import triton.language as tl
from triton.runtime import interpreter


def _rounding(convert: Callable[..., Any]) -> Callable[..., Any]:
    """The interpreter cuts float32 off to bfloat16, where the compiler rounds to nearest even."""

    def rounded(x: np.ndarray, source: object, target: object, mode: object) -> np.ndarray:
        if (source, target) == (tl.float32, tl.bfloat16):
            return storage.store(x, "bfloat16")
        return convert(x, source, target, mode)  # type: ignore[no-any-return]

    return rounded


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Program]]:
    """Tensors on the CPU are stepped by the kernels for CUDA devices; the programs of those that have been launched.
    What lies behind the end of a tensor is computed too, and warns of nothing.
    """
    launched: list[Program] = []

    def kernels(program: Program, *form: Any) -> list[tuple[Any, cuda.Kernel]]:
        launched.append(program)
        return made(program, *form)

    made = cuda._kernels
    monkeypatch.setattr(interpreter, "_convert_float", _rounding(interpreter._convert_float))
    monkeypatch.setattr(cuda, "_kernels", kernels)
    monkeypatch.setattr(packed, "current_stream", lambda device: (0, False))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: x)
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(step, "HostEngine", lambda: cuda.Engine(torch.device("cpu")))
    with np.errstate(all="ignore"):
        yield launched


def launch(text: str, programs: int, arrays: Mapping[str, torch.Tensor]) -> None:
    """Runs the function `kernel` of a text, of these arguments."""
    with np.errstate(all="ignore"):
        cuda.compiled(text, "test")[(programs,)](**arrays)

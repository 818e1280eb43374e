"""The kernels generated for CUDA devices, run in numpy's stead: they say what the host kernel says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scirs2_adapters.adapters.torch.executors import cuda
from scirs2_adapters.core import get, names
from scirs2_adapters.core.cpu import engine as host
from scirs2_adapters.core.ops import HOST_SCALARS
from scirs2_adapters.core.program.recorded import Program, record
from scirs2_adapters.core.slots import Leaf

from .triton_shim import launch

SHAPES = [(41,), (cuda.CHUNK + 3,), (0,), ()]


def elementwise(name: str) -> Program | None:
    program = record(get(name)(), Leaf((3,), "float32"))
    like = {n: torch.zeros(3) for n in ("p", "g", *(s.name for s in program.slots))}
    reason = cuda.kernel_obstacle(program, {k: x.to("meta") for k, x in like.items()})
    assert reason is not None  # nothing here lies on a CUDA device
    return None if program.levels or any(s.extent < s.extent.FULL for s in program.slots) else program


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [name for name in names() if elementwise(name)])
def test_the_generated_kernel_steps_as_the_host_does(name: str, dtype: str) -> None:
    rule = get(name)()
    program = record(rule, Leaf((3,), dtype))
    columns = ("p", "g", *(s.name for s in program.slots))
    dtypes = dict.fromkeys(columns, dtype)
    random = np.random.default_rng(0)
    arrays = [[random.uniform(0.1, 1, shape).astype(dtype) for _ in columns] for shape in SHAPES]
    copies = [[x.copy() for x in each] for each in arrays]
    rows = [dict(rule.scalars(HOST_SCALARS, t)) for t in (1, 5)]
    row_of = np.array([0, 1, 0, 1], dtype=np.int64)

    batch = cuda.Batch(program, SHAPES, dtypes)
    table = np.array([[x.ctypes.data for x in each] for each in arrays], dtype=np.int64)
    numbers = np.array([[r[n] for n in batch.scalars] for r in rows], dtype=dtype)
    launch(cuda.source(program, dtypes, False), len(batch.items), table, batch.items, row_of, numbers)

    ((known, _),) = host.plan([(program, shape, dtypes) for shape in SHAPES])
    there = np.array([[x.ctypes.data for x in each] for each in copies], dtype=np.int64)
    host.run([known], [there], [rows], [row_of], {})
    for each, other in zip(arrays, copies, strict=True):
        for a, b in zip(each, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=8 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)

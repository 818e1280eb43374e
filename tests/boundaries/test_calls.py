"""How many functions of the package a step of four parameters calls when nothing has changed since the last one: what
a small model pays for. A limit is what was reached; Python 3.12 and newer count fewer, without comprehensions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import numpy as np
import pytest

from scirs2_adapters.core import AdamW, HostOptimizer

Work = Callable[[], object]
ARRAYS = {str(i): np.random.default_rng(i).standard_normal((8, 8), np.float32) for i in range(4)}


def numpy_step() -> Work:
    optimizer, grads = HostOptimizer(AdamW(), {k: x.copy() for k, x in ARRAYS.items()}), ARRAYS
    return lambda: optimizer.step(grads)


def torch_step() -> Work:
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    from scirs2_adapters import torch as ours

    params = [torch.nn.Parameter(torch.from_numpy(x.copy())) for x in ARRAYS.values()]
    for p in params:
        p.grad = torch.ones_like(p)
    return ours.AdamW(params).step  # type: ignore[no-any-return]


def torch_constructor() -> Work:
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    from scirs2_adapters import torch as ours

    params = [torch.nn.Parameter(torch.from_numpy(x.copy())) for x in ARRAYS.values()]
    return lambda: ours.AdamW(params)


def jax_update() -> Work:
    jax = pytest.importorskip("jax", reason="needs the extra jax")
    from scirs2_adapters import jax as ours

    params = jax.tree.map(jax.numpy.asarray, ARRAYS)
    transformation = ours.adamw(1e-3)
    state = transformation.init(params)
    return lambda: transformation.update(params, state, params)


def calls(work: Work) -> int:
    """How many functions of the package are entered, generators each time."""
    count = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event == "call" and "scirs2_adapters" in frame.f_code.co_filename

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize(
    ("make", "most"), [(numpy_step, 50), (torch_step, 61), (torch_constructor, 190), (jax_update, 84)]
)
def test_calls_of_a_step_when_nothing_has_changed(make: Callable[[], Work], most: int) -> None:
    work = make()
    for _ in range(5):  # plans, and what is read once
        work()
    assert 0 < calls(work) <= most

"""What the tests of compiled steps share: compiling and counting programs, gradients, pairs of equal optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

from .torch_support import ours, params_of, plain

each_backend = pytest.mark.parametrize("backend", ["eager", "aot_eager"])
#: torch's own modules warn while they are imported or traced; none is about an optimizer.
quiet = [
    pytest.mark.usefixtures("forgotten"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Profiler record function:UserWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]
Steps = Callable[..., Any]


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Programs compiled in one test are not there in the next."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def compile_step(optimizer: Any, backend: str = "aot_eager", **options: Any) -> tuple[Steps, Any]:
    """The compiled step, in one program unless said otherwise, and a count of programs."""
    count = CompileCounterWithBackend(backend)
    return torch.compile(optimizer.step, backend=count, **{"fullgraph": True, **options}), count


def give(optimizer: Any, seed: int, without: tuple[int, ...] = ()) -> None:
    generator = torch.Generator().manual_seed(seed)
    for i, p in enumerate(params_of(optimizer)):
        g = torch.randn(p.shape, generator=generator).to(p.dtype)
        p.grad = None if i in without else g


def together(a: Any, b: Any, step: Steps, seeds: range, change: Callable[[Any, int], Any] = lambda o, i: None) -> None:
    """Steps `a` by its compiled step and `b` as always, by equal gradients, after the same changes."""
    for i in seeds:
        for optimizer, run in ((a, step), (b, b.step)):
            give(optimizer, i)
            change(optimizer, i)
            run()


def pair(name: str = "AdamW", **options: Any) -> tuple[Any, Any]:
    return ours(name)(plain(), **options), ours(name)(plain(), **options)

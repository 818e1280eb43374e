"""What the tests of offloaded parameters share: the same training on the CPU and on the device "late"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from scirs2_adapters.adapters.torch.dispatch import offload
from scirs2_adapters.adapters.torch.executors.transfers import StreamTransfers
from tests.adapters.torch_support import ours

Params = list[torch.nn.Parameter]
SHAPES = ((5, 3), (70, 65), (7,), (), (0, 3), (40, 60), (2,))


def params(device: str, dtype: torch.dtype = torch.float32, shapes: Sequence[tuple[int, ...]] = SHAPES) -> Params:
    """Parameters, the same ones at each call, of which one is transposed."""
    generator = torch.Generator().manual_seed(1)
    made = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    made = [x.t().contiguous().t() if x.shape == (40, 60) else x for x in made]
    return [torch.nn.Parameter(x.to(device)) for x in made]


def loss(params: Sequence[torch.Tensor], step: int = 0) -> torch.Tensor:
    """Its gradients are the same bits on every device: each is a factor of the parameter's shape."""
    generator = torch.Generator().manual_seed(step)
    factors = [torch.randn(p.shape, generator=generator).to(p.dtype).to(p.device) for p in params]
    sums = [(p * f).float().sum().to(params[0].device) for p, f in zip(params, factors, strict=True)]
    return torch.stack(sums).sum()


def train(optimizer: Any, params: Params, steps: range = range(4)) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss(params, step).backward()
        optimizer.step()


def pair(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> tuple[Any, Params, Any, Params]:
    """An optimizer of parameters on the CPU, and one of the same on the device."""
    here, there = params("cpu", dtype), params("late", dtype)
    return ours(name)(here, **options), here, ours(name)(there, offload=True, **options), there


def assert_same(a: Any, here: Params, b: Any, there: Params) -> None:
    """Parameters and memory are equal bits, and the memory is the host's."""
    for p, q in zip(here, there, strict=True):
        mine, its = a.state.get(p, {}), b.state.get(q, {})
        assert {x.device.type for x in its.values()} <= {"cpu"}
        assert list(mine) == list(its)
        assert torch.equal(p, q.cpu()), p.shape
        assert all(map(torch.equal, mine.values(), its.values())), p.shape


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How many copies have been made in each direction."""
    counts: Counter[str] = Counter()
    for name in ("to_host", "to_device"):
        usual = getattr(StreamTransfers, name)

        def counted(*args: Any, usual: Any = usual, name: str = name) -> Any:
            counts[name] += 1
            return usual(*args)

        monkeypatch.setattr(StreamTransfers, name, counted)
    return counts


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters are stepped a few at a time, one part after the other, as those of large models are."""
    monkeypatch.setattr(offload, "TOGETHER", 100)

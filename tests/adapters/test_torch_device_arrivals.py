"""The programs of a kernel in any order, by Triton's interpreter: what the last one finishes is the same to the bit."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch

import scirs2_adapters.torch as ours
from scirs2_adapters.adapters.torch.executors.packed import Sender
from scirs2_adapters.core import get
from scirs2_adapters.core.program.recorded import Program

from .triton_support import interpreted, interpreter

__all__ = ["interpreted"]
#: Several segments of a line, chunks of lines and chunks of matrices, and tensors without numbers.
SHAPES = [(40, 300), (33, 3, 5), (2, 0), (0, 3), (2500,), (0,)]
#: One for each form of stages: sums of a tensor, of rows, of rows and columns, of matrices, and of the model.
NAMES = ["lamb", "adammini", "adafactor", "came", "adamp", "prodigy"]
ORDERS: dict[str, Callable[[int], list[int]]] = {
    "forward": lambda n: list(range(n)),
    "shuffled": lambda n: random.Random(n).sample(range(n), n) if n > 3 else list(range(n))[::-1],
}


def in_order(order: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs run one after another, in this order of their numbers."""
    builder = interpreter.interpreter_builder
    set_index = type(builder).set_grid_idx
    orders: dict[int, list[int]] = {}

    def set_other(self: object, x: int, y: int, z: int) -> None:
        n = builder.grid_dim[0]
        set_index(self, orders.setdefault(n, order(n))[x], y, z)

    monkeypatch.setattr(type(builder), "set_grid_idx", set_other)


def stepped(name: str, kernel: str) -> list[torch.Tensor]:
    """The parameters and their memory after two steps."""
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    optimizer = getattr(ours, get(name).__name__)(params, kernel=kernel)
    for _ in range(2):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
    memory = [x for p in params for x in optimizer.state[p].values()]
    rule = get(name)()
    numbers = [torch.as_tensor(optimizer.param_groups[0][slot.name]) for slot in rule.model_slots()]
    return [x.detach() for x in (*params, *memory, *numbers)]


@pytest.mark.parametrize("name", NAMES)
def test_any_program_may_be_the_last(name: str, interpreted: list[Program], monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts back to 0, so that the next launch begins there."""
    senders: list[Sender] = []
    made = Sender.__init__
    monkeypatch.setattr(Sender, "__init__", lambda self, device: (senders.append(self), made(self, device))[-1])
    expected = stepped(name, "traced")
    assert not interpreted
    ends = []
    for order in ORDERS.values():
        with monkeypatch.context() as patch:
            in_order(order, patch)
            ends.append(stepped(name, "auto"))
    assert interpreted
    for first, other, traced in zip(*ends, expected, strict=True):
        assert torch.equal(first, other)
        torch.testing.assert_close(first, traced.to(first), rtol=1e-4, atol=1e-6)
    counts = [lists["arrived"] for s in senders if s.sent for lists in s.sent.lists if "arrived" in lists]
    assert len(counts) >= len(ORDERS)
    assert not any(count.any() for count in counts)

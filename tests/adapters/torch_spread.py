"""Parameters of many shapes, plain or spread over two processes, stepped by the same gradients everywhere."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard

from scirs2_adapters.core import get
from scirs2_adapters.core.eigenbases import eigenbasis
from tests.adapters.torch_support import learned, ours
from tests.conformance.cells import matrix_functions

STEPS = 4
#: Uneven parts, an empty one, a matrix with a name that Muon leaves out, and more axes than two.
SHAPES = {"a.weight": (5, 4), "embed.weight": (6, 5), "b": (7,), "c": (1, 3), "d": (4, 2, 3, 3), "e": (1,)}
#: Ways to lay parameters over a mesh: its shape, and what each of its dimensions does.
LAYOUTS: dict[str, tuple[tuple[int, ...], Callable[[int], list[Any] | None]]] = {
    "rows": ((2,), lambda ndim: [Shard(0)]),
    "columns": ((2,), lambda ndim: [Shard(ndim - 1)]),
    "copies": ((2,), lambda ndim: [Replicate()]),
    "copies of rows": ((1, 2), lambda ndim: [Replicate(), Shard(0)]),
    "blocks": ((2, 1), lambda ndim: [Shard(0), Shard(ndim - 1)]),
    "rows beside plain ones": ((2,), lambda ndim: [Shard(0)] if ndim > 1 else None),
}


class Model(nn.Module):
    """Parameters by name, laid out over a mesh or plain."""

    def __init__(self, layout: str | None, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        for name, shape in SHAPES.items():
            x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
            self.register_parameter(name.replace(".", "_"), nn.Parameter(laid(x, layout)))


def laid(x: torch.Tensor, layout: str | None) -> torch.Tensor:
    mesh, placements = LAYOUTS[layout] if layout else ((), lambda ndim: None)
    wanted = placements(x.ndim)
    if wanted is None:
        return x
    everywhere = DTensor.from_local(x, mesh_of(mesh), [Replicate()] * len(mesh), run_check=False)
    return everywhere.redistribute(placements=wanted)  # without a message, unlike `distribute_tensor`


@functools.cache
def mesh_of(shape: tuple[int, ...]) -> DeviceMesh:
    return init_device_mesh("cpu", shape)


def made(name: str, layout: str | None, dtype: torch.dtype = torch.float32, **keywords: Any) -> tuple[Model, Any]:
    model = Model(layout, dtype)
    keywords = keywords if dtype == torch.float32 else learned(name) | keywords
    return model, ours(name)(list(zip(SHAPES, model.parameters(), strict=True)), **options(name), **keywords)


def options(name: str) -> dict[str, Any]:
    """What makes an optimizer use all of its memory, and decay."""
    fields = get(name.casefold()).fields_with()
    extent = {k: 0.5 for k, f in fields.items() if f.structural and f.kind is not bool and not f.default}
    return extent | {"weight_decay": 0.1} if "weight_decay" in fields else extent


def whole(x: torch.Tensor) -> torch.Tensor:
    return x.full_tensor() if isinstance(x, DTensor) else x


def walk(model: Model, optimizer: Any, layout: str | None, steps: range = range(STEPS)) -> None:
    """Steps by the gradients of these steps, the same ones at each call."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for p in model.parameters():
            p.grad = laid(torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype), layout)
        optimizer.step()


def gap(model: nn.Module, other: nn.Module, start: nn.Module) -> float:
    """The largest difference of two models, relative to the way they have come."""
    return max(
        float((whole(p.detach()) - q.detach()).abs().max() / (q - s).detach().abs().max().clamp(min=1e-30))
        for p, q, s in zip(model.parameters(), other.parameters(), start.parameters(), strict=True)
    )


def rounding(name: str) -> float:
    """How far the last bit of a float64 gradient leads in a few steps of the network of `torch_ranks`. The singular
    values of a first gradient are 12,000 times apart there, and so eigenvalues 1e8 times: a last bit of the largest is
    1e-8 of the smallest, and turns its eigenvector as far.
    """
    return 1e-7 if eigenbasis in matrix_functions(name.casefold()) else 1e-9


def memory_gap(model: nn.Module, optimizer: Any, other: nn.Module, plain: Any) -> float:
    """The largest difference of what two optimizers remember, relative to its largest value."""
    numbers = {k: v for k, v in plain.param_groups[0].items() if isinstance(v, float)}
    worst = max(abs(optimizer.param_groups[0][k] - v) / max(abs(v), 1e-30) for k, v in numbers.items())
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        mine, theirs = optimizer.state.get(p, {}), plain.state.get(q, {})
        assert list(mine) == list(theirs)
        for key, y in theirs.items():
            x = whole(mine[key])
            assert (x.shape, x.dtype) == (y.shape, y.dtype), key
            worst = max(worst, float((x - y).abs().max() / y.abs().max().clamp(min=1e-30)))
    return worst


def alone(name: str, dtype: torch.dtype = torch.float32, **keywords: Any) -> tuple[Model, Any]:
    """One process with whole tensors."""
    model, optimizer = made(name, None, dtype, **keywords)
    walk(model, optimizer, None)
    return model, optimizer

"""Matrices of one shape go through the Newton-Schulz iteration as one stack, wherever torch's operations step them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from scirs2_adapters import torch as adapter
from scirs2_adapters.adapters.torch.executors import foreach

#: Products of a matrix in an iteration of one step: its Gram matrix, the square of that, and the polynomial of x.
PRODUCTS = 3
NAMES = ["Muon", "NorMuon", "AdaMuon", "Scion"]
#: A model's parameters by name: whether they are to be stacked is asked of each shape.
SHAPES = {
    "a.weight": (6, 4), "b.weight": (6, 4), "c.weight": (6, 4), "d.weight": (4, 6), "e.weight": (4, 6),
    "f.weight": (5, 5), "conv1.weight": (4, 2, 3, 3), "conv2.weight": (4, 2, 3, 3), "qkv1.weight": (12, 4),
    "qkv2.weight": (12, 4), "bias": (5,),
}  # fmt: skip


class Products(TorchDispatchMode):
    """Counts products of matrices, by how many axes they have."""

    def __init__(self) -> None:
        super().__init__()
        self.axes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ("mm", "addmm", "bmm", "baddbmm"):
            self.axes.append(args[0].dim())
        return func(*args, **(kwargs or {}))


def parameters(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> dict[str, torch.nn.Parameter]:
    torch.manual_seed(0)
    params = {name: torch.nn.Parameter(torch.randn(shape, dtype=dtype)) for name, shape in shapes.items()}
    if "b.weight" in params:  # a matrix that lies the other way round
        params["b.weight"] = torch.nn.Parameter(params["b.weight"].detach().t().contiguous().t())
    return params


def stepped(name: str, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype, **options: Any) -> tuple[Any, Any]:
    """The parameters after three steps, and the products of the last one."""
    params = parameters(shapes, dtype)
    optimizer = getattr(adapter, name)(list(params.items()), lr=0.1, kernel="traced", **options)
    for _ in range(3):
        for p in params.values():
            p.grad = torch.randn_like(p)
        with Products() as counted:
            optimizer.step()
    return [p.detach().clone() for p in params.values()], counted.axes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_stacks_are_stepped_as_their_matrices_are(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fused layers and kernels are stacks as well. Sums of a stack are made in another order: there is no more."""
    options = {"split_layers": ["qkv"]} if name == "Muon" else {}
    together, _ = stepped(name, SHAPES, dtype, **options)
    monkeypatch.setattr(foreach, "LARGEST_STACK", 0)
    apart, _ = stepped(name, SHAPES, dtype, **options)
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=5e-5 if dtype == torch.float32 else 1e-12, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_matrices_of_one_shape_are_one_product(name: str) -> None:
    shapes = {f"{k}.weight": (6, 4) for k in "abcd"} | {f"{k}.weight": (5, 5) for k in "ef"}
    _, axes = stepped(name, shapes, torch.float32, ns_steps=2)
    assert axes == [3] * (2 * PRODUCTS * 2)


@pytest.mark.parametrize("options", [{}, {"match": "torch"}, {"adjust_lr_fn": "match_rms_adamw"}], ids=str)
def test_layers_split_by_head_are_one_stack_and_step_as_their_heads_do(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All heads of all fused layers go through one product, and each ends where a matrix of its numbers does."""
    fused = {"a.qkv.weight": (24, 5), "b.qkv.weight": (24, 5)}
    split = {"split_layers": ["qkv"], "split_outputs": 6, "ns_steps": 2, **options}
    together, axes = stepped("Muon", fused, torch.float32, **split)
    assert axes == [3] * PRODUCTS * 2
    monkeypatch.setattr(foreach, "LARGEST_STACK", 0)
    apart, axes = stepped("Muon", fused, torch.float32, **split)
    assert axes == [3] * PRODUCTS * 2 * len(fused)
    heads = heads_stepped(fused, {"ns_steps": 2, **options})
    near = 2**-6 if options.get("match") else 5e-5  # products in bfloat16
    for one, other, parts in zip(together, apart, heads, strict=True):
        torch.testing.assert_close(one, other, rtol=near, atol=near / 10)
        torch.testing.assert_close(one, parts, rtol=near, atol=near / 10)


def heads_stepped(fused: dict[str, tuple[int, ...]], options: dict[str, Any]) -> list[torch.Tensor]:
    """As `stepped`, with each head as a parameter of its own."""
    layers = list(parameters(fused, torch.float32).values())
    heads = [[torch.nn.Parameter(x.clone()) for x in layer.detach().chunk(6)] for layer in layers]
    flat = [(f"{i}.{k}.weight", p) for i, parts in enumerate(heads) for k, p in enumerate(parts)]
    optimizer = adapter.Muon(flat, lr=0.1, kernel="traced", **options)
    for _ in range(3):
        for layer, parts in zip(layers, heads, strict=True):
            for p, g in zip(parts, torch.randn_like(layer).chunk(6), strict=True):
                p.grad = g.clone()
        optimizer.step()
    return [torch.cat([p.detach() for p in parts]) for parts in heads]


def test_a_stack_has_so_many_numbers_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {f"{k}.weight": (6, 4) for k in "abcde"}
    monkeypatch.setattr(foreach, "LARGEST_STACK", 2 * 24)
    _, axes = stepped("Muon", shapes, torch.float32, ns_steps=1)
    assert axes == [3] * PRODUCTS * 2 + [2] * PRODUCTS  # the last one is alone


def test_on_the_cpu_large_matrices_stay_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreach, "LARGEST_ON_CPU", 24)
    _, axes = stepped("Muon", {"a.weight": (6, 4), "b.weight": (6, 4)}, torch.float32, ns_steps=1)
    assert axes == [3] * PRODUCTS
    monkeypatch.setattr(foreach, "LARGEST_ON_CPU", 23)
    _, axes = stepped("Muon", {"a.weight": (6, 4), "b.weight": (6, 4)}, torch.float32, ns_steps=1)
    assert axes == [2] * PRODUCTS * 2


def test_a_stack_iterates_in_bfloat16_where_that_is_asked_for() -> None:
    shapes = {f"{k}.weight": (6, 4) for k in "ab"}
    params = parameters(shapes, torch.float32)
    optimizer = adapter.Muon(list(params.items()), lr=0.1, match="torch", kernel="traced")
    for p in params.values():
        p.grad = torch.ones_like(p)
    dtypes = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.overloadpacket.__name__ in ("bmm", "baddbmm"):
                dtypes.add(args[0].dtype)
            return func(*args, **(kwargs or {}))

    with Watch():
        optimizer.step()
    assert dtypes == {torch.bfloat16}

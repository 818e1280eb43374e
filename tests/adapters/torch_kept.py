"""What the tests of kept memory share: forms of an optimizer with parameters in two groups, and what is alive."""

import gc
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch

from scirs2_adapters.core import get, names
from tests.adapters.torch_support import EVERY, ours

Options = dict[str, Any]
Refs = list[weakref.ref[Any]]
#: Options that every rule takes, or that `FORMS` leaves out for some.
OPTIONS: list[Options] = [
    {},
    {"kernel": "traced"},
    {"foreach": True, "kernel": "traced"},
    {"max_grad_norm": 1.0},
    {"skip_nonfinite": True},
    {"state_dtype": "bfloat16"},
    {"state_dtype": "int8"},
    {"state_dtype": "int8", "kernel": "traced"},
    {"rounding": "compensated"},
    {"rounding": "stochastic"},
]
RULES = {get(name).__name__: get(name) for name in names()}
SPARSE = [name for name in EVERY if RULES[name].sparse]
WHOLE = [name for name in EVERY if RULES[name]().model_slots()]


def fits(name: str, options: Options) -> bool:
    """Whether a rule takes these options: codes and rounding errors need dense gradients, and Prodigy 32 bits."""
    fewer = options.get("state_dtype") == "int8" or "rounding" in options
    return not (fewer and RULES[name].sparse == "rows") and not ("rounding" in options and name in WHOLE)


@pytest.fixture(autouse=True, scope="module")
def by_counting_alone() -> Iterator[None]:
    """No collector comes to the aid: memory is free when the last reference goes. What was there before is set aside,
    so that looking through what is new is fast.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


#: Rules that meet every option. The others meet every third one, each beginning with another than its neighbor: what
#: keeps something is a path or a storage, and each is met by six rules or more.
WITH_ALL = ("AdamW", "SGD", "Prodigy")
FORMS = [
    (name, options)
    for i, name in enumerate(EVERY)
    for k, options in enumerate(OPTIONS)
    if fits(name, options) and (name in WITH_ALL or (i + k) % 3 == 0)
]


def made(name: str, options: Options) -> tuple[Any, list[torch.nn.Parameter]]:
    """An optimizer of two groups; of the four matrices one is transposed and two are large enough for codes."""
    dtype = torch.bfloat16 if "rounding" in options else torch.float32
    tensors = [torch.ones(6, 4), torch.ones(4, 6).t(), torch.ones(64, 65), torch.ones(65, 64)]
    params = [torch.nn.Parameter(x.to(dtype)) for x in tensors]
    extra = {"match": None} if name == "Muon" and options.get("state_dtype") == "int8" else {}
    return ours(name)([{"params": params[:2]}, {"params": params[2:], "lr": 0.01}], **options, **extra), params


def give(name: str, params: Iterable[torch.Tensor], sparse: bool | None = None) -> None:
    """A gradient for each parameter."""
    for p in params:
        g = torch.rand(p.shape).to(p.dtype)
        p.grad = g.to_sparse(1) if (RULES[name].sparse == "rows" if sparse is None else sparse) else g


def refs(params: Iterable[torch.Tensor]) -> Refs:
    """Weak references to their gradients."""
    return [weakref.ref(p.grad) for p in params]


def alive(references: Refs) -> int:
    return sum(ref() is not None for ref in references)


def storages(tensors: Iterable[torch.Tensor]) -> dict[int, int]:
    """The bytes of each piece of memory that tensors lie in."""
    dense = [x for x in tensors if x.layout is torch.strided and x.device.type == "cpu"]
    return {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in dense if x.numel()}


def all_storages() -> dict[int, int]:
    """The same of all tensors that the collector knows."""
    return storages(x for x in gc.get_objects() if issubclass(type(x), torch.Tensor))


def tensors_in(value: object) -> Iterator[torch.Tensor]:
    """All tensors in nested dicts and lists."""
    if isinstance(value, torch.Tensor):
        yield value
    for x in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        yield from tensors_in(x)


class Marked(torch.autograd.Function):
    """The identity; each node of a graph that it makes has a mark that lives as long as the graph."""

    marks: weakref.WeakSet[Any] = weakref.WeakSet()

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.mark = type("Mark", (), {})()
        Marked.marks.add(ctx.mark)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad

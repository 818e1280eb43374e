"""A step keeps no gradient: what `zero_grad` frees is free in the next forward and backward pass."""

import weakref

import pytest
import torch

from scirs2_adapters import get, names
from scirs2_adapters import torch as adapter


@pytest.mark.parametrize("kernel", ["auto", "traced"])
@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1.0}, {"skip_nonfinite": True}], ids=str)
@pytest.mark.parametrize("name", names())
def test_no_gradient_outlives_zero_grad(name: str, options: dict[str, object], kernel: str) -> None:
    cls = get(name)
    params = [torch.nn.Parameter(torch.ones(6, 4)), torch.nn.Parameter(torch.ones(4, 6).t())]
    optimizer = getattr(adapter, cls.__name__)(params, kernel=kernel, **options)
    for _ in range(3):
        for p in params:
            g = torch.rand(p.shape)
            p.grad = g.to_sparse() if cls.sparse == "rows" else g
        del g
        seen = [weakref.ref(p.grad) for p in params]
        optimizer.step()
        optimizer.zero_grad()
        assert [ref() for ref in seen] == [None, None]


@pytest.mark.parametrize("name", [name for name in names() if get(name).sparse != "rows"])
def test_a_new_gradient_in_the_place_of_the_last_one_is_read_by_its_form(name: str) -> None:
    """Freed memory comes back: the same address, other strides or another sign."""
    storage = torch.arange(1.0, 17.0)
    walks = []
    for copies in (False, True):
        p = torch.nn.Parameter(torch.ones(4, 4))
        optimizer = getattr(adapter, get(name).__name__)([p], lr=0.1)
        for view in (
            storage.view(4, 4),
            storage.view(4, 4).t(),
            storage.view(4, 4),
            torch._neg_view(storage.view(4, 4)),
        ):
            p.grad = view.clone().resolve_neg().contiguous() if copies else view
            optimizer.step()
        walks.append(p.detach().clone())
    assert torch.equal(*walks)

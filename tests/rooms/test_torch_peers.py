"""Where torch has an optimizer of the name, ours walks its trajectory: parameters, memory, keys, shapes and dtypes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .torch_support import (
    CLOSE,
    PEERS,
    SHAPES,
    distance,
    each_path,
    each_peer,
    ids,
    ours,
    params_of,
    plain,
    theirs,
    twins,
    walk,
)


@each_path
@each_peer
@pytest.mark.parametrize("dtype", list(CLOSE), ids=str)
def test_it_walks_torchs_trajectory(name: str, options: dict[str, Any], kernel: str, dtype: torch.dtype) -> None:
    pair = twins(name, options, lambda: plain(dtype, shapes(name)), kernel=kernel)
    walk(*pair, steps=12)
    assert distance(*pair) < CLOSE[dtype]


@each_peer
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_parameters_stay_near_a_float64_walk(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    half, exact = ours(name)(plain(dtype, shapes(name)), **options), _exact(name, options, dtype)
    walk(half, exact, steps=6)
    for p, q in zip(params_of(half), params_of(exact), strict=True):
        assert torch.allclose(p.double(), q, rtol=0.05, atol=0.05)


def _exact(name: str, options: dict[str, Any], dtype: torch.dtype) -> torch.optim.Optimizer:
    return theirs(name)([p.detach().double() for p in plain(dtype, shapes(name))], **options)


def shapes(name: str) -> tuple[tuple[int, ...], ...]:
    """torch's Adafactor divides by the size of an empty parameter."""
    return tuple(s for s in SHAPES if 0 not in s) if name == "Adafactor" else SHAPES


def sliced(x: torch.Tensor) -> torch.Tensor:
    """Every second column of a wider tensor."""
    wide = torch.zeros(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def transposed(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(0, -1).contiguous().movedim(-1, 0)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def offset(x: torch.Tensor) -> torch.Tensor:
    """A piece of a flat buffer, not aligned to anything."""
    flat = torch.zeros(x.numel() + 3, dtype=x.dtype)
    flat[3:] = x.flatten()
    return flat[3:].view(x.shape)


LAYOUTS = [sliced, transposed, channels_last, offset]
LAID = ((5, 3), (7,), (2, 3, 4, 4))


def laid(layout: Any) -> list[torch.Tensor]:
    return [layout(p.detach()).requires_grad_() for p in plain(shapes=LAID)]


@each_path
@each_peer
@pytest.mark.parametrize("of_grad", [None, *LAYOUTS], ids=lambda f: f.__name__ if f else "contiguous")
@pytest.mark.parametrize("of_param", LAYOUTS)
def test_layouts_do_not_matter(name: str, options: dict[str, Any], kernel: str, of_param: Any, of_grad: Any) -> None:
    mine = ours(name)(laid(of_param), kernel=kernel, **options)
    straight = ours(name)([p.detach().clone().contiguous().requires_grad_() for p in laid(of_param)], **options)
    strides = [p.stride() for p in params_of(mine)]
    walk(mine, straight, steps=3, lay=lambda g, p: of_grad(g) if of_grad and p.grad_fn is None else g)
    assert distance(mine, straight) < 1e-6
    assert [p.stride() for p in params_of(mine)] == strides


@each_peer
def test_neighbours_of_a_view_are_not_touched(name: str, options: dict[str, Any]) -> None:
    wide = torch.ones(6, 8)
    optimizer = ours(name)([wide[:, ::2].requires_grad_()], **options)
    walk(optimizer, steps=2)
    assert torch.equal(wide[:, 1::2], torch.ones(6, 4))
    assert not torch.equal(wide[:, ::2], torch.ones(6, 4))


@each_path
def test_an_expanded_gradient_reaches_every_element(kernel: str) -> None:
    p = torch.nn.Parameter(torch.zeros(4, 3))
    p.grad = torch.ones(()).expand(4, 3)
    ours("SGD")([p], lr=1.0, kernel=kernel).step()
    assert torch.equal(p, -torch.ones(4, 3))
    assert p.grad.stride() == (0, 0)


@each_path
def test_a_negated_gradient_has_the_right_sign(kernel: str) -> None:
    p = torch.nn.Parameter(torch.zeros(3))
    p.grad = torch.complex(torch.zeros(3), torch.ones(3)).conj().imag
    assert p.grad.is_neg()
    ours("SGD")([p], lr=1.0, kernel=kernel).step()
    assert torch.equal(p, torch.ones(3))


def test_a_parameter_whose_elements_share_memory_is_refused() -> None:
    p = torch.zeros(1).expand(4).requires_grad_()
    p.grad = torch.ones(4)
    with pytest.raises(RuntimeError, match="one place in memory"):
        ours("AdamW")([p]).step()
    assert torch.equal(p, torch.zeros(4))


@pytest.mark.parametrize(("name", "options"), [row for row in PEERS if row[0] != "Adafactor"], ids=ids)
def test_complex_parameters_are_two_real_ones(name: str, options: dict[str, Any]) -> None:
    def made() -> list[torch.Tensor]:
        return plain(torch.complex64, shapes=((3, 2), (4,)))

    mine, torchs = twins(name, options, made)
    walk(mine, torchs, steps=5, lay=lambda g, p: g * (1 + 2j))
    for p, q in zip(params_of(mine), params_of(torchs), strict=True):
        assert torch.allclose(p, q, rtol=1e-4, atol=1e-6)
    assert all(x.is_complex() for p in params_of(mine) for k, x in mine.state.get(p, {}).items() if k != "step")


def test_a_complex_parameter_is_refused_where_axes_matter() -> None:
    with pytest.raises(RuntimeError, match="does not support complex"):
        walk(ours("Adafactor")(plain(torch.complex64, shapes=((3, 2),))), steps=1)


def test_muon_steps_nearly_as_torchs_which_iterates_in_bfloat16() -> None:
    pair = twins("Muon", {"lr": 0.02}, lambda: plain(shapes=((6, 3), (3, 6))))
    walk(*pair, steps=10)
    assert distance(*pair) < 0.05


def test_a_gradient_may_have_another_dtype() -> None:
    if not hasattr(torch.Tensor, "grad_dtype"):
        return  # torch before 2.10 has no such gradient
    p = torch.nn.Parameter(torch.zeros(4, dtype=torch.bfloat16))
    p.grad_dtype = torch.float32
    p.grad = torch.ones(4)
    ours("SGD")([p], lr=1.0).step()
    assert torch.equal(p, -torch.ones(4, dtype=torch.bfloat16))


def test_0_d_and_empty_parameters_are_among_the_shapes() -> None:
    assert () in SHAPES
    assert any(0 in shape for shape in SHAPES)

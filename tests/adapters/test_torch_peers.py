"""Where torch has an optimizer of the name, ours walks its trajectory: parameters, memory, keys, shapes and dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from scirs2_adapters import names
from scirs2_adapters.core import get
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf

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

#: Memory that is one real number for each parameter.
NUMBERS = ("step", "mu_product", "eta", "mu")


@each_path
@each_peer
@pytest.mark.parametrize("dtype", list(CLOSE), ids=str)
def test_it_walks_torchs_trajectory(name: str, options: dict[str, Any], kernel: str, dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)  # in which torch keeps single numbers, of parameters of any dtype
    try:
        pair = twins(name, options, lambda: plain(dtype, shapes(name)), kernel=kernel)
        walk(*pair, steps=12)
    finally:
        torch.set_default_dtype(torch.float32)
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
    assert all(x.is_complex() for p in params_of(mine) for k, x in mine.state.get(p, {}).items() if k not in NUMBERS)


#: Rules of which optax has one too, and of what it makes a complex number's square, the modulus's or none.
OF_MODULI = [cls for cls in map(get, names()) if "optax" in cls.matches and cls.name not in ("adafactor", "muon")]


@pytest.mark.parametrize("cls", OF_MODULI, ids=lambda cls: cls.name)
def test_as_optax_has_it_a_complex_walk_turns_with_its_numbers(cls: Any) -> None:
    """Where the square is that of the modulus, and only there, a factor of modulus 1 passes through. Memory turns
    after the first one, since what it is full of at first does not.
    """
    turn, ends = complex(0.6, 0.8), []
    if cls(match="optax").moduli is None:
        with pytest.raises(ValueError, match="must have real parameters"):
            walk(ours(cls.__name__)(plain(torch.complex64, ((4,),)), match="optax"), steps=1)
        return
    real = record(cls(match="optax"), Leaf((3, 2), "float64", complex=True)).moduli
    for factor in (1, turn):
        mine = ours(cls.__name__)(plain(torch.complex128, ((3, 2), (4,))), match="optax")
        walk(mine, steps=1, lay=lambda g, p: g * (1 + 2j))
        memory = [x for held in mine.state.values() for k, x in held.items() if torch.is_tensor(x) and k not in real]
        for x in (*(p.detach() for p in params_of(mine)), *filter(torch.is_complex, memory)):
            x.mul_(factor)
        walk(mine, steps=9, lay=lambda g, p, factor=factor: g * (1 + 2j) * factor)
        ends.append([p.detach() / factor for p in params_of(mine)])
    for p, q in zip(*ends, strict=True):
        assert torch.allclose(p, q, rtol=1e-10, atol=1e-12)


def test_a_complex_parameter_is_refused_where_axes_matter() -> None:
    with pytest.raises(RuntimeError, match="does not support complex"):
        walk(ours("Adafactor")(plain(torch.complex64, shapes=((3, 2),))), steps=1)


def test_muon_steps_nearly_as_torchs_which_iterates_in_bfloat16() -> None:
    pair = twins("Muon", {"lr": 0.02}, lambda: plain(shapes=((6, 3), (3, 6))))
    walk(*pair, steps=10)
    assert distance(*pair) < 0.05


@pytest.mark.parametrize("kernel", ["host", "traced"])
@pytest.mark.parametrize("shape", [(7, 5), (560, 5), (128, 300), (560, 600)], ids=str)
def test_muon_with_torchs_match_iterates_in_bfloat16_too(kernel: str, shape: tuple[int, int]) -> None:
    """It is as far from float32's step as torch's own; small, wide and large matrices are multiplied in other ways."""
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def step(cls: Callable[..., torch.optim.Optimizer], **keywords: object) -> torch.Tensor:
        p = torch.nn.Parameter(torch.zeros(shape))
        p.grad = grad.clone()
        cls([p], lr=1.0, weight_decay=0.0, **keywords).step()
        return p.detach()

    theirs, mine = step(torch.optim.Muon), step(ours("Muon"), match="torch", kernel=kernel)
    p = torch.nn.Parameter(torch.zeros(shape))
    p.grad = grad
    ours("Muon")([("w", p)], lr=1.0, weight_decay=0.0).step()
    assert 1e-3 < (mine - p.detach()).norm() / p.detach().norm() < 0.1
    assert (mine - theirs).norm() / p.detach().norm() < 0.1


def test_0_d_and_empty_parameters_are_among_the_shapes() -> None:
    assert () in SHAPES
    assert any(0 in shape for shape in SHAPES)

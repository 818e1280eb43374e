"""Where numbers lie in memory changes nothing: strides, gaps, offsets, views, other dtypes of gradients, complex ones.

The measure is the same optimizer over contiguous tensors of the same values: the same bits where a formula looks at
one element, and the rounding of a sum's order where it sums.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scirs2_adapters import get, state
from scirs2_adapters.core.cpu.kernel import uses_rows
from scirs2_adapters.core.program.recorded import Program, record
from scirs2_adapters.core.slots import Leaf
from tests.conformance.options import still_steps
from tests.sampling import kind

from .torch_support import (
    distance,
    each_optimizer,
    each_path,
    each_variant,
    learned,
    ours,
    params_of,
    plain,
    same,
    walk,
)

pytestmark = pytest.mark.usefixtures("one_thread")

Tensor = torch.Tensor
Layout = Callable[[Tensor], Tensor]
SHAPES = ((5, 3), (7,), (2, 3, 4, 4))


def sliced(x: Tensor) -> Tensor:
    """Every second column of a wider tensor."""
    wide = torch.full((*x.shape[:-1], 2 * x.shape[-1]), 9.0, dtype=x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def gapped(x: Tensor) -> Tensor:
    """Rows with a gap between them."""
    tall = torch.full((2 * x.shape[0], *x.shape[1:]), 9.0, dtype=x.dtype)
    tall[::2] = x
    return tall[::2]


def transposed(x: Tensor) -> Tensor:
    return x.movedim(0, -1).contiguous().movedim(-1, 0)


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else transposed(x)


def offset(x: Tensor) -> Tensor:
    """A piece of a flat buffer, not aligned to anything."""
    flat = torch.full((x.numel() + 6,), 9.0, dtype=x.dtype)
    flat[3:-3] = x.flatten()
    return flat[3:-3].view(x.shape)


def negated(x: Tensor) -> Tensor:
    """Its memory has the other sign."""
    view = torch.complex(torch.zeros_like(x), -x).conj().imag
    assert view.is_neg()
    return view


LAYOUTS: list[Layout] = [sliced, gapped, transposed, channels_last, offset]
each_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)


def by_element(optimizer: Any) -> bool:
    """Whether its formula looks at one element at a time, whatever the parameter: a rank makes lines of a matrix."""
    rule = optimizer._group_rule(0, optimizer.param_groups[0]).rule
    leaves = [Leaf(shape) for shape in SHAPES]
    return all(rule.route(leaf) is rule and record(rule, leaf).levels == 0 for leaf in leaves)


def by_axes(program: Program) -> bool:
    """Whether rows or columns mean something to it, which the two parts of a number are not."""
    return uses_rows(program) or any(node.op == "matrix" for node in program.nodes)


def near(a: Any, b: Any) -> bool:
    return same(a, b) if by_element(a) else distance(a, b) < 1e-5


def laid(layout: Layout) -> list[Tensor]:
    return [layout(p.detach()).requires_grad_() for p in plain(shapes=SHAPES)]


@each_path
@each_layout
@each_variant
def test_the_layout_of_parameters_and_gradients_does_not_matter(
    name: str, options: dict[str, Any], layout: Layout, kernel: str
) -> None:
    mine, straight = (
        ours(name)([lay(p.detach()).requires_grad_() for p in plain(shapes=SHAPES)], kernel=kernel, **options)
        for lay in (layout, torch.clone)
    )
    strides = [(p.stride(), p.data_ptr()) for p in params_of(mine)]
    for i, of_grad in enumerate((torch.clone, layout, sliced, transposed, offset, negated)):
        walk(mine, steps=2, seed=i, lay=lambda g, p, f=of_grad: f(g))
        walk(straight, steps=2, seed=i)
    assert near(mine, straight)
    assert [(p.stride(), p.data_ptr()) for p in params_of(mine)] == strides


@each_layout
def test_memory_of_any_layout_is_written_as_it_reads(layout: Layout, tmp_path: Path) -> None:
    """In a portable file; `safetensors.numpy.save` takes the numbers as they lie in memory."""
    params = laid(layout)
    optimizer = ours("AdamW")([(str(i), p) for i, p in enumerate(params)])
    walk(optimizer, steps=2)
    state.save(optimizer, tmp_path / "state")
    read = load_file(tmp_path / "state")
    for i, p in enumerate(params):
        for slot in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(read[f"{i}/{slot}"], optimizer.state[p][slot], rtol=0, atol=0)


@each_path
@each_layout
@each_optimizer
def test_neighbors_in_the_same_memory_stay_as_they_are(name: str, layout: Layout, kernel: str) -> None:
    params = laid(layout)
    optimizer = ours(name)(params, kernel=kernel, **learned(name))
    held = [torch.as_strided(p.detach(), (p.untyped_storage().nbytes() // 4,), (1,), 0) for p in params]
    for p, storage in zip(params, held, strict=True):
        p.data.fill_(1.0)
        storage.data[storage != 1.0] = 9.0
    walk(optimizer, steps=3 + 2 * still_steps(name))  # an odd number: two steps of one size can cancel one another
    for p, storage in zip(params, held, strict=True):
        assert int((storage == 9.0).sum()) == storage.numel() - p.numel()
        assert not (p == 1.0).any()


@each_path
@each_optimizer
def test_parameters_and_gradients_may_be_views_of_two_flat_buffers(name: str, kernel: str) -> None:
    """As with DDP's buckets and fused parameter groups."""
    straight = ours(name)(plain(shapes=SHAPES), kernel=kernel)
    sizes = [p.numel() for p in params_of(straight)]
    values = torch.cat([p.detach().flatten() for p in params_of(straight)])
    grads = torch.zeros_like(values)
    pieces = zip(values.split(sizes), SHAPES, strict=True)
    mine = ours(name)([piece.view(shape).requires_grad_() for piece, shape in pieces], kernel=kernel)
    held = dict(zip(params_of(mine), grads.split(sizes), strict=True))
    walk(mine, straight, steps=4, lay=lambda g, p: held[p].copy_(g.flatten()).view_as(p) if p in held else g)
    exact = kind(get(name).name) != "matrix"  # the last bits of a product follow from where its operands lie
    assert same(mine, straight) if exact else distance(mine, straight) < 1e-5
    torch.testing.assert_close(values, torch.cat([p.detach().flatten() for p in params_of(straight)]))


@each_path
@each_optimizer
def test_an_expanded_gradient_reaches_every_element(name: str, kernel: str) -> None:
    mine, straight = (ours(name)(plain(shapes=((4, 3), (5,))), kernel=kernel) for _ in range(2))
    walk(mine, steps=3, lay=lambda g, p: g.flatten()[0].expand_as(p))
    walk(straight, steps=3, lay=lambda g, p: g.flatten()[0].expand_as(p).contiguous())
    assert near(mine, straight)


@each_path
@each_optimizer
def test_a_gradient_may_be_the_parameters_own_memory(name: str, kernel: str) -> None:
    mine, straight = (ours(name)(plain(shapes=((9, 7), (33,))), kernel=kernel) for _ in range(2))
    walk(mine, steps=3, lay=lambda g, p: p.detach())
    walk(straight, steps=3, lay=lambda g, p: p.detach().clone())
    assert same(mine, straight)


@each_path
@each_optimizer
def test_views_of_one_number_and_of_none_are_stepped(name: str, kernel: str) -> None:
    def made() -> list[Tensor]:
        wide = torch.arange(12.0).view(3, 4)
        return [x.requires_grad_() for x in (wide[1, 2], wide[:, 4:], wide[0, 0:0], wide[2:3, 3])]

    mine = ours(name)(made(), kernel=kernel)
    straight = ours(name)([p.detach().clone().contiguous().requires_grad_() for p in made()], kernel=kernel)
    walk(mine, straight, steps=3)
    assert same(mine, straight)
    assert all(torch.isfinite(p).all() for p in params_of(mine))


@each_path
@each_optimizer
def test_weights_that_are_tied_are_stepped_once(name: str, kernel: str) -> None:
    first, second = torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    tied = ours(name)(torch.nn.Sequential(first, second).parameters(), kernel=kernel)
    alone = ours(name)([first.weight.detach().clone().requires_grad_()], kernel=kernel)
    walk(tied, alone, steps=3)
    assert same(tied, alone)


@each_path
@each_optimizer
def test_a_step_raises_the_version_of_each_parameter_that_it_writes(name: str, kernel: str) -> None:
    optimizer = ours(name)([*laid(transposed), *laid(sliced)], kernel=kernel)
    resting = params_of(optimizer)[0]
    for _ in range(2):  # a plan made anew, and one that is used again
        before = [p._version for p in params_of(optimizer)]
        walk(optimizer, steps=1, lay=lambda g, p: None if p is resting else g)
        after = [p._version for p in params_of(optimizer)]
        assert after[0] == before[0]
        assert all(b > a for a, b in zip(before[1:], after[1:], strict=True))


@each_optimizer
def test_memory_lies_as_the_parameter_does(name: str) -> None:
    """As torch's own `zeros_like`: what reads parameter and memory together goes through both in one order."""
    optimizer = ours(name)([*laid(channels_last), *laid(transposed)])
    walk(optimizer, steps=1)
    for p, held in optimizer.state.items():
        for key, x in held.items():
            assert x.shape != p.shape or x.stride() == torch.zeros_like(p).stride(), key


GRAD_DTYPES = [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16), (torch.float32, torch.float64)]


@each_path
@pytest.mark.parametrize(("of_param", "of_grad"), GRAD_DTYPES, ids=str)
@each_optimizer
def test_a_gradient_may_have_another_dtype(name: str, of_param: torch.dtype, of_grad: torch.dtype, kernel: str) -> None:
    """It is read as it is: what the parameter's dtype can hold of it gives the same as a gradient of that dtype."""
    if not hasattr(Tensor, "grad_dtype"):
        return  # torch before 2.10 has no such gradient
    mine, straight = (ours(name)(plain(of_param, SHAPES), kernel=kernel, **learned(name)) for _ in range(2))
    for p in params_of(mine):
        p.grad_dtype = of_grad
    walk(mine, steps=3, lay=lambda g, p: g.bfloat16().to(of_grad))
    walk(straight, steps=3, lay=lambda g, p: g.bfloat16().to(of_param))
    assert near(mine, straight)
    assert all(p.grad.dtype == of_grad for p in params_of(mine))


@each_path
@each_optimizer
def test_a_gradient_of_more_digits_than_the_parameter_is_not_rounded_first(name: str, kernel: str) -> None:
    if not hasattr(Tensor, "grad_dtype"):
        return  # torch before 2.10 has no such gradient
    options = {"kernel": kernel, "state_dtype": "float32", **learned(name)}
    wide, narrow = (ours(name)(plain(torch.bfloat16, SHAPES), **options) for _ in range(2))
    for p in params_of(wide):
        p.grad_dtype = torch.float32
    for optimizer in (wide, narrow):
        walk(optimizer, steps=2, lay=lambda g, p: (g.float() * 1.003).to(getattr(p, "grad_dtype", None) or p.dtype))
    slots = [x for p in params_of(wide) for k, x in wide.state.get(p, {}).items() if k != "step"]
    accurate = [x for x in slots if x.ndim and x.dtype == torch.float32]
    assert not accurate or not same(wide, narrow)


def tilted(g: Tensor, p: Tensor) -> Tensor:
    """A complex gradient that is conjugated by a bit, or its two parts."""
    z = (g * (1 + 2j)).to(torch.complex64).conj()
    return z if p.is_complex() else torch.view_as_real(z.resolve_conj())


@each_optimizer
def test_a_complex_parameter_is_two_real_ones_or_refused(name: str) -> None:
    mine = ours(name)(plain(torch.complex64, ((3, 2), (4,))))
    real = ours(name)([torch.view_as_real(p.detach()).clone().requires_grad_() for p in params_of(mine)])
    rule = get(name)()
    if rule.moduli is None:
        with pytest.raises(ValueError, match=r"must have real parameters"):
            walk(mine, real, steps=1, lay=tilted)
        return
    if any(by_axes(record(rule.route(leaf), leaf)) for leaf in (Leaf((3, 2, 2)), Leaf((4, 2)))):
        with pytest.raises(RuntimeError, match="does not support complex"):
            walk(mine, real, steps=1, lay=tilted)
        return
    walk(mine, real, steps=4, lay=tilted)
    for p, q in zip(params_of(mine), params_of(real), strict=True):
        torch.testing.assert_close(torch.view_as_real(p.detach()), q.detach())
        for key, x in mine.state.get(p, {}).items():
            torch.testing.assert_close(torch.view_as_real(x) if x.is_complex() else x, real.state[q][key])

"""16-bit parameters and memory of any dtype, through every way out and back in: each slot keeps its own dtype and bits.

torch casts what it loads to the parameter's dtype; a bfloat16 `exp_avg_sq` that was float32 no longer moves.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from scirs2_adapters import get
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Extent, Leaf
from tests.conformance.options import still_steps

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

Optimizer = torch.optim.Optimizer
SHAPES = ((5, 3), (7,), (2, 3, 4), ())
HALF = [torch.bfloat16, torch.float16]
each_half = pytest.mark.parametrize("dtype", HALF, ids=str)


def slots(name: str) -> list[str]:
    """The slots that can have a dtype of their own."""
    rule = get(name)()
    elementwise = [s for s in rule.all_slots() if s.extent not in (Extent.MODEL, Extent.TENSOR)]
    return [s.name for s in elementwise if s.initial != "parameter" and not s.accurate]


def mixed(name: str) -> list[dict[str, Any]]:
    """Three groups: each slot in a dtype by its name, all in one, none."""
    first, second, *rest = plain(torch.bfloat16, SHAPES)
    each = dict(zip(slots(name), ("float32", "float16", "float64", "bfloat16") * 3, strict=False))
    return [
        {"params": [first], "state_dtype": each},
        {"params": [second], "state_dtype": "float32"},
        {"params": rest},
    ]


def dtypes(optimizer: Optimizer) -> list[dict[str, torch.dtype]]:
    held = [optimizer.state.get(p, {}) for p in params_of(optimizer)]
    return [{k: x.dtype for k, x in each.items() if isinstance(x, torch.Tensor)} for each in held]


@each_optimizer
def test_each_slot_has_the_dtype_that_its_group_asks_for(name: str) -> None:
    optimizer = ours(name)(mixed(name), **learned(name))
    walk(optimizer, steps=2)
    known = slots(name)
    for p, kinds in zip(params_of(optimizer), dtypes(optimizer), strict=True):
        group = next(g for g in optimizer.param_groups if any(p is q for q in g["params"]))
        for slot in kinds.keys() & set(known):
            asked = group["state_dtype"]
            asked = asked.get(slot) if isinstance(asked, dict) else asked
            if optimizer.state[p][slot].shape == p.shape:
                assert kinds[slot] == getattr(torch, asked or "bfloat16"), slot


def fresh_like(optimizer: Optimizer) -> Optimizer:
    """One of the same class over copies of the parameters, which knows nothing of dtypes."""
    groups = [{"params": [p.detach().clone().requires_grad_() for p in g["params"]]} for g in optimizer.param_groups]
    return type(optimizer)(groups)


def through_a_dict(optimizer: Optimizer) -> Optimizer:
    heir = fresh_like(optimizer)
    heir.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return heir


def through_a_file(optimizer: Optimizer) -> Optimizer:
    file, heir = io.BytesIO(), fresh_like(optimizer)
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    heir.load_state_dict(torch.load(file, weights_only=True))
    return heir


def twice(optimizer: Optimizer) -> Optimizer:
    return through_a_file(through_a_dict(copy.deepcopy(through_a_file(optimizer))))


def into_its_own_past(optimizer: Optimizer) -> Optimizer:
    """A run that goes back to an earlier checkpoint of its own."""
    heir = fresh_like(optimizer)
    heir.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    kept = [p.detach().clone() for p in params_of(heir)]
    walk(heir, steps=3, seed=9)
    heir.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for p, x in zip(params_of(heir), kept, strict=True):
        p.data.copy_(x)
    return heir


WAYS: dict[str, Callable[[Optimizer], Optimizer]] = {
    "dict": through_a_dict,
    "file": through_a_file,
    "deepcopy": copy.deepcopy,
    "pickle": lambda o: pickle.loads(pickle.dumps(o)),
    "twice": twice,
    "past": into_its_own_past,
}


@pytest.mark.parametrize("way", WAYS)
@each_optimizer
def test_mixed_memory_goes_on_bit_for_bit(name: str, way: str) -> None:
    optimizer = ours(name)(mixed(name), **learned(name))
    walk(optimizer, steps=3)
    heir = WAYS[way](optimizer)
    assert dtypes(heir) == dtypes(optimizer)
    walk(optimizer, heir, steps=3, seed=8)
    assert same(optimizer, heir)
    assert dtypes(heir) == dtypes(optimizer)


@each_variant
@each_half
def test_what_is_in_the_middle_of_a_run_does_not_matter(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    whole, broken = (ours(name)(plain(dtype, SHAPES), **{**learned(name), **options}) for _ in range(2))
    for i in range(4):
        walk(whole, broken, steps=2, seed=i)
        broken = through_a_file(broken)
    assert same(whole, broken)


@each_half
@each_optimizer
def test_wide_memory_of_16_bit_parameters_is_as_good_as_wide_parameters(name: str, dtype: torch.dtype) -> None:
    """Memory in float32 is what float32 parameters of the same values would have, after the first step at least."""
    half = ours(name)(plain(dtype, SHAPES), state_dtype="float32", **learned(name))
    wide = ours(name)([p.detach().float().requires_grad_() for p in params_of(half)], **learned(name))
    walk(half, wide, steps=1, lay=lambda g, p: g.to(dtype).to(p.dtype))
    for p, q in zip(params_of(half), params_of(wide), strict=True):
        for key in half.state.get(p, {}).keys() & set(slots(name)):
            mine, other = half.state[p][key], wide.state[q][key]
            if mine.dtype == torch.float32 and mine.shape == other.shape:
                torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


@each_half
@each_optimizer
def test_every_element_of_a_16_bit_parameter_moves(name: str, dtype: torch.dtype) -> None:
    """Whole vectors of a processor and the rest behind them: torch's fused SGD once left the former where they were."""
    sizes = (1, 7, 8, 15, 16, 17, 32, 33, 64, 100, 1000)
    params = [torch.nn.Parameter(torch.zeros(n, dtype=dtype)) for n in sizes]
    optimizer = ours(name)(params, lr=0.1, kernel="host", **learned(name))
    leaf = Leaf((7,))
    nodes = record(get(name)().route(leaf), leaf).nodes
    chance = any(node.op == "matrix" for node in nodes)  # Kron's noise, of a vector
    walk(optimizer, steps=still_steps(name) + 3, lay=lambda g, p: torch.full_like(p, 0.25))
    for p in params:
        assert (p != 0).all()
        if not chance:
            assert len(p.unique()) == 1  # body and rest compute alike


@each_path
@each_optimizer
def test_autocast_around_a_step_changes_nothing(name: str, kernel: str) -> None:
    usual, around = (ours(name)(plain(shapes=SHAPES), kernel=kernel) for _ in range(2))
    walk(usual, steps=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        walk(around, steps=3)
    assert same(usual, around)


@each_optimizer
def test_a_model_trains_under_autocast(name: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer, x = ours(name)(model.parameters()), torch.randn(16, 4)
    before = [p.detach().clone() for p in model.parameters()]
    for _ in range(still_steps(name) + 3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(x).float().square().mean()
        loss.backward()
        optimizer.step()
    assert all(
        torch.isfinite(p).all() and not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True)
    )
    assert all(x.dtype == torch.float32 for held in optimizer.state.values() for x in held.values())


@each_optimizer
def test_a_distributed_checkpoint_keeps_mixed_memory(name: str) -> None:
    model = torch.nn.Linear(4, 3).bfloat16()
    optimizer = ours(name)(model.parameters(), state_dtype="float32", **learned(name))
    walk(optimizer, steps=3)
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer))
    heir = ours(name)(model.parameters(), state_dtype="float32", **learned(name))
    set_optimizer_state_dict(model, heir, saved)
    assert dtypes(heir) == dtypes(optimizer)
    assert distance(heir, optimizer) == 0


def test_a_group_can_ask_for_another_dtype_later() -> None:
    """What is there stays as it is; what is made from then on is as asked."""
    first, second = plain(torch.bfloat16, ((5, 3), (7,)))
    optimizer = ours("AdamW")([first, second])
    walk(optimizer, steps=1, lay=lambda g, p: g if p is first else None)
    optimizer.param_groups[0]["state_dtype"] = "float32"
    walk(optimizer, steps=1)
    assert optimizer.state[first]["exp_avg"].dtype == torch.bfloat16
    assert optimizer.state[second]["exp_avg"].dtype == torch.float32

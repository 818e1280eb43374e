"""Values that someone writes into a live group, or gives in another form: checked as the constructor does, before
anything moves.
"""

from __future__ import annotations

import copy
import math
import re
from collections import UserList
from typing import Any

import numpy as np
import pytest
import torch

from scirs2_adapters.core import get
from scirs2_adapters.core.registry import with_closure

from .torch_support import EVERY, Optimizer, each_path, ours, params_of, plain, plain_for, same, theirs, walk

each_class = pytest.mark.parametrize("name", EVERY)
CLOSURES = [get(name).__name__ for name in with_closure()]


def hyperparameters(optimizer: Optimizer) -> list[tuple[str, int | None]]:
    """The places of numbers in a group: a key, and a position where it holds a tuple."""
    places: list[tuple[str, int | None]] = []
    for key, value in optimizer.defaults.items():
        if isinstance(value, tuple):
            places += [(key, i) for i in range(len(value))]
        elif type(value) in (float, int):
            places.append((key, None))
    return places


def write(group: dict[str, Any], place: tuple[str, int | None], value: Any) -> None:
    key, i = place
    group[key] = value if i is None else (*group[key][:i], value, *group[key][i + 1 :])


def bits(optimizer: Optimizer) -> list[torch.Tensor]:
    tensors = [*params_of(optimizer), *(x for held in optimizer.state.values() for x in held.values())]
    return [x.detach().clone() for x in tensors]


def refusal(name: str, key: str, value: Any) -> Exception | None:
    """The constructor's error for this value, if it refuses it."""
    try:
        ours(name)(plain_for(name), **{key: value})
    except (ValueError, TypeError) as error:
        return error
    return None


BAD = [None, "0.1", math.nan, object(), [0.1]]


@each_path
@each_class
def test_a_value_that_the_constructor_refuses_is_refused_in_a_group_before_anything_moves(
    name: str, kernel: str
) -> None:
    optimizer = ours(name)(plain_for(name), kernel="auto" if kernel == "host" else kernel)
    walk(optimizer, steps=1)
    before = bits(optimizer)
    group, refused = optimizer.param_groups[0], 0
    for place in hyperparameters(optimizer):
        usual, key = group[place[0]], place[0]
        for value in BAD:
            write(group, place, value)
            if (error := refusal(name, key, group[key])) is not None:
                refused += 1
                with pytest.raises(type(error)) as live:
                    optimizer.step()
                assert str(live.value) == str(error)
            group[key] = usual
    assert refused > 3
    assert all(torch.equal(x, y) for x, y in zip(bits(optimizer), before, strict=True))
    walk(optimizer, steps=1)


@each_class
def test_an_added_group_is_checked_like_the_first(name: str) -> None:
    first, second, *_ = plain_for(name)
    optimizer = ours(name)([first])
    for bad in ({"lr": -1.0}, {"lr": "fast"}, {"kernel": "gpu"}, {"state_dtype": "float8"}, {"max_grad_norm": -1}):
        with pytest.raises((ValueError, TypeError)) as constructor:
            ours(name)([second], **bad)
        with pytest.raises(type(constructor.value)) as added:
            optimizer.add_param_group({"params": [second], **bad})
        assert str(added.value) == str(constructor.value)
        assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [second], "lr": np.float32(0.5)})
    assert type(optimizer.param_groups[1]["lr"]) is float


def test_a_tensor_that_is_filled_with_nonsense_is_refused() -> None:
    lr = torch.tensor(0.1)
    optimizer = ours("AdamW")(plain(), lr=lr)
    walk(optimizer, steps=1)
    lr.fill_(math.nan)
    with pytest.raises(ValueError, match="Invalid learning rate: nan"):
        optimizer.step()


@pytest.mark.parametrize("limit", [-1.0, "1", math.nan])
def test_a_limit_written_into_a_group_is_checked(limit: Any) -> None:
    optimizer = ours("AdamW")(plain(), max_grad_norm=1.0)
    walk(optimizer, steps=1)
    optimizer.param_groups[0]["max_grad_norm"] = limit
    with pytest.raises((ValueError, TypeError), match=r"`AdamW\(max_grad_norm=...\)` must be a number > 0"):
        optimizer.step()


# -- the form of what is given


SEQUENCES = [list, tuple, UserList, np.array, torch.tensor, lambda v: torch.tensor(v, dtype=torch.float64)]


@pytest.mark.parametrize("form", SEQUENCES, ids=["list", "tuple", "UserList", "array", "tensor", "tensor64"])
@each_class
def test_any_sequence_is_a_tuple_of_numbers(name: str, form: Any) -> None:
    usual = ours(name)(plain_for(name)).defaults
    arguments = {k: form(v) for k, v in usual.items() if isinstance(v, tuple) and None not in v}
    first, second, *_ = plain_for(name)
    optimizer = ours(name)([first], **arguments)
    optimizer.add_param_group({"params": [second], **arguments})
    for group in optimizer.param_groups:
        for key in arguments:
            assert group[key] == pytest.approx(usual[key], rel=1e-6)
            assert type(group[key]) is tuple
            assert {type(x) for x in group[key]} <= {float, int}
    walk(optimizer, steps=1)
    for group in optimizer.param_groups:
        group |= arguments
    walk(optimizer, steps=1)


@pytest.mark.parametrize("pair", [(0.9,), [0.9, 0.99, 0.999], "ab", 0.9, None, {0.9, 0.99}, np.zeros((2, 2))], ids=repr)
def test_what_is_no_pair_is_refused_at_the_door_and_in_a_group(pair: Any) -> None:
    shown = re.escape(f"{pair!r} ({type(pair).__name__})") if not isinstance(pair, np.ndarray) else r"an array of shape"
    with pytest.raises(TypeError, match=rf"`AdamW\(betas=...\)` must be a tuple of 2 numbers. Received: {shown}"):
        ours("AdamW")(plain(), betas=pair)
    optimizer = ours("AdamW")(plain())
    walk(optimizer, steps=1)
    optimizer.param_groups[0]["betas"] = pair
    with pytest.raises(TypeError, match=r"`AdamW\(betas=...\)` must be a tuple of 2 numbers"):
        optimizer.step()


@pytest.mark.parametrize("name", [*EVERY, *CLOSURES])
def test_defaults_make_the_optimizer_again(name: str) -> None:
    """As DeepSpeed, and others that wrap an optimizer, make theirs."""
    optimizer = ours(name)(plain_for(name), lr=0.125)
    for original in (optimizer, copy.deepcopy(optimizer)):
        again = type(optimizer)(plain_for(name), **original.defaults)
        assert again.defaults == optimizer.defaults
        assert str(again) == str(optimizer)


# -- lists that belong together


def named() -> list[tuple[str, torch.Tensor]]:
    return list(zip("abcd", plain(shapes=((5, 3), (7,), (2, 3), (4,))), strict=True))


CHANGES: dict[str, Any] = {
    "append": lambda ps: ps.append(torch.nn.Parameter(torch.ones(3))),
    "pop": lambda ps: ps.pop(1),
    "insert": lambda ps: ps.insert(0, torch.nn.Parameter(torch.ones(3))),
    "clear": lambda ps: ps.clear(),
    "reverse": lambda ps: ps.reverse(),
}


@pytest.mark.parametrize("change", CHANGES)
@each_class
def test_a_list_of_parameters_that_changes_keeps_each_name_at_its_parameter(name: str, change: str) -> None:
    if get(name).sparse == "rows" and change in ("append", "insert"):
        change = "reverse"
    pair = [ours(name)(named()), ours(name)([p for _, p in named()])]
    walk(*pair, steps=1)
    names = {id(p): n for n, p in zip("abcd", params_of(pair[0]), strict=True)}
    for optimizer in pair:
        CHANGES[change](optimizer.param_groups[0]["params"])
    walk(*pair, steps=2, seed=2)
    saved = pair[0].state_dict()["param_groups"][0]
    assert saved["param_names"] == [names.get(id(p), "") for p in params_of(pair[0])]
    assert len(saved["params"]) == len(params_of(pair[0]))
    assert same(*pair)


def test_a_list_that_another_takes_the_place_of_is_stepped() -> None:
    """As sharding optimizers do, which put one flat vector there."""
    optimizer, alone = ours("AdamW")(named()), theirs("AdamW")(plain(shapes=((42,),)))
    optimizer.param_groups[0]["params"] = plain(shapes=((42,),))
    walk(optimizer, alone, steps=3)
    assert torch.allclose(params_of(optimizer)[0], params_of(alone)[0], atol=1e-6)


def test_names_are_not_what_keeps_a_parameter_alive() -> None:
    optimizer = ours("AdamW")(named())
    walk(optimizer, steps=1)
    optimizer.param_groups[0]["params"].clear()
    optimizer.state.clear()
    optimizer.step()
    assert len(optimizer._names) == 0
    assert copy.deepcopy(optimizer).state_dict()["param_groups"][0]["param_names"] == []


@pytest.mark.parametrize(
    ("name", "flag", "slot"), [("Adam", "amsgrad", "max_exp_avg_sq"), ("SGD", "momentum", "momentum_buffer")]
)
def test_memory_that_is_no_longer_asked_for_waits_as_it_does_in_torch(name: str, flag: str, slot: str) -> None:
    on, off = (0.9, 0.0) if flag == "momentum" else (True, False)
    held = []
    for make in (ours(name), theirs(name)):
        optimizer = make(plain(), lr=0.1, **{flag: on})
        walk(optimizer, steps=2)
        for value in (off, on):
            optimizer.param_groups[0][flag] = value
            walk(optimizer, steps=2)
            held.append([x[slot].clone() for x in optimizer.state.values()])
        held.append(params_of(optimizer))
    for a, b in zip(held[:3], held[3:], strict=True):
        assert all(torch.allclose(x, y, atol=1e-6) for x, y in zip(a, b, strict=True))

"""Loading: extra keys pass, missing ones take defaults, memory goes by name, and what does not fit is said by name."""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from scirs2_adapters import get
from scirs2_adapters.adapters.torch.argument_names import FLAGS

from .torch_loading import NAMES, named, stepped
from .torch_support import (
    EVERY,
    PEERED,
    Optimizer,
    distance,
    each_optimizer,
    ours,
    params_of,
    plain,
    plain_for,
    same,
    theirs,
    walk,
)

each_class = pytest.mark.parametrize("name", EVERY)


# -- what others have left in a dict, and what it lacks


@each_class
def test_keys_that_nobody_knows_pass_through(name: str) -> None:
    """Another library's slow buffer, a user's average; a group's word that is one of another optimizer here."""
    optimizer = stepped(name, plain_for(name))
    for p in params_of(optimizer):
        optimizer.state[p] |= {"slow_buffer": torch.ones(2), "z": p.detach().clone(), "ema": 0.5, "note": {"n": 1}}
    for word in ("rho", "momentum", "alpha", "d", "initial_lr", "swa_lr", "layer"):
        optimizer.param_groups[0].setdefault(word, 0.25)
    before = copy.deepcopy(optimizer.state_dict())
    fresh = ours(name)([p.detach().clone().requires_grad_() for p in params_of(optimizer)])
    fresh.load_state_dict(copy.deepcopy(before))
    for p, q in zip(params_of(fresh), params_of(optimizer), strict=True):
        assert torch.equal(fresh.state[p].pop("slow_buffer"), optimizer.state[q].pop("slow_buffer"))
        assert torch.equal(fresh.state[p].pop("z"), optimizer.state[q].pop("z"))
        assert fresh.state[p].pop("ema") == optimizer.state[q].pop("ema") == 0.5
        assert fresh.state[p].pop("note") == optimizer.state[q].pop("note") == {"n": 1}
    assert fresh.param_groups[0]["layer"] == 0.25
    walk(optimizer, fresh, steps=2, seed=8)
    assert same(optimizer, fresh)


@pytest.mark.parametrize("name", PEERED)
def test_keys_that_nobody_knows_pass_through_in_a_dict_of_torchs(name: str) -> None:
    torchs = theirs(name)(plain_for(name))
    walk(torchs, steps=2)
    saved = copy.deepcopy(torchs.state_dict())
    for word in ("rho", "initial_lr"):
        saved["param_groups"][0].setdefault(word, 0.05)
    for held in saved["state"].values():
        held["slow_buffer"] = torch.zeros(3)
    fresh = ours(name)([p.detach().clone().requires_grad_() for p in params_of(torchs)])
    fresh.load_state_dict(saved)
    for p in params_of(fresh):
        fresh.state.get(p, {}).pop("slow_buffer", None)
    walk(torchs, fresh, steps=2, seed=8)
    assert distance(fresh, torchs) < (0.2 if name == "Muon" else 1e-5)  # torch's Muon iterates in bfloat16


@each_class
def test_flags_and_words_that_a_dict_lacks_take_their_defaults(name: str) -> None:
    optimizer = stepped(name, plain_for(name))
    every = [k for k in optimizer.param_groups[0] if k not in ("params", "algorithm")]
    for missing in [*([k] for k in every), list(FLAGS), every]:
        saved = copy.deepcopy(optimizer.state_dict())
        for key in missing:
            del saved["param_groups"][0][key]
        fresh = ours(name)([p.detach().clone().requires_grad_() for p in params_of(optimizer)])
        fresh.load_state_dict(saved)
        assert fresh.param_groups[0].keys() == optimizer.param_groups[0].keys()
        usual = ours(name)(plain_for(name)).param_groups[0]
        assert {k: fresh.param_groups[0][k] for k in missing} == {k: usual[k] for k in missing}


@each_optimizer
def test_memory_that_is_missing_begins_anew_and_is_named(name: str, caplog: pytest.LogCaptureFixture) -> None:
    optimizer = stepped(name, named())
    saved = copy.deepcopy(optimizer.state_dict())
    lost = [k for k, x in saved["state"].get(0, {}).items() if k != "step" and x.shape == (5, 3)][:1]
    for key in lost:
        del saved["state"][0][key]
    fresh = ours(name)(named())
    with caplog.at_level(logging.WARNING, "scirs2"):
        fresh.load_state_dict(saved)
    always = {s.name for s in get(name.casefold())().all_slots() if s.present_if is None}
    if always.intersection(lost) and len(optimizer.state[params_of(optimizer)[0]]) > 1:
        assert f"['0.weight'] has no {lost[0]}, which begins anew" in caplog.text
    walk(fresh, steps=1)
    assert list(map(len, fresh.state.values())) == list(map(len, optimizer.state.values()))


def test_a_dict_of_a_later_format_is_refused() -> None:
    optimizer = stepped("AdamW", plain())
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][0]["format_version"] = 99
    with pytest.raises(ValueError, match=r"must be a state dict of AdamW of format 1 or older. Received: 99. Update"):
        optimizer.load_state_dict(saved)


@each_class
def test_a_dict_says_what_it_is(name: str) -> None:
    optimizer = stepped(name, named())
    (group,) = optimizer.state_dict()["param_groups"]
    assert group["algorithm"].startswith(name)
    assert (group["match"], group["format_version"], group["param_names"]) == (None, 1, NAMES)


# -- numbers


FORMS: dict[str, Callable[[Any], Any]] = {
    "tensors": torch.tensor,
    "arrays": np.asarray,
    "scalars": lambda x: np.asarray(x)[()],
    "lists": lambda x: list(x) if isinstance(x, tuple) else x,
}


def number_keys(optimizer: Optimizer) -> list[str]:
    """Keys of a group that hold numbers, flags, or tuples of numbers."""
    return [
        k
        for k, v in optimizer.param_groups[0].items()
        if isinstance(v, (int, float)) or (isinstance(v, tuple) and None not in v)
    ]


@pytest.mark.parametrize("form", FORMS)
@each_class
def test_numbers_in_a_dict_become_pythons(name: str, form: str) -> None:
    """As they come out of other formats: tensors without axes, arrays, lists."""
    optimizer = stepped(name, plain_for(name))
    saved, group = copy.deepcopy(optimizer.state_dict()), optimizer.param_groups[0]
    saved["param_groups"][0] |= {k: FORMS[form](group[k]) for k in number_keys(optimizer)}
    fresh = ours(name)([p.detach().clone().requires_grad_() for p in params_of(optimizer)])
    fresh.load_state_dict(saved)
    for k in number_keys(optimizer):
        new = fresh.param_groups[0][k]
        assert type(new) is type(group[k]), k
        assert new == pytest.approx(group[k], rel=1e-6), k
        assert all(type(x) in (float, int) for x in (new if isinstance(new, tuple) else ())), k
    walk(fresh, steps=1)


@each_class
def test_numbers_of_numpy_never_reach_a_file(name: str) -> None:
    """By the constructor, by an added group, and written into one: `weights_only=True` would refuse them."""
    usual = ours(name)(plain_for(name)).defaults
    arguments = {k: FORMS["scalars"](v) for k, v in usual.items() if type(v) in (float, int)}
    arguments |= {k: tuple(map(np.float64, v)) for k, v in usual.items() if isinstance(v, tuple) and None not in v}
    *first, second, third = plain_for(name)
    optimizer = ours(name)(first, **arguments) if first else ours(name)([second], **arguments)
    optimizer.add_param_group({"params": [third], **arguments})
    walk(optimizer, steps=1)
    for group, form in zip(optimizer.param_groups, (FORMS["scalars"], FORMS["arrays"]), strict=True):
        group |= {k: form(v) for k, v in arguments.items()}
    walk(optimizer, steps=1)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    assert [group["lr"] for group in saved["param_groups"]] == [usual["lr"]] * 2
    optimizer.load_state_dict(saved)


def test_a_learning_rate_that_is_a_tensor_stays_one_where_it_is_one_here() -> None:
    donor = stepped("AdamW", plain(), lr=torch.tensor(0.01))
    for lr, kind in ((0.5, float), (torch.tensor(0.5), torch.Tensor)):
        fresh = ours("AdamW")(plain(), lr=lr)
        fresh.load_state_dict(copy.deepcopy(donor.state_dict()))
        assert type(fresh.param_groups[0]["lr"]) is kind
        assert float(fresh.param_groups[0]["lr"]) == pytest.approx(0.01)


@each_class
def test_numbers_of_parameters_may_be_text(name: str) -> None:
    """As JSON and the formats that follow it have them."""
    donor = stepped(name, plain_for(name))
    saved = copy.deepcopy(donor.state_dict())
    saved["state"] = {str(k): held for k, held in saved["state"].items()}
    fresh = ours(name)([p.detach().clone().requires_grad_() for p in params_of(donor)])
    fresh.load_state_dict(saved)
    assert same(fresh, donor)
    if donor.state:
        saved["state"] = {str(int(k) + 100): held for k, held in saved["state"].items()}
        with pytest.raises(ValueError, match="must have its memory under the numbers of its parameters"):
            fresh.load_state_dict(saved)


@pytest.mark.parametrize("name", PEERED)
def test_every_dict_of_torchs_is_taken_by_its_own_class_alone(name: str) -> None:
    """Also where another has the same numbers and the same memory: flags tell them apart."""
    torchs = theirs(name)(plain_for(name))
    walk(torchs, steps=1)
    takers = []
    for other in PEERED:
        fresh = ours(other)([p.detach().clone().requires_grad_() for p in params_of(torchs)])
        try:
            fresh.load_state_dict(copy.deepcopy(torchs.state_dict()))
        except ValueError:
            assert not fresh.state
        else:
            takers.append(other)
    assert takers == [name]

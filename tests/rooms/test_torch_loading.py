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

from scirs2_adapters.adapters.torch.dialect import FLAGS

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

NAMES = ["0.weight", "0.bias", "1.weight", "1.bias"]
SHAPES = ((5, 3), (5,), (2, 5), (2,))
each_class = pytest.mark.parametrize("name", EVERY)


def named(order: list[int] | None = None) -> list[tuple[str, torch.Tensor]]:
    pairs = list(zip(NAMES, plain(shapes=SHAPES), strict=True))
    return pairs if order is None else [pairs[i] for i in order]


def stepped(name: str, params: Any, **options: Any) -> Optimizer:
    optimizer = ours(name)(params, **options)
    walk(optimizer, steps=3)
    return optimizer


def by_name(optimizer: Optimizer) -> dict[str, dict[str, Any]]:
    """The memory of each parameter under its name."""
    pairs = [pair for g in optimizer.param_groups for pair in zip(g["param_names"], g["params"], strict=True)]
    return {name: optimizer.state.get(p, {}) for name, p in pairs}


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(torch.as_tensor(a[k]), torch.as_tensor(b[k])) for k in a)


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
    if lost and len(optimizer.state[params_of(optimizer)[0]]) > 1:
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
    given = {k: FORMS["scalars"](v) for k, v in usual.items() if type(v) in (float, int)}
    given |= {k: tuple(map(np.float64, v)) for k, v in usual.items() if isinstance(v, tuple) and None not in v}
    *first, second, third = plain_for(name)
    optimizer = ours(name)(first, **given) if first else ours(name)([second], **given)
    optimizer.add_param_group({"params": [third], **given})
    walk(optimizer, steps=1)
    for group in optimizer.param_groups:
        group |= given
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


# -- names


@each_optimizer
def test_memory_goes_by_name(name: str) -> None:
    donor = stepped(name, named())
    fresh = ours(name)(named([2, 0, 3, 1]))
    fresh.load_state_dict(copy.deepcopy(donor.state_dict()))
    before, after = by_name(donor), by_name(fresh)
    assert list(after) == [NAMES[i] for i in (2, 0, 3, 1)]
    assert all(equal(before[n], after[n]) for n in NAMES)


def grouped(order: list[list[int]], lrs: list[float]) -> list[dict[str, Any]]:
    return [{"params": named(each), "lr": lr} for each, lr in zip(order, lrs, strict=True)]


@each_optimizer
def test_groups_go_by_the_names_in_them(name: str) -> None:
    donor = stepped(name, grouped([[0, 2], [1, 3]], [0.1, 0.2]))
    fresh = ours(name)(grouped([[3, 1], [2, 0]], [0.0, 0.0]))
    fresh.load_state_dict(copy.deepcopy(donor.state_dict()))
    assert [group["lr"] for group in fresh.param_groups] == [0.2, 0.1]
    before, after = by_name(donor), by_name(fresh)
    assert all(equal(before[n], after[n]) for n in NAMES)


def test_what_wrappers_put_into_names_is_no_other_name() -> None:
    donor = stepped("AdamW", [(f"_orig_mod.module.{n}", p) for n, p in named()])
    fresh = ours("AdamW")(named([2, 0, 3, 1]))
    fresh.load_state_dict(copy.deepcopy(donor.state_dict()))
    after = by_name(fresh)
    assert all(equal(donor.state[p], after[n]) for p, n in zip(params_of(donor), NAMES, strict=True))
    assert fresh.param_groups[0]["param_names"] == [NAMES[i] for i in (2, 0, 3, 1)]


def test_a_model_of_quite_other_names_loads_by_position_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    donor = stepped("AdamW", [(f"encoder{i}", p) for i, (_, p) in enumerate(named())])
    fresh = ours("AdamW")(named())
    fresh.load_state_dict(copy.deepcopy(donor.state_dict()))
    assert "no saved name is one of this optimizer's; memory goes by position" in caplog.text
    assert all(equal(donor.state[p], fresh.state[q]) for p, q in zip(params_of(donor), params_of(fresh), strict=True))


@each_optimizer
def test_other_parameters_are_refused_by_name_or_loaded_in_part(name: str) -> None:
    donor = stepped(name, named([0, 1, 2]))
    pairs = named([3, 2, 1])
    pairs[2] = (NAMES[1], torch.nn.Parameter(torch.ones(7)))  # of another shape
    fresh = ours(name)(pairs, lr=0.5)
    saved, before = copy.deepcopy(donor.state_dict()), copy.deepcopy(fresh.state_dict())
    with pytest.raises(ValueError, match=r"missing: 1.bias; unexpected: 0.weight. Rec.*strict=False"):
        fresh.load_state_dict(saved)
    assert str(fresh.state_dict()) == str(before)
    report = fresh.load_state_dict(saved, strict=False)
    kept = by_name(donor)
    fits = not kept["0.bias"] or all(x.ndim == 0 for x in kept["0.bias"].values())
    assert report.missing == ["1.bias"]
    assert report.unexpected == ["0.weight"]
    assert report.mismatched == ([] if fits else ["0.bias"])
    after = by_name(fresh)
    assert equal(kept["1.weight"], after["1.weight"])
    assert not after["1.bias"]
    assert set(fresh.state) <= set(params_of(fresh))
    walk(fresh, steps=2, seed=3)


def test_other_groups_are_refused_or_keep_the_options_of_here() -> None:
    donor = stepped("AdamW", named(), lr=0.1)
    fresh = ours("AdamW")(grouped([[0, 2], [1, 3]], [0.3, 0.4]))
    with pytest.raises(ValueError, match=r"different number of parameter groups.*strict=False"):
        fresh.load_state_dict(donor.state_dict())
    fresh.load_state_dict(copy.deepcopy(donor.state_dict()), strict=False)
    assert [group["lr"] for group in fresh.param_groups] == [0.3, 0.4]
    before, after = by_name(donor), by_name(fresh)
    assert all(equal(before[n], after[n]) for n in NAMES)


def test_sizes_that_differ_are_told_with_the_names_that_are_known() -> None:
    donor, fresh = stepped("AdamW", named()), ours("AdamW")([p for _, p in named([0, 1])])
    with pytest.raises(ValueError, match=r"doesn't match the size.*group 0: 4 saved, 2 here; saved only: 0.we"):
        fresh.load_state_dict(donor.state_dict())
    both = ours("AdamW")(named([0, 1]))
    with pytest.raises(ValueError, match=r"unexpected: 1.weight, 1.bias"):
        both.load_state_dict(donor.state_dict())


@each_optimizer
def test_memory_of_another_shape_is_told_by_name(name: str) -> None:
    donor = stepped(name, named())
    full = next((k for k, x in donor.state.get(params_of(donor)[0], {}).items() if x.ndim), None)
    if full is None:
        return  # it remembers nothing that has a shape
    fresh = ours(name)([(NAMES[0], torch.nn.Parameter(torch.ones(4, 4))), *named()[1:]])
    with pytest.raises(ValueError, match=rf"{name}.load_state_dict\(state_dict\['state'\]\['0.weight'\]\['{full}'\]"):
        fresh.load_state_dict(donor.state_dict())
    assert not fresh.state

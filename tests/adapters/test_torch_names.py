"""Memory goes by the names of parameters where both sides have names, and what does not fit is said by name."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from .torch_loading import NAMES, named, stepped
from .torch_support import Optimizer, each_optimizer, ours, params_of, walk


def by_name(optimizer: Optimizer) -> dict[str, dict[str, Any]]:
    """The memory of each parameter under its name."""
    pairs = [pair for g in optimizer.param_groups for pair in zip(g["param_names"], g["params"], strict=True)]
    return {name: optimizer.state.get(p, {}) for name, p in pairs}


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(torch.as_tensor(a[k]), torch.as_tensor(b[k])) for k in a)


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
    # no axis is as long as one of the donor, which memory of one direction may have alone
    fresh = ours(name)([(NAMES[0], torch.nn.Parameter(torch.ones(4, 6))), *named()[1:]])
    with pytest.raises(ValueError, match=rf"{name}.load_state_dict\(state_dict\['state'\]\['0.weight'\]\['{full}'\]"):
        fresh.load_state_dict(donor.state_dict())
    assert not fresh.state


@each_optimizer
def test_a_distributed_checkpoint_goes_by_its_own_names(name: str) -> None:
    """It has names in place of numbers, in the order in which it loads, and copies the list of names as it was."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    twin = copy.deepcopy(model)
    donor = ours(name)(model.named_parameters())
    heir = ours(name)(list(twin.named_parameters())[::-1])
    walk(donor, steps=3)
    saved = copy.deepcopy(get_optimizer_state_dict(model, donor))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch's own, about names it has moved
        set_optimizer_state_dict(twin, heir, saved)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert equal(donor.state.get(p, {}), heir.state.get(q, {}))


def test_a_search_has_its_vectors_in_the_order_of_the_names() -> None:
    torch.manual_seed(0)
    models = [torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))]
    x = torch.randn(8, 3)

    def stepped_by(model: torch.nn.Module, optimizer: Optimizer) -> float:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(x).square().sum()
            loss.backward()
            return loss

        return float(optimizer.step(closure).detach())

    donor = ours("LBFGS")(models[0].named_parameters(), lr=0.3, max_iter=4)
    stepped_by(models[0], donor)
    models.append(copy.deepcopy(models[0]))
    heir = ours("LBFGS")(list(models[1].named_parameters())[::-1], lr=0.3, max_iter=4)
    heir.load_state_dict(copy.deepcopy(donor.state_dict()))
    assert heir.param_groups[0]["param_names"] == donor.param_groups[0]["param_names"][::-1]
    for _ in range(3):
        losses = [stepped_by(m, o) for m, o in zip(models, (donor, heir), strict=True)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    names = ["x", *list(dict(models[1].named_parameters()))[1:]]
    other = ours("LBFGS")(list(zip(names, models[1].parameters(), strict=True)))
    with pytest.raises(ValueError, match=r"saved only: 0.weight; here only: x"):
        other.load_state_dict(donor.state_dict())

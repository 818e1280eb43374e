"""State in and out: torch's form both ways, every dtype as it was saved, copies that go on bit for bit."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from .torch_support import (
    ALL,
    distance,
    each_optimizer,
    each_peer,
    learned,
    ours,
    params_of,
    plain,
    same,
    theirs,
    twins,
    walk,
)

SMALL = ((5, 3), (7,), (2, 3, 4, 4), ())


def small(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return plain(dtype, SMALL)


def cloned(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [p.detach().clone().requires_grad_() for p in params_of(optimizer)]


@each_peer
def test_a_dict_of_torchs_goes_on_here(name: str, options: dict[str, Any]) -> None:
    _, torchs = twins(name, options, small)
    walk(torchs, steps=3)
    mine = ours(name)(cloned(torchs), lr=123.0)
    mine.load_state_dict(copy.deepcopy(torchs.state_dict()))
    assert mine.param_groups[0]["lr"] == torchs.param_groups[0]["lr"]
    walk(mine, torchs, steps=5, seed=6)
    assert distance(mine, torchs) < 1e-5


@each_peer
def test_a_dict_of_ours_goes_on_in_torch(name: str, options: dict[str, Any]) -> None:
    mine, _ = twins(name, options, small)
    walk(mine, steps=3)
    torchs = theirs(name)(cloned(mine), lr=123.0)
    torchs.load_state_dict(copy.deepcopy(mine.state_dict()))
    walk(mine, torchs, steps=5, seed=6)
    assert distance(mine, torchs) < 1e-5


@each_peer
def test_keys_and_dtypes_are_torchs(name: str, options: dict[str, Any]) -> None:
    mine, torchs = twins(name, options, small)
    walk(mine, torchs, steps=1)
    a, b = mine.state_dict(), torchs.state_dict()
    assert b["param_groups"][0].keys() <= a["param_groups"][0].keys()
    for key in b["state"]:
        assert list(a["state"][key]) == list(b["state"][key])
    assert a["state"].keys() == b["state"].keys()


def through_a_file(saved: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda o: pickle.loads(pickle.dumps(o)),
}


@pytest.mark.parametrize("how", COPIES)
@each_optimizer
def test_a_copy_goes_on_bit_for_bit(name: str, how: str) -> None:
    optimizer = ours(name)(small())
    walk(optimizer, steps=7)
    twin = COPIES[how](optimizer)
    walk(optimizer, twin, steps=7, seed=8)
    assert type(twin) is type(optimizer)
    assert same(optimizer, twin)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("state_dtype", [None, "float32", "bfloat16"])
@each_optimizer
def test_a_saved_dict_goes_on_bit_for_bit(name: str, state_dtype: str | None, dtype: torch.dtype) -> None:
    optimizer = ours(name)(small(dtype), state_dtype=state_dtype, **learned(name))
    walk(optimizer, steps=7)
    fresh = ours(name)(cloned(optimizer))
    fresh.load_state_dict(through_a_file(optimizer.state_dict()))
    assert same(optimizer, fresh)
    walk(optimizer, fresh, steps=7, seed=8)
    assert same(optimizer, fresh)


def test_memory_may_have_its_own_dtype_by_slot_and_by_group() -> None:
    first, second = small(torch.bfloat16)[:2]
    groups = [{"params": [first], "state_dtype": {"exp_avg_sq": "float32"}}, {"params": [second]}]
    optimizer = ours("AdamW")(groups, state_dtype=torch.float32)
    walk(optimizer, steps=1)
    dtypes = [(optimizer.state[p]["exp_avg"].dtype, optimizer.state[p]["exp_avg_sq"].dtype) for p in (first, second)]
    assert dtypes == [(torch.bfloat16, torch.float32), (torch.float32, torch.float32)]


def test_a_post_hook_sees_memory_in_its_own_dtype() -> None:
    optimizer = ours("AdamW")(small(torch.bfloat16), state_dtype="float32")
    walk(optimizer, steps=1)
    seen = []
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append(o.state[params_of(o)[0]]["exp_avg"].dtype))
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert seen == [torch.float32]


@pytest.mark.parametrize("step", [3, 3.0, torch.tensor(3.0), torch.tensor(3.0, dtype=torch.float64), torch.tensor(3)])
def test_a_step_of_any_kind_is_understood(step: Any) -> None:
    mine, torchs = twins("AdamW", {}, small)
    walk(mine, torchs, steps=3)
    saved = copy.deepcopy(torchs.state_dict())
    for held in saved["state"].values():
        held["step"] = copy.deepcopy(step)
    mine.load_state_dict(saved)
    walk(mine, torchs, steps=2, seed=9)
    assert all(float(mine.state[p]["step"]) == 5 for p in params_of(mine))
    for p, q in zip(params_of(mine), params_of(torchs), strict=True):
        assert torch.allclose(p, q)


def test_a_step_that_the_user_writes_is_taken() -> None:
    mine, torchs = twins("AdamW", {}, small)
    walk(mine, torchs, steps=2)
    for optimizer in (mine, torchs):
        first, second = params_of(optimizer)[:2]
        optimizer.state[first]["step"].fill_(50)
        optimizer.state[second]["step"] = torch.tensor(70.0)
    walk(mine, torchs, steps=2, seed=9)
    assert distance(mine, torchs) < 1e-6


def test_memory_that_the_user_replaces_is_taken() -> None:
    mine, torchs = twins("AdamW", {}, small)
    for how in range(4):
        for optimizer in (mine, torchs):
            held = optimizer.state.get(params_of(optimizer)[0], {})
            if how == 1:
                held["exp_avg"] = torch.ones(5, 3)
            if how == 2:
                held["exp_avg"].data = torch.full((5, 3), 2.0)
            if how == 3:
                optimizer.state.pop(params_of(optimizer)[0])
        walk(mine, torchs, steps=2, seed=how)
    assert distance(mine, torchs) < 1e-5


def test_partial_and_older_dicts_load() -> None:
    mine, torchs = twins("AdamW", {}, small)
    walk(mine, torchs, steps=1)
    saved = copy.deepcopy(torchs.state_dict())
    del saved["state"][1]
    for flag in ("foreach", "maximize", "capturable", "differentiable", "fused", "amsgrad", "decoupled_weight_decay"):
        del saved["param_groups"][0][flag]
    for optimizer in (mine, torchs):
        optimizer.load_state_dict(copy.deepcopy(saved))
    walk(mine, torchs, steps=2, seed=9)
    assert distance(mine, torchs) < 1e-6


def test_the_kernel_stays_with_the_process() -> None:
    saved = ours("AdamW")(small(), kernel="host").state_dict()
    optimizer = ours("AdamW")(small(), kernel="traced")
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["kernel"] == "traced"


FOREIGN = [(a, b) for a in ALL for b in ALL if a != b]


@pytest.mark.parametrize(("name", "other"), FOREIGN)
def test_the_dict_of_another_optimizer_is_refused(name: str, other: str) -> None:
    optimizer, stranger = ours(name)(small()), ours(other)(small())
    walk(optimizer, stranger, steps=1)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=rf"{name}\.load_state_dict.*{other}"):
        optimizer.load_state_dict(stranger.state_dict())
    assert str(before) == str(optimizer.state_dict())


@pytest.mark.parametrize("other", ["NAdam", "Adagrad", "Adamax", "ASGD", "Rprop", "Adadelta", "SGD", "RMSprop"])
def test_the_dict_of_another_optimizer_of_torchs_is_refused(other: str) -> None:
    stranger = theirs(other)(small())
    walk(stranger, steps=1)
    with pytest.raises(ValueError, match=r"must be a state dict of Adam"):
        ours("Adam")(small()).load_state_dict(stranger.state_dict())


def test_numbers_of_the_model_are_equal_in_all_groups() -> None:
    first, *rest = small()
    optimizer = ours("Prodigy")([{"params": [first]}, {"params": rest, "lr": 0.5}], d0=1e-3)
    walk(optimizer, steps=5, lay=lambda g, p: torch.ones_like(p))
    numbers = [[group[k] for k in ("d", "d_max", "d_numerator")] for group in optimizer.param_groups]
    assert numbers[0] == numbers[1]
    assert numbers[0][0] > 1e-3
    assert all(type(v) is float for v in numbers[0])
    assert all(isinstance(key, int) for key in optimizer.state_dict()["state"])


@each_optimizer
def test_a_checkpoints_dry_step_changes_no_parameter(name: str) -> None:
    """What torch.distributed.checkpoint does to a fresh optimizer: zero gradients, lr 0, one step."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    before = copy.deepcopy(model.state_dict())
    optimizer = ours(name)(model.parameters(), weight_decay=0.1)
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch's own, about names it has moved
        set_optimizer_state_dict(model, optimizer, saved)
    walk(optimizer, steps=1)


def test_a_checkpoint_keeps_the_dtype_of_memory() -> None:
    model = torch.nn.Linear(4, 3).bfloat16()
    optimizer = ours("AdamW")(model.parameters(), state_dtype="float32")
    walk(optimizer, steps=3)
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer))
    fresh = ours("AdamW")(model.parameters(), state_dtype="float32")
    set_optimizer_state_dict(model, fresh, saved)
    for p in model.parameters():
        assert torch.equal(fresh.state[p]["exp_avg"], optimizer.state[p]["exp_avg"])
        assert fresh.state[p]["exp_avg"].dtype == torch.float32


def test_shapes_that_are_wrong_are_refused_before_they_are_walked() -> None:
    optimizer = ours("AdamW")(small())
    walk(optimizer, steps=1)
    p = params_of(optimizer)[0]
    optimizer.state[p]["exp_avg"] = torch.zeros(2)
    with pytest.raises(ValueError, match=r"exp_avg.*must be a tensor of shape \(5, 3\)"):
        walk(optimizer, steps=1)


def test_a_dict_of_other_shapes_is_refused_and_changes_nothing() -> None:
    donor, optimizer = ours("AdamW")(small()[:1]), ours("AdamW")(small()[1:2])
    walk(donor, steps=1)
    with pytest.raises(ValueError, match=r"must be a tensor of shape \(7,\)"):
        optimizer.load_state_dict(donor.state_dict())
    assert not optimizer.state


@each_optimizer
def test_memory_can_be_written_as_safetensors(name: str, tmp_path: Path) -> None:
    """A format that refuses tensors which share memory."""
    optimizer = ours(name)(plain())
    walk(optimizer, steps=2)
    state = optimizer.state_dict()["state"]
    flat = {f"{k}.{n}": x for k, held in state.items() for n, x in held.items()}
    save_file(flat, tmp_path / "state.safetensors")
    loaded = load_file(tmp_path / "state.safetensors")
    assert loaded.keys() == flat.keys()
    assert all(torch.equal(loaded[k], x) for k, x in flat.items())

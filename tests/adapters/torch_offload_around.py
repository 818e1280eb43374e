"""What surrounds the steps of offloaded parameters: groups, schedules, scalers, released gradients. Run by
`test_torch_offload.py` in a process of its own, as it registers a device.
"""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

import pytest
import torch

from scirs2_adapters.adapters.torch.optimizer import released
from scirs2_adapters.core import get
from tests.adapters import torch_device
from tests.adapters.torch_offload import Params, assert_same, copies, in_parts, loss, pair, params, train
from tests.adapters.torch_support import ALL, ours

__all__ = ["copies", "in_parts", "torch_device"]
pytestmark = pytest.mark.usefixtures("one_thread", "in_parts")
HALF = torch.bfloat16
WHOLE = [name for name in ALL if get(name)().model_slots()]


def test_groups_names_schedules_hooks_and_a_group_that_is_added_later() -> None:
    seen = []
    for device, options in (("cpu", {}), ("late", {"offload": True})):
        some = params(device)
        groups = [{"params": [("embed.weight", some[0]), ("b", some[1])], "lr": 0.1}, {"params": [("c", some[2])]}]
        optimizer = ours("Muon")(groups, weight_decay=0.1, momentum=0.8, **options)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        calls = []
        optimizer.register_step_post_hook(lambda *_, calls=calls: calls.append(1))
        for i in range(4):
            if i == 2:
                named = [(str(k), p) for k, p in enumerate(some[3:])]
                optimizer.add_param_group({"params": named, "weight_decay": 0.0})
                schedule.base_lrs.append(0.02)
            train(optimizer, some, range(i, i + 1))
            schedule.step()
        assert len(calls) == 4
        assert "momentum_buffer" not in optimizer.state[some[0]]  # AdamW's, by its name
        seen.append((optimizer, some))
    assert_same(*seen[0], *seen[1])


def test_names_stay_with_parameters() -> None:
    ends = []
    for device, options in (("cpu", {}), ("late", {"offload": True})):
        some = params(device)
        optimizer = ours("Muon")([("embed.weight", some[0]), ("other", some[1])], **options)
        del optimizer.param_groups[0]["param_names"]
        train(optimizer, some[:2])
        assert [("momentum_buffer" in optimizer.state[p]) for p in some[:2]] == [False, True]
        ends.append((optimizer, some))
    assert_same(*ends[0], *ends[1])


def test_a_closure_is_called_and_its_loss_returned() -> None:
    a, here, b, there = pair("AdamW")
    losses = []
    for optimizer, some in ((a, here), (b, there)):

        def closure(optimizer: Any = optimizer, some: Params = some) -> torch.Tensor:
            optimizer.zero_grad()
            value = loss(some, 3)
            value.backward()
            return value

        losses.append([optimizer.step(closure).item() for _ in range(3)])
    assert losses[0] == losses[1]
    assert_same(a, here, b, there)


def test_an_optimizer_that_evaluates_the_model() -> None:
    """The first point differs by bits, as the device computes it; the second gradient is that of the CPU."""
    seen = []
    for device, options in (("cpu", {}), ("late", {"offload": True})):
        some = params(device)
        optimizer = ours("SAM")(some, lr=0.1, **options)

        def closure(optimizer: Any = optimizer, some: Params = some) -> torch.Tensor:
            optimizer.zero_grad()
            value = loss(some, 3)
            value.backward()
            return value

        for _ in range(3):
            optimizer.step(closure)
        seen.append((optimizer, some))
    assert_same(*seen[0], *seen[1])


@pytest.mark.parametrize("clips", [False, True])
def test_a_scaler_hands_over_its_scale_and_skips(clips: bool, copies: Counter[str]) -> None:
    ends = []
    for fused in (True, False):
        some = params("cpu" if fused else "late")
        optimizer = ours("AdamW")(some, **({"fused": True} if fused else {"offload": True}))
        scaler = torch.amp.GradScaler(some[0].device.type, init_scale=1024.0, growth_interval=2)
        for i in range(6):
            optimizer.zero_grad()
            value = loss(some, i) * (float("inf") if i in (0, 3) else 1.0)
            scaler.scale(value).backward()
            if clips:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_value_(some, 0.5)
            copies.clear()
            scaler.step(optimizer)
            scaler.update()
            assert copies["to_host"] == 0 or fused or i == 0 or clips
        ends.append((optimizer, some))
    assert_same(*ends[0], *ends[1])


@pytest.mark.parametrize("limit", [None, 0.1])
def test_a_step_that_is_left_out_changes_nothing(limit: float | None) -> None:
    a, here, b, there = pair("AdamW", skip_nonfinite=True, max_grad_norm=limit)
    for optimizer, some in ((a, here), (b, there)):
        for i in range(4):
            optimizer.zero_grad()
            loss(some, i).backward()
            if i in (0, 2):
                some[1].grad[3, 3] = torch.nan
            optimizer.step()
        assert optimizer.param_groups[0]["skipped_steps"] == 2
    assert_same(a, here, b, there)


@pytest.mark.parametrize("name", WHOLE)
def test_numbers_of_the_whole_model_are_in_all_groups(name: str) -> None:
    ends = []
    for device, options in (("cpu", {}), ("late", {"offload": True})):
        some = params(device)
        optimizer = ours(name)([{"params": some[:3]}, {"params": some[3:]}], **options)
        train(optimizer, some)
        ends.append((optimizer, some))
    assert_same(*ends[0], *ends[1])
    names = [s.name for s in get(name)().model_slots()]
    assert names
    for a, b in zip(ends[0][0].param_groups, ends[1][0].param_groups, strict=True):
        assert [a[k] for k in names] == [b[k] for k in names]


def test_parameters_here_and_there_and_of_several_dtypes() -> None:
    a, here, b, _ = pair("AdamW")
    mixed = [p if i % 2 else torch.nn.Parameter(p.detach().to("late")) for i, p in enumerate(params("cpu"))]
    dtypes = [torch.float32, HALF, torch.float64]
    here = [torch.nn.Parameter(p.detach().to(dtypes[i % 3])) for i, p in enumerate(here)]
    mixed = [torch.nn.Parameter(p.detach().to(dtypes[i % 3])) for i, p in enumerate(mixed)]
    a, b = ours("AdamW")(here, max_grad_norm=1.0), ours("AdamW")(mixed, offload=True, max_grad_norm=1.0)
    train(a, here)
    train(b, mixed)
    assert_same(a, here, b, mixed)
    assert len(b._offloading()._known) == len([p for p in mixed if p.device.type == "late"]) == 4


def test_one_group_on_the_host_and_one_on_the_device() -> None:
    there = params("late", shapes=((5, 3), (4,)))
    optimizer = ours("AdamW")([{"params": there[:1], "offload": True}, {"params": there[1:]}])
    train(optimizer, there)
    assert [optimizer.state[p]["exp_avg"].device.type for p in there] == ["cpu", "late"]
    assert [optimizer.state[p]["step"].item() for p in there] == [4, 4]


def test_a_model_that_moves_and_parameters_that_are_exchanged() -> None:
    """As accelerate and sharding do it: torch gives no parameter the data of a device that is written in Python."""
    a, here, b, some = pair("AdamW")
    b = ours("AdamW")(some := params("cpu"), offload=True)
    for i, device in enumerate(("cpu", "late", "cpu", "late", "late")):
        new = [torch.nn.Parameter(p.detach().to(device, copy=True)) for p in some]
        for p, q in zip(some, new, strict=True):
            if p in b.state:
                b.state[q] = b.state.pop(p)
        b.param_groups[0]["params"], some = list(new), new
        train(a, here, range(i, i + 1))
        train(b, some, range(i, i + 1))
        assert_same(a, here, b, some)


@pytest.mark.parametrize("way", ["number", "tensor"])
def test_a_learning_rate_that_is_a_tensor_of_the_device(way: str) -> None:
    rate = torch.tensor(0.25, dtype=torch.float32)
    a, here, _, there = pair("AdamW", lr=0.25 if way == "number" else rate)
    b = ours("AdamW")(there, lr=rate.clone().to("late"), offload=True)
    train(a, here, range(2))
    train(b, there, range(2))
    a.param_groups[0]["lr"] = 0.125
    b.param_groups[0]["lr"].fill_(0.125)
    train(a, here, range(2, 4))
    train(b, there, range(2, 4))
    assert_same(a, here, b, there)
    assert b.param_groups[0]["lr"].device.type == "late"


@pytest.mark.parametrize("batch", [1, 1 << 20])
@pytest.mark.parametrize("name", [name for name in ALL if name not in WHOLE])
def test_released_gradients_are_stepped_on_the_host_and_freed(
    name: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released, "TOGETHER", batch)
    a, here, b, there = pair(name)
    train(a, here)
    handle = b.release_gradients()
    for i in range(4):
        refs: list[weakref.ref[torch.Tensor]] = []
        hooks = [p.register_hook(lambda g, refs=refs: refs.append(weakref.ref(g))) for p in there]
        b.zero_grad()
        loss(there, i).backward()
        assert all(p.grad is None for p in there)
        assert not any(ref() is not None for ref in refs)
        assert refs
        b.step()
        for hook in hooks:
            hook.remove()
    handle.remove()
    assert_same(a, here, b, there)


def test_a_compiled_step() -> None:
    a, here, b, there = pair("AdamW")
    train(a, here, range(3))
    compiled = torch.compile(b.step, backend="eager")
    for i in range(3):
        b.zero_grad()
        loss(there, i).backward()
        compiled()
    assert_same(a, here, b, there)


def test_the_report_and_the_explanation_say_where() -> None:
    a, _, b, there = pair("AdamW")
    before = b.memory()
    assert before.state == a.memory().state
    assert before.temporaries == 0
    assert any("on the host: the state" in note for note in before.notes)
    assert not any("on the host" in note for note in a.memory().notes)
    train(b, there)
    after = b.memory()
    assert after.state == before.state
    assert after.temporaries >= 2 * after.parameters == 2 * after.gradients
    lines = b.explain().splitlines()
    assert len(lines) == len(there)
    assert all(line.endswith(", offloaded to the host") for line in lines)
    assert "offloaded" not in a.explain()

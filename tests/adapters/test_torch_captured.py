"""Steps that a CUDA graph captures, without a card: replays step as eager steps do, and what they could not repeat is
refused when it is captured.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scirs2_adapters.adapters.torch.dispatch import capturing
from scirs2_adapters.core.program.recorded import Program

from .torch_graph import Graph, device
from .torch_support import ALL, each_optimizer, learned, ours, turned_options
from .triton_support import interpreted

__all__ = ["device", "interpreted"]
SHAPES = [(5, 3), (7,), ()]
WITH_NUMBERS = [name for name in ALL if ours(name).rule_class().model_slots()]
WARM_UP = r"in a CUDA graph must .*\. Received: .*\. Take one step with these gradients before the capture"


def parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    for p in params:
        p.grad = torch.empty_like(p)
    return params


def fill(optimizer: torch.optim.Optimizer, turn: int) -> None:
    """New gradients where the old ones were, as a captured backward pass leaves them."""
    generator = torch.Generator().manual_seed(turn)
    for p in optimizer.param_groups[0]["params"]:
        p.grad.copy_(torch.randn(p.shape, generator=generator))


def made(name: str, **options: Any) -> Any:
    return ours(name)(parameters(), **{"capturable": True, **learned(name), **options})


def stepped(optimizer: torch.optim.Optimizer, *turns: int) -> Any:
    for turn in turns:
        fill(optimizer, turn)
        optimizer.step()
    return optimizer


def assert_alike(a: Any, b: Any) -> None:
    for p, q in zip(*(x.param_groups[0]["params"] for x in (a, b)), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)
        for key, x in b.state.get(q, {}).items():
            torch.testing.assert_close(a.state[p][key], x, rtol=1e-4, atol=1e-6, msg=key)
    for slot in ours(type(a).__name__).rule_class().model_slots():
        assert float(a.param_groups[0][slot.name]) == pytest.approx(float(b.param_groups[0][slot.name]), rel=1e-5)


@pytest.mark.parametrize("kernel", ["auto", "traced"])
@each_optimizer
def test_replays_step_as_eager_steps_do(name: str, kernel: str, device: list[Program]) -> None:
    """After one step, and an eager step goes on from there."""
    captured, eager = stepped(made(name, kernel=kernel), 0), stepped(made(name, kernel=kernel), 0)
    if kernel == "traced" and name in WITH_NUMBERS:
        with pytest.raises(RuntimeError, match="on the device, as kernels do"), Graph():
            captured.step()
        return
    with Graph() as graph:
        captured.step()
    assert_alike(captured, eager)
    for turn in (1, 2, 3):
        fill(captured, turn)
        graph.replay()
        stepped(eager, turn)
        assert_alike(captured, eager)
    assert_alike(stepped(captured, 4), stepped(eager, 4))


@pytest.mark.parametrize("options", ["usual", "turned"])
@each_optimizer
def test_a_first_step_is_refused_where_replays_would_begin_anew(name: str, options: str, device: list[Program]) -> None:
    """It leaves no memory; a formula that keeps nothing has no need of a step before."""
    optimizer, other = (made(name, **(turned_options(name) if options == "turned" else {})) for _ in range(2))
    fill(optimizer, 0)
    eager = stepped(other, 0)
    if not any(eager.state.values()) and name not in WITH_NUMBERS:
        with Graph() as graph:
            optimizer.step()
        graph.replay()
        assert_alike(optimizer, eager)
        return
    with pytest.raises(RuntimeError, match=f"`{name}.step` {WARM_UP}"), Graph():
        optimizer.step()
    assert not any(optimizer.state.values())
    assert_alike(stepped(optimizer, 0), eager)


def refused(optimizer: Any, words: str) -> None:
    before = copy.deepcopy(optimizer.state_dict()["state"])
    with pytest.raises(RuntimeError, match=words), Graph():
        optimizer.step()
    torch.testing.assert_close(optimizer.state_dict()["state"], before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", WITH_NUMBERS)
def test_a_number_of_the_model_that_is_not_the_last_steps_is_refused(name: str, device: list[Program]) -> None:
    """One that was loaded or written would be written again at each replay; one step takes it to the device."""
    optimizer = stepped(made(name), 0)
    slot = optimizer.rule_class().model_slots()[0].name
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    refused(optimizer, WARM_UP)
    stepped(optimizer, 1)
    for written in (0.5, torch.tensor(0.5, dtype=torch.float64)):
        optimizer.param_groups[0][slot] = written
        refused(optimizer, WARM_UP)
    stepped(optimizer, 2)
    with Graph():
        optimizer.step()


def test_memory_that_was_loaded_needs_no_step_before(device: list[Program]) -> None:
    eager, saved = stepped(made("AdamW"), 0), stepped(made("AdamW"), 0)
    captured = made("AdamW")
    captured.load_state_dict(copy.deepcopy(saved.state_dict()))
    with torch.no_grad():
        for p, q in zip(captured.param_groups[0]["params"], saved.param_groups[0]["params"], strict=True):
            p.copy_(q)
    with Graph() as graph:
        captured.step()
    for turn in (1, 2):
        fill(captured, turn)
        graph.replay()
        stepped(eager, turn)
    assert_alike(captured, eager)


@pytest.mark.parametrize("change", ["a count", "a gradient"])
def test_counts_that_only_the_device_knows_are_refused(change: str, device: list[Program]) -> None:
    optimizer = stepped(made("AdamW"), 0)
    p = optimizer.param_groups[0]["params"][0]
    if change == "a count":
        optimizer.state[p]["step"].fill_(7)
    else:
        p.grad = None
    refused(optimizer, WARM_UP)


@each_optimizer
def test_a_count_of_the_host_is_refused(name: str, device: list[Program], monkeypatch: pytest.MonkeyPatch) -> None:
    """In torch's words, where the formula has the number of the step."""
    optimizer = stepped(made(name, capturable=False), 0)
    counts = any(entry.counts for plan in optimizer._plans.values() for entry in plan.entries)
    if counts:
        refused(optimizer, f"Attempting CUDA graph capture of step.. for an instance of {name} but param_groups' capt")
    else:
        with Graph():
            optimizer.step()


def test_a_count_that_was_left_on_the_host_is_refused(device: list[Program], monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a state dict of a run without `capturable`."""
    optimizer = stepped(made("AdamW"), 0)
    step = optimizer.state[optimizer.param_groups[0]["params"][1]]["step"]
    monkeypatch.setattr(capturing, "on_host", lambda x: x is step)
    refused(optimizer, r"must have the number of the step on the device.* on the CPU\. Write `optimizer.state")


def test_what_the_host_would_do_is_refused(device: list[Program]) -> None:
    optimizer = stepped(made("Lion", capturable=False, skip_nonfinite=True), 0)
    refused(optimizer, r"must have skip_nonfinite=False.*Received: True\. Leave the step out")
    optimizer = stepped(made("Lion"), 0)
    optimizer.found_inf = torch.zeros(())
    refused(optimizer, "must not read the scale of a GradScaler")
    del optimizer.found_inf
    optimizer.param_groups[0]["offload"] = True
    refused(optimizer, "must have offload=False")
    optimizer = made("Momo")
    fill(optimizer, 0)
    with pytest.raises(RuntimeError, match="must not depend on the loss"), Graph():
        optimizer.step(lambda: torch.tensor(1.0))


def test_a_graph_is_looked_for_where_parameters_are_on_a_cuda_device(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = SimpleNamespace(is_cuda=False), SimpleNamespace(is_cuda=True)
    assert not capturing.is_capturing([here, there])
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    for captures in (False, True):
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda captures=captures: captures)
        assert capturing.is_capturing([here, there]) is captures
        assert not capturing.is_capturing([here])

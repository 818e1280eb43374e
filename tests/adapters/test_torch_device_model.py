"""Numbers of the whole model where kernels for CUDA devices step the parameters, and lines of many parts, by Triton's
interpreter.
"""

from __future__ import annotations

import copy

import pytest
import torch

import scirs2_adapters.torch as ours
from scirs2_adapters.adapters.torch.executors import triton_stage
from scirs2_adapters.core.program.recorded import Program

from .triton_support import interpreted

__all__ = ["interpreted"]


def parameters(*shapes: tuple[int, ...]) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def walk(optimizer: torch.optim.Optimizer, steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for p in optimizer.param_groups[0]["params"]:
            p.grad = torch.rand(p.shape, generator=generator).to(p.dtype)
        optimizer.step()


def test_they_stay_on_the_device_and_a_dict_has_them_as_numbers(interpreted: list[Program]) -> None:
    optimizer = ours.Prodigy(parameters((40,), (5, 7)), d0=0.01)
    walk(optimizer, 2)
    kept = optimizer.param_groups[0]["d"]
    assert isinstance(kept, torch.Tensor)
    assert kept.dtype == torch.float64
    saved = copy.deepcopy(optimizer.state_dict())
    assert saved["param_groups"][0]["d"] == kept.item() > 0.01
    walk(optimizer, 1)
    assert optimizer.param_groups[0]["d"] is kept
    other = ours.Prodigy(parameters((40,), (5, 7)), d0=0.01)
    walk(other, 2)
    other.load_state_dict(saved)
    assert other.param_groups[0]["d"] == saved["param_groups"][0]["d"]
    walk(other, 1)
    assert other.param_groups[0]["d"].item() == kept.item()


def test_one_that_is_written_is_taken(interpreted: list[Program]) -> None:
    ends = []
    for written in (None, 0.5, torch.tensor(0.5)):
        optimizer = ours.Prodigy(parameters((40,)), d0=0.01)
        walk(optimizer, 1)
        if written is not None:
            optimizer.param_groups[0]["d"] = written
        walk(optimizer, 1)
        ends.append(optimizer.param_groups[0]["params"][0].detach())
    assert torch.equal(ends[1], ends[2])
    assert not torch.equal(ends[0], ends[1])


@pytest.mark.parametrize(("name", "first"), [("Prodigy", "d0"), ("DoG", "init_step_value")])
def test_a_sum_goes_over_parameters_of_all_dtypes(name: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of each are a batch with launches of its own."""
    ends = []
    for kernels in (True, False):
        with monkeypatch.context() as patch:
            launched = interpreted.__wrapped__(patch) if kernels else iter([[]])
            next(launched)
            params = parameters((40,), (5, 7), (2000,))
            params[1].data = params[1].data.double()
            optimizer = getattr(ours, name)(
                params, **({"d0": 0.01} if name == "Prodigy" else {"init_step_value": 0.01})
            )
            walk(optimizer, 3)
            ends.append([p.detach().double() for p in params])
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_lines_of_more_parts_than_one_round_adds_up(
    interpreted: list[Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here of three parts, two a round; no other test has these kernels, which are remembered."""
    monkeypatch.setattr(triton_stage, "SEGMENTS", 2)
    ends = []
    for kernel in ("auto", "traced"):
        params = parameters((2, 600), (600, 2))
        optimizer = ours.Adafactor(params, lr=0.1, scale_parameter=False, relative_step=False, kernel=kernel)
        walk(optimizer, 1)
        ends.append([x for p in params for x in (p.detach(), *optimizer.state[p].values())])
    assert interpreted
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)

"""Runs of torch's optimizers, recorded: whoever made the optimizer, and with groups, hooks, pickles and scalers."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

import scirs2_adapters as s2
import scirs2_adapters.torch as adapter
from scirs2_adapters import state
from scirs2_adapters.drift import compare


class Walk(torch.optim.Optimizer):
    """A third party's optimizer."""

    def __init__(self, params: object, lr: float, power: float) -> None:
        super().__init__(params, {"lr": lr, "power": power})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["seen"] = torch.ones_like(p)
                p.sub_(group["lr"] * p.grad.sign() * p.grad.abs() ** group["power"])


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))


def ran(folder: Path, cls: type[torch.optim.Optimizer], steps: int = 3, **options: object) -> torch.optim.Optimizer:
    net = model()
    groups = [{"params": list(net[0].parameters())}, {"params": list(net[2].parameters()), "lr": 0.1}]
    optimizer = s2.record(cls(groups, lr=1e-2, **options), folder, names=net)
    for step in range(steps):
        optimizer.zero_grad()
        net(torch.full((5, 4), 0.1 + step)).square().sum().backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("name", ["AdamW", "SGD", "RMSprop"])
def test_ours_and_torch_s_do_not_differ(name: str, tmp_path: Path) -> None:
    ran(tmp_path / "a", getattr(torch.optim, name))
    ran(tmp_path / "b", getattr(adapter, name))
    drift = compare(tmp_path / "a", tmp_path / "b")
    assert (drift.steps, drift.step, drift.notes) == (3, None, [])
    last = [state.describe(tmp_path / "b" / f"00000003.00{i}.safetensors") for i in (0, 1)]
    assert [s.config["learning_rate"] for s in last] == [1e-2, 0.1]
    assert [[*s.parameters] for s in last] == [["0.weight", "0.bias"], ["2.weight", "2.bias"]]


def test_another_weight_decay_is_named(tmp_path: Path) -> None:
    ran(tmp_path / "a", torch.optim.Adam, weight_decay=0.1)
    ran(tmp_path / "b", torch.optim.AdamW, weight_decay=0.1)
    assert any("decoupled" in said for said in compare(tmp_path / "a", tmp_path / "b").explanations)


def test_anyone_s_optimizer_is_recorded(tmp_path: Path) -> None:
    ran(tmp_path / "a", Walk, power=1.0)
    ran(tmp_path / "b", torch.optim.SGD)
    assert compare(tmp_path / "b", tmp_path / "a").step is None
    ran(tmp_path / "c", Walk, power=0.5)
    drift = compare(tmp_path / "a", tmp_path / "c")
    assert (drift.step, drift.quantity, drift.explanations) == (1, "param", [])
    assert "whose formula is known" in str(drift)


def test_a_copy_does_not_write_into_the_recording(tmp_path: Path) -> None:
    optimizer = ran(tmp_path / "a", adapter.AdamW)
    copy.deepcopy(optimizer).step()
    assert len({file.name[:8] for file in (tmp_path / "a").iterdir()}) == 4
    optimizer.step()
    assert len({file.name[:8] for file in (tmp_path / "a").iterdir()}) == 5


def test_without_names_parameters_have_numbers(tmp_path: Path) -> None:
    net = model()
    s2.record(torch.optim.SGD(net.parameters(), 0.1), tmp_path / "a")
    assert [*state.describe(tmp_path / "a/00000000.000.safetensors").parameters] == ["0", "1", "2", "3"]


def test_a_group_that_is_added_is_recorded_and_compared(tmp_path: Path) -> None:
    def ran(folder: Path, added: bool) -> Path:
        params = [torch.nn.Parameter(torch.ones(3)) for _ in range(3)]
        optimizer = s2.record(torch.optim.Adam([("w", params[0])]), folder)
        for step in range(3):
            if step == 1 and added:
                optimizer.add_param_group({"params": [("x", params[1]), ("y", params[2])]})
            for p in params:
                p.grad = torch.ones(3)
            optimizer.step()
        return folder

    a, b, without = (ran(tmp_path / name, name != "without") for name in ("a", "b", "without"))
    assert compare(a, b).step is None
    for one, other, whose in ((a, without, "A"), (without, a, "B")):
        drift = compare(one, other)
        assert (drift.step, drift.quantity, drift.parameter) == (2, "parameters", "1")
        assert f"only {whose} has" in drift.what

"""`param_groups`: learning rates and weight decays by names of parameters, for any torch optimizer."""

from typing import Any

import pytest
import torch

import scirs2_adapters as s2
import scirs2_adapters.torch as adapter
from scirs2_adapters.torch import AdamW, LayerDecay, param_groups

NAMES = [name for name in s2.names() if s2.get(name).sparse != "rows"]


class Model(torch.nn.Module):
    """Two layers that share a weight with the head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Linear(4, 4, bias=False)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(2))
        self.head = torch.nn.Linear(4, 4, bias=False)
        self.head.weight = self.embed.weight


BY = {"lr_by": {r"embed|layers\.(\d+)": LayerDecay(0.5)}, "weight_decay_by": {"bias": 0.0}}
GROUPS = [("embed", 2.5e-4), ("layers.0", 5e-4), ("layers.0, bias", 5e-4), ("layers.1", 1e-3), ("layers.1, bias", 1e-3)]


@pytest.mark.parametrize("cls", [*(getattr(adapter, s2.get(n).__name__) for n in NAMES), torch.optim.AdamW])
def test_any_optimizer_takes_the_groups(cls: Any) -> None:
    model = Model()
    optimizer = cls(param_groups(model, 1e-3, **BY))
    assert [(group["name"], group["lr"]) for group in optimizer.param_groups] == GROUPS
    default = cls(model.parameters()).param_groups[0]["weight_decay"]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [default, default, 0.0, default, 0.0]
    assert optimizer.param_groups[2]["param_names"] == ["layers.0.bias"]


def test_wrappers_and_frozen_parameters_change_no_name() -> None:
    model = Model()
    model.layers[1].requires_grad_(False)
    compiled = torch.nn.Module()
    compiled._orig_mod = model
    groups = param_groups(compiled, 1e-3, lr_by={r"^layers\.(\d+)": lambda layer: 10 + layer})
    assert [(group["name"], group["lr"]) for group in groups] == [("others", 1e-3), ("layers.0", 10)]
    assert groups[1]["param_names"] == ["layers.0.weight", "layers.0.bias"]


def test_a_saved_state_comes_back_into_the_same_groups() -> None:
    model = Model()
    first, second = (AdamW(param_groups(model, 1e-3, **BY)) for _ in range(2))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    first.step()
    second.load_state_dict(first.state_dict())
    assert [group["name"] for group in second.param_groups] == [name for name, _ in GROUPS]
    assert all(torch.equal(second.state[p]["exp_avg"], first.state[p]["exp_avg"]) for p in model.parameters())


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"model": [torch.zeros(2)]}, r"model=...\)` must be a torch.nn.Module"),
        ({"model": Model().requires_grad_(False)}, r"model=...\)` must have a parameter that requires a gradient"),
        ({"lr": -1.0}, r"lr=...\)` must be a finite number >= 0. Received: -1.0"),
        ({"lr_by": {"head": 1.0}}, r"lr_by=.*`head.weight` is `embed.weight`, to which it is tied"),
        ({"lr_by": {"layer1": 1.0}}, r"lr_by=.*must match a parameter of the model. Received: 'layer1'.*`layers.0"),
        ({"weight_decay_by": {"embed": -1}}, r"weight_decay_by\['embed'\]=...\)` must be a finite number >= 0"),
        ({"lr_by": {"embed": torch.tensor(1.0)}}, r"lr_by\['embed'\]=...\)` must be a finite number >= 0. Received: "),
        ({"lr_by": {r"layers\.(\d+)": lambda layer: None}}, r"lr_by.*\(0\)=...\)` must be a finite number >= 0"),
        ({"lr_by": []}, r"lr_by=...\)` must be a dict from patterns of parameter names"),
        ({"weight_decay_by": "embed"}, r"weight_decay_by=...\)` must be a dict from patterns"),
    ],
)
def test_bad_arguments_are_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"`param_groups\({message}"):
        param_groups(**{"model": Model(), "lr": 1e-3, **keywords})

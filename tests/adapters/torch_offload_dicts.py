"""State dicts and copies of an optimizer whose parameters are offloaded. Run by `test_torch_offload.py` in a process of
its own, as it registers a device.
"""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch

from tests.adapters import torch_device
from tests.adapters.torch_offload import assert_same, in_parts, pair, params, train
from tests.adapters.torch_support import ids, ours

__all__ = ["in_parts", "torch_device"]
pytestmark = pytest.mark.usefixtures("one_thread", "in_parts")
HALF = torch.bfloat16
CODED = {"state_dtype": "int8", "rounding": "stochastic"}
FORMS: list[tuple[torch.dtype, dict[str, Any]]] = [
    (torch.float32, {}),
    (torch.float32, {"amsgrad": True, "state_dtype": "bfloat16"}),
    (HALF, CODED),
    (HALF, {"state_dtype": "int8", "rounding": "compensated"}),
    (HALF, {"state_dtype": "float32"}),
]


@pytest.mark.parametrize(("dtype", "options"), FORMS, ids=ids)
@pytest.mark.parametrize("way", ["here to there", "there to here", "there to there"])
def test_a_state_dict_goes_on_anywhere_to_the_very_bits(way: str, dtype: torch.dtype, options: dict[str, Any]) -> None:
    saves, loads = way.split(" to ")
    a, whole, _, _ = pair("AdamW", dtype, **options)
    train(a, whole, range(6))
    some = params("cpu" if saves == "here" else "late", dtype)
    saver = ours("AdamW")(some, offload=saves == "there", **options)
    train(saver, some, range(3))
    file = io.BytesIO()
    torch.save(saver.state_dict(), file)
    file.seek(0)
    device, more = ("cpu", {}) if loads == "here" else ("late", {"offload": True})
    others = [torch.nn.Parameter(p.detach().cpu().to(device, copy=True)) for p in some]
    loader = ours("AdamW")(others, **more)
    loader.load_state_dict(torch.load(file, weights_only=True))
    assert loader.param_groups[0]["offload"] == (loads == "there")
    assert {x.device.type for held in loader.state.values() for x in held.values()} == {"cpu"}
    train(loader, others, range(3, 6))
    assert_same(a, whole, loader, others)


@pytest.mark.parametrize("flags", [{"fused": True}, {"foreach": True}, {"capturable": True, "fused": True}], ids=ids)
def test_a_dict_of_steps_on_the_device_is_loaded(flags: dict[str, Any]) -> None:
    there = params("late")
    first = ours("AdamW")(there, **{k: v for k, v in flags.items() if k != "capturable"})
    train(first, there, range(2))
    assert {x.device.type for x in first.state[there[0]].values()} >= {"late"}
    others = [torch.nn.Parameter(p.detach().clone()) for p in there]
    optimizer = ours("AdamW")(others, offload=True)
    saved = first.state_dict()
    saved["param_groups"][0] |= flags
    optimizer.load_state_dict(saved)
    group = optimizer.param_groups[0]
    assert group["offload"]
    assert not any(group[flag] for flag in flags)
    train(optimizer, others, range(2, 4))
    train(first, there, range(2, 4))
    for p, q in zip(there, others, strict=True):
        assert torch.allclose(p.cpu(), q.cpu(), rtol=0, atol=1e-6)
        assert {x.device.type for x in optimizer.state[q].values()} == {"cpu"}
        assert optimizer.state[q]["step"].item() == 4


def test_a_dict_goes_back_to_steps_on_the_device() -> None:
    a, here, b, there = pair("AdamW")
    train(a, here, range(2))
    train(b, there, range(2))
    for name in (None, "AdamW"):
        others = [torch.nn.Parameter(p.detach().clone()) for p in there]
        optimizer: Any = torch.optim.AdamW(others, foreach=False) if name is None else ours(name)(others)
        optimizer.load_state_dict(copy.deepcopy(b.state_dict()))
        train(optimizer, others, range(2, 4))
        held = optimizer.state[others[0]]
        assert (held["exp_avg"].device.type, held["step"].item()) == ("late", 4)
    train(a, here, range(2, 4))
    assert all(torch.allclose(p, q.cpu(), rtol=0, atol=1e-6) for p, q in zip(here, others, strict=True))


def test_torch_moves_no_memory_to_the_device_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, b, there = pair("AdamW")
    train(b, there)
    saved = b.state_dict()
    sent: list[torch.Size] = []
    usual = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *a, **k: sent.append(a) or usual(x, *a, **k))
    b.load_state_dict(saved)
    assert sent
    assert not any("late" in map(str, [*a]) or "late:0" in map(str, [*a]) for a in sent)


def test_copies_go_on() -> None:
    a, here, b, there = pair("AdamW")
    train(a, here, range(2))
    train(b, there, range(2))
    other = copy.deepcopy(b)
    train(a, here, range(2, 4))
    train(other, other.param_groups[0]["params"], range(2, 4))
    assert_same(a, here, other, other.param_groups[0]["params"])
    assert other._step_supports_amp_scaling

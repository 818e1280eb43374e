"""torch optimizers in `scirs2_adapters.state`: names, torch's own classes, and files of torch's."""

from __future__ import annotations

import copy
import functools
import mmap
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from scirs2_adapters import state
from scirs2_adapters import torch as adapter
from scirs2_adapters.adapters.torch.files import read as read_file
from scirs2_adapters.commands.app import app
from scirs2_adapters.core.portable.state import loaded
from tests.adapters.test_torch_foreign_dicts import FILES, read
from tests.adapters.torch_support import PEERS, ids

Optimizer = torch.optim.Optimizer
Make = Callable[..., Optimizer]


def model(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Flatten(), torch.nn.Linear(12, 4))


def train(net: torch.nn.Module, optimizer: Optimizer, steps: int = 3, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(5, 2, 4, 4, generator=generator)).square().mean().backward()
        optimizer.step()


def copied(net: torch.nn.Module) -> torch.nn.Module:
    new = model()
    new.load_state_dict(net.state_dict())
    return new


@pytest.mark.parametrize(("name", "options"), PEERS, ids=ids)
def test_a_run_of_torch_goes_on_in_ours_and_back(name: str, options: dict[str, object], tmp_path: Path) -> None:
    """To the tolerance of three steps, which is none where both step alike."""
    native: Make = functools.partial(getattr(torch.optim, name), **options)
    ours: Make = functools.partial(getattr(adapter, name), **options)
    net = model()
    optimizer = native(net.parameters())
    train(net, optimizer)
    state.save(optimizer, tmp_path / "s", names=net)
    for make in (ours, native):
        new = copied(net)
        other = make(new.named_parameters())
        report = state.load(tmp_path / "s", other)
        assert [*report.missing, *report.left_over, *report.hyperparameters.keys() - {"match"}] == []
        straight = copied(net)
        same = native(straight.parameters())
        same.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        train(new, other)
        train(straight, same)
        for a, b in zip(new.parameters(), straight.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-6)


def test_names_come_from_the_optimizer_or_the_caller(tmp_path: Path) -> None:
    net = model()
    known = [name for name, _ in net.named_parameters()]
    plain = adapter.AdamW(net.parameters())
    for names in (net, dict(net.named_parameters()), known):
        state.save(plain, tmp_path / "s", names=names)
        assert list(state.describe(tmp_path / "s").parameters) == known
    state.save(adapter.AdamW(net.named_parameters()), tmp_path / "s")
    assert list(state.describe(tmp_path / "s").parameters) == known
    (tmp_path / "s").unlink()
    for names in (None, {}, torch.nn.Linear(1, 1)):
        with pytest.raises(ValueError, match="names=model"):
            state.save(plain, tmp_path / "s", names=names)
    for names in (3, "abcd", known[:2]):
        with pytest.raises(TypeError, match="must be a model"):
            state.save(plain, tmp_path / "s", names=names)
    assert not (tmp_path / "s").exists()


def test_memory_lies_as_the_parameter_does(tmp_path: Path) -> None:
    net = model()
    optimizer = adapter.AdamW(net.named_parameters())
    train(net, optimizer)
    state.save(optimizer, tmp_path / "s")
    new = copied(net).to(memory_format=torch.channels_last)
    other = adapter.AdamW(new.named_parameters())
    state.load(tmp_path / "s", other)
    assert other.state[new[0].weight]["exp_avg"].stride() == new[0].weight.stride()
    assert torch.equal(other.state[new[0].weight]["exp_avg"], optimizer.state[net[0].weight]["exp_avg"])


def test_complex_numbers_and_parameters_without_a_step(tmp_path: Path) -> None:
    z, still = (torch.nn.Parameter(torch.ones(3, dtype=torch.complex64)) for _ in range(2))
    optimizer = adapter.Adam([("z", z), ("still", still)])
    z.grad = torch.full_like(z, 1 + 2j)
    optimizer.step()
    state.save(optimizer, tmp_path / "s")
    other = adapter.Adam([("z", z), ("still", still)])
    still.grad = torch.ones_like(still)
    other.step()
    assert state.load(tmp_path / "s", other).missing == []
    assert torch.equal(other.state[z]["exp_avg"], optimizer.state[z]["exp_avg"])
    assert still not in other.state


def test_what_fails_changes_nothing(tmp_path: Path) -> None:
    net = model()
    optimizer = adapter.AdamW(net.named_parameters())
    train(net, optimizer)
    state.save(optimizer, tmp_path / "s")
    other = adapter.AdamW(torch.nn.Linear(12, 5).named_parameters(prefix="2"))
    for strict, match in ((True, "in the file only"), (False, None)):
        if match:
            with pytest.raises(ValueError, match=match):
                state.load(tmp_path / "s", other, strict=strict)
            assert not other.state
        else:
            assert state.load(tmp_path / "s", other, strict=strict).misfits.keys() >= {"2.weight/exp_avg"}


def test_what_cannot_be_named_by_parameter_is_refused(tmp_path: Path) -> None:
    net = model()
    for refused in (torch.optim.LBFGS(net.parameters()), adapter.LBFGS(net.named_parameters())):
        with pytest.raises(TypeError, match="keeps memory for each parameter"):
            state.save(refused, tmp_path / "s")
    averaged = adapter.ScheduleFreeAdamW(net.named_parameters())
    train(net, averaged)
    averaged.eval()
    with pytest.raises(ValueError, match=r"train\(\)"):
        state.save(averaged, tmp_path / "s")


class Evil:
    """A pickle that would write a file."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (Path("ran"),)


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["state", *map(str, words)], env={"COLUMNS": "200"})
    return done.exit_code, done.output


def test_a_file_of_torch_is_read_without_running_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state": {}, "param_groups": [Evil()]}, "evil.pt")
    Path("evil.bin").write_bytes(pickle.dumps(Evil()))
    torch.save(model().state_dict(), "weights.pt")
    for name in ("evil.pt", "evil.bin", "weights.pt"):
        code, text = run("show", name)
        assert (code, "must hold the state of an optimizer" in text) == (2, True), text
    assert not Path("ran").exists()


def test_a_state_dict_of_torch_is_converted_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the Trainer writes `optimizer.pt`: parameters by number, groups with a schedule's `initial_lr`."""
    monkeypatch.chdir(tmp_path)
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    train(net, optimizer)
    optimizer.param_groups[0]["initial_lr"] = 1e-2
    torch.save(optimizer.state_dict(), "optimizer.pt")
    names = {str(i): name for i, (name, _) in enumerate(net.named_parameters())}
    Path("map.json").write_text(str(names).replace("'", '"'))
    code, text = run("convert", "optimizer.pt", "s", "--to", "torch", "--names", "map.json")
    assert code == 0, text
    ours = adapter.AdamW(net.named_parameters(), lr=1e-2)
    state.load("s", ours)
    for p in net.parameters():
        assert all(torch.equal(ours.state[p][k], x) for k, x in optimizer.state[p].items())
    assert run("convert", "s", "back.pt", "--to", "torch")[0] == 0
    other = torch.optim.AdamW(net.parameters(), lr=1e-2)
    other.load_state_dict(torch.load("back.pt", weights_only=True))
    assert all(torch.equal(other.state[p][k], x) for p in net.parameters() for k, x in optimizer.state[p].items())
    assert run("diff", "s", "back.pt")[0] == 0


#: Formulas that do not ask for the time: their unsigned codes, or stochastic rounding, are decided anew in each step.
COUNTED = [
    ("CAME", torch.float32, {"state_dtype": "int8"}),
    ("Lion", torch.bfloat16, {"rounding": "stochastic"}),
    ("SGD", torch.bfloat16, {"rounding": "stochastic", "momentum": 0.9}),
]


@pytest.mark.parametrize(("name", "dtype", "options"), COUNTED)
def test_what_counts_its_steps_for_chance_alone_goes_on_from_a_file(
    name: str, dtype: torch.dtype, options: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(5000, dtype=dtype))
    optimizer = getattr(adapter, name)([("p", p)], **options)
    walk(optimizer, p, 3)
    state.save(optimizer, "s")
    code, text = run("convert", "s", "s.pt", "--to", "torch")
    assert code == 0, text
    others = [torch.nn.Parameter(p.detach().clone()) for _ in range(2)]
    first, second = (getattr(adapter, name)([("p", q)], **options) for q in others)
    state.load("s", first)
    second.load_state_dict(torch.load("s.pt", weights_only=True))
    walk(optimizer, p, 2)
    for q, other in zip(others, (first, second), strict=True):
        walk(other, q, 2)
        assert torch.equal(p, q)
        assert all(torch.equal(other.state[q][slot], x) for slot, x in optimizer.state[p].items())


def walk(optimizer: Optimizer, p: torch.nn.Parameter, steps: int) -> None:
    for t in range(steps):
        p.grad = torch.linspace(-1, 1, p.numel()).to(p.dtype) * (t + 1)
        optimizer.step()


@pytest.mark.parametrize("name", FILES)
def test_codes_of_other_libraries_become_their_numbers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the library itself reads them, whether it is installed or not; nothing is decoded before it is asked for."""
    foreign = read(name)
    monkeypatch.chdir(tmp_path)
    source = Path(__file__).parent / f"foreign_dicts/{name}.pt"
    rule = "lion" if "Lion" in name else "adamw"
    code, text = run("convert", source, "s", "--to", "numpy", "--rule", rule)
    assert code == 0, text
    with loaded("test", Path("s")) as converted:
        for i, numbers in enumerate(foreign["numbers"]):
            slots = converted.parameters[str(i)].slots
            assert {slot: x.dtype for slot, x in slots.items()} == dict.fromkeys(numbers, "float32")
            assert all(np.array_equal(slots[slot].read(), x.numpy()) for slot, x in numbers.items())


@pytest.mark.parametrize("package", [torch.optim, adapter], ids=["torch", "ours"])
def test_a_schedule_goes_on_where_it_began(package: ModuleType, tmp_path: Path) -> None:
    """A scheduler that is made with a `last_epoch` asks for the `initial_lr` of each group: it comes with the state, by
    a portable file and by a `.pt` that was converted. What an optimizer has of it already stays.
    """
    net, file = model(), tmp_path / "s"

    def scheduled(net: torch.nn.Module, done: int) -> tuple[Optimizer, torch.optim.lr_scheduler.ExponentialLR]:
        named = dict(net.named_parameters())
        members = [[(name, p) for name, p in named.items() if name.startswith(layer)] for layer in ("0", "2")]
        optimizer = package.AdamW([{"params": members[0], "lr": 1e-2}, {"params": members[1], "lr": 3e-2}])
        if done > 0:
            state.load(file, optimizer)
        return optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9, done - 1)

    optimizer, schedule = scheduled(net, 0)
    for _ in range(3):
        train(net, optimizer, 1)
        schedule.step()
    state.save(optimizer, file)
    assert "0.01, 0.03" in str(state.describe(file))
    wanted = [group["initial_lr"] for group in optimizer.param_groups]
    other, again = scheduled(copied(net), 3)
    assert [group["initial_lr"] for group in other.param_groups] == wanted == [1e-2, 3e-2] == again.base_lrs
    other.param_groups[0]["initial_lr"] = 7.0
    state.load(file, other)
    assert [group["initial_lr"] for group in other.param_groups] == [7.0, 3e-2]
    assert run("convert", file, tmp_path / "back.pt", "--to", "torch")[0] == 0
    assert run("convert", tmp_path / "back.pt", tmp_path / "s2", "--to", "torch")[0] == 0
    code, text = run("convert", tmp_path / "s2", tmp_path / "back.pt", "--to", "torch")
    assert code == 0, text
    groups = torch.load(tmp_path / "back.pt", weights_only=True)["param_groups"]
    assert [group["initial_lr"] for group in groups] == wanted


@pytest.mark.skipif(sys.platform != "linux", reason="Linux takes back pages when it is asked to")
def test_a_mapped_file_is_not_held_while_it_is_read(tmp_path: Path) -> None:
    """The process holds the pages of one parameter: those of the one before are given back."""
    sizes = {"state": {i: {"step": torch.tensor(1.0), "exp_avg": torch.ones(1 << 22)} for i in range(4)}}
    torch.save({**sizes, "param_groups": [{"lr": 1.0, "params": [0, 1, 2, 3]}]}, tmp_path / "o.pt")

    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * mmap.PAGESIZE

    saved = read_file("test", tmp_path / "o.pt", "lion")
    before, most = resident(), 0
    for p in saved.parameters.values():
        assert p.slots["exp_avg"].read().sum() == 1 << 22
        most = max(most, resident() - before)
    assert 1 << 23 < most < 1 << 25
    assert all(p.slots["exp_avg"].read().sum() == 1 << 22 for p in saved.parameters.values())

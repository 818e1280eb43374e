"""State dicts that are not what they say: each is refused with a sentence that names what is wrong, and nothing is
written.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from scirs2_adapters import state
from scirs2_adapters.commands.app import app


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["state", *map(str, words)], env={"COLUMNS": "400"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def stepped(**options: Any) -> torch.optim.Optimizer:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.named_parameters(), **{"lr": 1e-2, **options})
    model(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    return optimizer


def memory(**slots: object) -> Callable[[Any], object]:
    return lambda saved: saved["state"][0].update(slots)


def group(**values: object) -> Callable[[Any], object]:
    return lambda saved: saved["param_groups"][0].update(values)


WRONG: dict[str, Callable[[Any], object]] = {
    "['weight']['step']=...)` must be a whole number >= 0. Received: tensor(-3.)": memory(step=torch.tensor(-3.0)),
    "['weight']['step']=...)` must be a whole number >= 0. Received: nan": memory(step=float("nan")),
    "['weight']['step']=...)` must be a whole number >= 0. Received: 'three'": memory(step="three"),
    "['step']=...)` must be a whole number >= 0. Received: an array of shape (2,)": memory(step=torch.ones(2)),
    "must be a tensor of numbers. Received: None": memory(exp_avg=None),
    "have the name 'a' twice": group(param_names=["a", "a"]),
    "have the parameter 0 twice": group(params=[0, 0]),
    "memory of 7 belongs to no parameter": lambda saved: saved["state"].update({7: {}}),
    "memory of '0' belongs to no parameter": lambda saved: saved.update(state={"0": saved["state"][0]}),
    "no optimizer's `state_dict()`": lambda saved: saved["param_groups"][0].pop("params"),
    "holds no optimizer's": lambda saved: saved.update(state=[1]),
    "this one holds no optimizer's": lambda saved: saved.update(param_groups={"a": 1}),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_dict_that_cannot_be_used_is_refused(words: str, tmp_path: Path) -> None:
    saved = copy.deepcopy(stepped().state_dict())
    WRONG[words](saved)
    torch.save(saved, tmp_path / "s.pt")
    code, text = run("convert", tmp_path / "s.pt", tmp_path / "made", "--to", "torch")
    assert (code, words in " ".join(text.split())) == (2, True), text
    assert not (tmp_path / "made").exists()


def test_memory_of_whole_numbers_goes_into_no_optimizer(tmp_path: Path) -> None:
    saved = copy.deepcopy(stepped().state_dict())
    saved["state"][0]["exp_avg"] = torch.ones(2, 3, dtype=torch.int64)
    torch.save(saved, tmp_path / "s.pt")
    assert run("convert", tmp_path / "s.pt", tmp_path / "made", "--to", "torch") == (0, "")
    here = stepped()
    before = copy.deepcopy(here.state_dict()["state"])
    with pytest.raises(ValueError, match="weight/exp_avg is of int64 in the file and float32 here"):
        state.load(tmp_path / "made", here)
    assert all(torch.equal(x, before[i][slot]) for i, p in here.state_dict()["state"].items() for slot, x in p.items())


def test_a_learning_rate_in_a_tensor_is_a_number(tmp_path: Path) -> None:
    optimizer = stepped(lr=torch.tensor(0.25))
    state.save(optimizer, tmp_path / "s")
    assert state.describe(tmp_path / "s").config["learning_rate"] == 0.25
    torch.save(optimizer.state_dict(), tmp_path / "s.pt")
    assert run("convert", tmp_path / "s.pt", tmp_path / "made.pt", "--to", "torch") == (0, "")
    assert torch.load(tmp_path / "made.pt", weights_only=True)["param_groups"][0]["lr"] == 0.25


def test_a_folder_with_several_optimizers_is_refused(tmp_path: Path) -> None:
    for name in ("optimizer.bin", "optimizer_1.bin"):
        torch.save(stepped().state_dict(), tmp_path / name)
    code, text = run("show", tmp_path)
    assert (code, "optimizer.bin, optimizer_1.bin: name one" in " ".join(text.split())) == (2, True)
    assert run("show", tmp_path / "optimizer_1.bin")[0] == 0

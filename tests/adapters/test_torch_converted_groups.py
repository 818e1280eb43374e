"""Files of optimizers with several parameter groups, and with parameters that were never stepped."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from scirs2_adapters import state
from scirs2_adapters import torch as adapter
from scirs2_adapters.commands.app import app

OPTIMIZERS = {"torch": torch.optim.AdamW, "ours": adapter.AdamW}


def grouped(model: torch.nn.Module, kind: str = "torch", rate: float = 1e-2) -> torch.optim.Optimizer:
    """Weight decay for matrices alone, as the Trainer makes its groups."""
    named = list(model.named_parameters())
    return OPTIMIZERS[kind]([
        {"params": [(n, p) for n, p in named if p.ndim > 1], "weight_decay": 0.1, "lr": rate},
        {"params": [(n, p) for n, p in named if p.ndim < 2], "weight_decay": 0.0, "lr": 2 * rate},
    ])  # fmt: skip


def trained(optimizer: torch.optim.Optimizer, model: torch.nn.Module, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        model(torch.full((4, 3), 0.1 * step)).square().sum().backward()
        optimizer.step()


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["state", *map(str, words)], env={"COLUMNS": "300"})
    return done.exit_code, done.output


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_groups_come_back_as_they_were(kind: str, tmp_path: Path) -> None:
    """A .pt that has been a portable file goes into an optimizer with such groups, which walks on to the bit."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 2))
    optimizer = grouped(model, kind)
    trained(optimizer, model, range(3))
    torch.save(optimizer.state_dict(), tmp_path / "was.pt")
    assert run("convert", tmp_path / "was.pt", tmp_path / "s", "--to", "torch") == (0, "")
    assert run("convert", tmp_path / "s", tmp_path / "made.pt", "--to", "torch") == (0, "")
    assert run("diff", tmp_path / "was.pt", tmp_path / "made.pt") == (0, "")
    other = copy.deepcopy(model)
    again = grouped(other, kind, rate=1.0)
    again.load_state_dict(torch.load(tmp_path / "made.pt", weights_only=True))
    trained(optimizer, model, range(3, 6))
    trained(again, other, range(3, 6))
    assert all(map(torch.equal, model.parameters(), other.parameters()))
    code, text = run("show", tmp_path / "s")
    assert (code, "group 2" in text, "weight_decay=0.0" in text) == (0, True, True), text


def test_hyperparameters_of_each_group_are_compared(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    state.save(grouped(model), tmp_path / "a")
    state.save(grouped(model, rate=1e-3), tmp_path / "b")
    code, text = run("diff", tmp_path / "a", tmp_path / "b")
    assert (code, "learning_rate of bias" in text, "0.02 and 0.002" in text) == (1, True, True), text
    report = state.load(tmp_path / "a", torch.optim.AdamW(model.named_parameters(), lr=1e-2, weight_decay=0.1))
    assert isinstance(report, state.Report)
    assert report.hyperparameters == {"learning_rate of bias": (0.02, 0.01), "weight_decay of bias": (0.0, 0.1)}
    assert not state.load(tmp_path / "a", grouped(model)).hyperparameters  # type: ignore[union-attr]


def test_a_file_whose_groups_are_not_of_its_parameters_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from scirs2_adapters.core.portable.state import loaded
    from scirs2_adapters.core.portable.state import save as save_state

    state.save(grouped(torch.nn.Linear(3, 2)), tmp_path / "a")
    with loaded("test", tmp_path / "a") as saved:
        save_state(replace(saved, groups=saved.groups[:1]), tmp_path / "b")
    with pytest.raises(ValueError, match="not complete"):
        state.describe(tmp_path / "b")

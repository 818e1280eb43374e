"""Folders of the Trainer and of accelerate are read by the optimizer's file in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from scirs2_adapters import state
from scirs2_adapters.commands.app import app


@pytest.mark.parametrize("name", ["optimizer.pt", "optimizer.bin"])
def test_a_folder_is_read_by_its_optimizer(name: str, tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.named_parameters(), lr=1e-2)
    model(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    torch.save(optimizer.state_dict(), folder / name)
    done = CliRunner().invoke(app, ["state", "convert", str(folder), str(tmp_path / "made"), "--to", "torch"])
    assert done.exit_code == 0, done.output
    made = state.describe(tmp_path / "made")
    assert (made.full_name, [*made.parameters], made.step_count) == ("adamw", ["weight", "bias"], 1)


def test_a_folder_with_something_that_runs_is_refused(tmp_path: Path) -> None:
    torch.save({"state": {}, "param_groups": [{"params": [], "f": print}]}, tmp_path / "optimizer.pt")
    done = CliRunner().invoke(app, ["state", "convert", str(tmp_path), str(tmp_path / "made"), "--to", "torch"])
    assert done.exit_code == 2
    assert "without running code" in done.output

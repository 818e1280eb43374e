"""Folders of the Trainer and of accelerate are read by the optimizer's file in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from scirs2_adapters import get, names, state
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


def stepped() -> torch.optim.Optimizer:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.named_parameters(), lr=1e-2)
    model(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("kept", ["alone", "entry", "list", "legacy", "two", "none"])
def test_a_state_dict_is_found_in_a_checkpoint_of_a_whole_run(kept: str, tmp_path: Path) -> None:
    saved = stepped().state_dict()
    forms: dict[str, object] = {"alone": saved, "legacy": saved, "entry": {"optimizer": saved, "model": {}, "epoch": 3}}
    forms |= {"list": {"optimizer_states": [saved]}, "two": {"one": saved, "other": saved}, "none": {"model": {}}}
    path = tmp_path / "run.ckpt"
    torch.save(forms[kept], path, _use_new_zipfile_serialization=kept != "legacy")
    done = CliRunner().invoke(app, ["state", "show", str(path)])
    if kept in ("two", "none"):
        assert (done.exit_code, "torch.save(optimizer.state_dict(), path)" in done.output) == (2, True)
        assert kept == "none" or "those of one, other" in done.output
    else:
        assert (done.exit_code, "exp_avg_sq" in done.output) == (0, True), done.output


@pytest.mark.parametrize("name", names())
def test_a_name_that_the_file_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    """What keeps the memory of AdamW may be meant; all others are refused, and the message says what fits."""
    torch.save(stepped().state_dict(), tmp_path / "adamw.pt")
    done = CliRunner().invoke(app, ["state", "show", str(tmp_path / "adamw.pt"), "--rule", name])
    rule = get(name)()
    fits = {"exp_avg", "exp_avg_sq"} <= {s.name for one in (rule, rule.other()) for s in one.all_slots()}
    assert done.exit_code in ((0,) if name in ("adam", "adamw") else (0, 2) if fits else (2,)), done.output
    assert fits or "adamw" in done.output


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_was_cut_short_is_refused(legacy: bool, tmp_path: Path) -> None:
    torch.save(stepped().state_dict(), tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:-200])
    done = CliRunner().invoke(app, ["state", "show", str(tmp_path / "a.pt")])
    assert (done.exit_code, "or is damaged" in done.output) == (2, True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_the_number_of_steps_is_that_of_the_file_whatever_torchs_default_dtype_is(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    """bfloat16 has no number between 4096 and 4128."""
    saved = stepped().state_dict()
    for param_state in saved["state"].values():
        param_state["step"] = torch.tensor(4099.0, dtype=torch.float32)
    torch.save(saved, tmp_path / "saved.pt")
    torch.set_default_dtype(dtype)
    try:
        command = ["state", "convert", str(tmp_path / "saved.pt"), str(tmp_path / "made.pt"), "--to", "torch"]
        done = CliRunner().invoke(app, command)
    finally:
        torch.set_default_dtype(torch.float32)
    assert done.exit_code == 0, done.output
    made = torch.load(tmp_path / "made.pt", weights_only=True)["state"]
    assert {param_state["step"].item() for param_state in made.values()} == {4099.0}

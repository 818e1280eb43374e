"""Universal checkpoints of DeepSpeed, real ones (`foreign_dicts/make_deepspeed.py`), become portable files."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from scirs2_adapters import state
from scirs2_adapters.commands.app import app
from scirs2_adapters.core.portable.state import State, loaded

STAGES = (1, 3)
ORDER = ["one.weight", "two.weight", "one.bias", "two.bias"]
SHAPES = [(3, 5), (2, 3), (3,), (2,)]


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["state", *map(str, words)], env={"COLUMNS": "300"})
    return done.exit_code, done.output


def unpacked(stage: int, folder: Path) -> Path:
    """The folder of a run, whose `latest_universal` names the checkpoint in it."""
    with zipfile.ZipFile(Path(__file__).parent / f"foreign_dicts/deepspeed-stage{stage}.zip") as archive:
        archive.extractall(folder / "run")
    return folder / "run"


def check(saved: State, numbers: dict[str, dict[str, torch.Tensor]]) -> None:
    assert [*saved.parameters] == ORDER
    for name, shape in zip(ORDER, SHAPES, strict=True):
        p = saved.parameters[name]
        assert (p.steps, p.slots.keys()) == (3, numbers[name].keys())
        for slot, x in p.slots.items():
            assert x.shape == shape
            assert np.array_equal(x.read(), numbers[name][slot].reshape(shape).numpy())


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("place", ["", "universal"])
def test_a_checkpoint_becomes_a_portable_file(stage: int, place: str, tmp_path: Path) -> None:
    """Parameters in the order of the optimizer's groups, with the numbers that DeepSpeed reads; no buffers."""
    folder = unpacked(stage, tmp_path)
    code, text = run("convert", folder / place, tmp_path / "made", "--to", "torch")
    assert code == 0, text
    with loaded("test", tmp_path / "made") as saved:
        check(saved, torch.load(folder / "numbers.pt", weights_only=True))
        assert (saved.full_name, saved.step_count, saved.layout) == ("adamw", 3, "outputs_first")
        assert (saved.config["learning_rate"], saved.config["weight_decay"]) == (0.01, 0.1)


def test_both_stages_walk_alike(tmp_path: Path) -> None:
    """One run under two stages: what is read of both is nearly the same, parameter by parameter."""
    one, three = (torch.load(unpacked(s, tmp_path / str(s)) / "numbers.pt", weights_only=True) for s in STAGES)
    for name, slots in one.items():
        for slot, x in slots.items():
            torch.testing.assert_close(x.reshape(-1), three[name][slot].reshape(-1), rtol=0.1, atol=1e-3)


@pytest.mark.parametrize("stage", STAGES)
def test_torch_goes_on_from_it(stage: int, tmp_path: Path) -> None:
    folder = unpacked(stage, tmp_path)
    assert run("convert", folder, tmp_path / "made.pt", "--to", "torch")[0] == 0
    params = [torch.nn.Parameter(torch.ones(shape)) for shape in SHAPES]
    optimizer = torch.optim.AdamW([{"params": params[:2]}, {"params": params[2:]}], lr=1.0)
    optimizer.load_state_dict(torch.load(tmp_path / "made.pt", weights_only=True))
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.01, 0.1), (0.01, 0.0)]
    numbers = torch.load(folder / "numbers.pt", weights_only=True)
    for name, p in zip(ORDER, params, strict=True):
        assert all(
            torch.equal(optimizer.state[p][slot].reshape(-1), x.reshape(-1)) for slot, x in numbers[name].items()
        )
    params[0].grad = torch.ones(SHAPES[0])
    optimizer.step()
    assert optimizer.state[params[0]]["step"] == 4


def universal(change: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: change(folder / "universal")


def resave(name: str, change: Callable[[Any], Any]) -> Callable[[Path], object]:
    def changed(folder: Path) -> None:
        file = folder / "zero" / name
        torch.save(change(torch.load(file, weights_only=True)), file)

    return universal(changed)


def drop(name: str) -> Callable[[Path], object]:
    def dropped(folder: Path) -> None:
        file = folder / name
        shutil.rmtree(file) if file.is_dir() else file.unlink()

    return universal(dropped)


def cut(name: str) -> Callable[[Path], object]:
    def shortened(folder: Path) -> None:
        for file in folder.glob(name):
            file.write_bytes(file.read_bytes()[:-300])

    return universal(shortened)


def flat(_: object) -> torch.Tensor:
    return torch.ones(7)


WRONG = {
    "cut slot": (cut("zero/two.bias/exp_avg.pt"), "or is damaged"),
    "cut groups": (cut("zero/optimizer_state.pt"), "or is damaged"),
    "cut model": (cut("*model_states.pt"), "or is damaged"),
    "no parameter": (drop("zero/two.bias"), "lacks the parameter two.bias"),
    "no slot": (drop("zero/two.bias/exp_avg_sq.pt"), "two.bias has no exp_avg_sq.pt"),
    "no groups": (drop("zero/optimizer_state.pt"), "lacks zero/optimizer_state.pt"),
    "other shape": (resave("one.weight/exp_avg.pt", flat), "7 numbers, and the parameter is of"),
    "no tensor": (resave("one.weight/exp_avg.pt", lambda _: [1]), "one.weight/exp_avg.pt is no tensor of numbers"),
    "code": (resave("one.weight/exp_avg.pt", lambda _: {"param": print}), "without running code"),
    "parts": (lambda folder: (folder / "latest_universal").write_text("global_step3"), "ds_to_universal"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("stage", STAGES)
def test_what_is_not_whole_is_refused(kind: str, stage: int, tmp_path: Path) -> None:
    folder = unpacked(stage, tmp_path)
    spoil, words = WRONG[kind]
    spoil(folder)
    code, text = run("convert", folder, tmp_path / "made", "--to", "torch")
    assert (code, words in text) == (2, True), text
    assert "must hold the state of an optimizer" in text
    assert not (tmp_path / "made").exists()


def test_a_rule_that_it_does_not_fit_is_refused(tmp_path: Path) -> None:
    code, text = run("show", unpacked(1, tmp_path), "--rule", "lion")
    assert (code, "adamw" in text) == (2, True), text


@pytest.mark.parametrize("stage", STAGES)
def test_without_the_files_of_the_model(stage: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Stage 1 has shapes all the same, and names give an order; stage 3 has no shapes."""
    folder = unpacked(stage, tmp_path)
    for file in (folder / "universal").glob("*model_states.pt"):
        file.unlink()
    code, text = run("convert", folder, tmp_path / "made", "--to", "torch")
    if stage == 3:
        assert (code, "says the shapes in it" in text) == (2, True), text
        return
    assert code == 0, text
    assert [*state.describe(tmp_path / "made").parameters] == sorted(ORDER)
    assert "does not say the order of its parameters" in caplog.text

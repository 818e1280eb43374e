"""States of optax in files of flax and orbax become portable files."""

from __future__ import annotations

from pathlib import Path

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as orbax
import pytest
from typer.testing import CliRunner

from scirs2_adapters import jax as adapter
from scirs2_adapters import state
from scirs2_adapters.commands.app import app
from scirs2_adapters.core.portable.convert import differences
from scirs2_adapters.core.portable.state import loaded

PARAMS = {
    "dense": {"kernel": jnp.linspace(-1, 1, 12).reshape(4, 3), "bias": jnp.ones(3)},
    "scale": jnp.ones(()),
}
TRANSFORMATIONS = {
    "adamw": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2)),
    "adam": optax.inject_hyperparams(optax.adam)(learning_rate=1e-2),
    "lion": adapter.lion(1e-3),
    "soap": adapter.soap(1e-3),
    "nadam": adapter.nadam(1e-3),
}


def stepped(tx: optax.GradientTransformation) -> object:
    memory, params = tx.init(PARAMS), PARAMS
    for _ in range(3):
        grads = jax.tree.map(lambda p: jnp.sin(9 * p), params)
        params, memory = adapter.step(tx, grads, memory, params)
    return memory


def convert(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["state", "convert", *map(str, words)])
    return done.exit_code, done.output


def by_flax(memory: object, folder: Path) -> Path:
    path = folder / "state.msgpack"
    path.write_bytes(flax.serialization.to_bytes({"params": PARAMS, "opt_state": memory, "step": 3}))
    return path


def by_orbax(memory: object, folder: Path) -> Path:
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "checkpoint", {"params": PARAMS, "opt_state": memory})
    return folder / "checkpoint"


@pytest.mark.parametrize("write", [by_flax, by_orbax])
@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_a_file_becomes_what_would_have_been_saved(name: str, write: object, tmp_path: Path) -> None:
    tx = TRANSFORMATIONS[name]
    memory = stepped(tx)
    options = {} if tx.update.__module__.startswith("scirs2") else {"rule": name}
    state.save((tx, memory), tmp_path / "saved", **options)
    assert convert(write(memory, tmp_path), tmp_path / "made", "--to", "numpy", "--rule", name) == (0, "")
    with loaded("test", tmp_path / "saved") as one, loaded("test", tmp_path / "made") as other:
        said = [d for d in differences(one, other) if "/" in d.place or "steps" in d.place]
        assert said == []
        assert {*one.parameters} == {*other.parameters}
        assert {k: np.float32(x) for k, x in one.numbers.items()} == {
            k: np.float32(x) for k, x in other.numbers.items()
        }


@pytest.mark.parametrize(
    ("words", "rule"),
    [("must name the optimizer", ""), ("no memory of lion", "lion"), ("cut short", "adamw"), ("No optimizer", "adamn")],
)
def test_a_file_that_cannot_be_used_is_refused(words: str, rule: str, tmp_path: Path) -> None:
    path = by_flax(stepped(TRANSFORMATIONS["adamw"]), tmp_path)
    if words == "cut short":
        path.write_bytes(path.read_bytes()[:-9])
    code, text = convert(path, tmp_path / "made", "--to", "numpy", *(("--rule", rule) if rule else ()))
    assert (code, words in text) == (2, True), text
    assert not (tmp_path / "made").exists()


def test_a_state_that_may_mean_two_things_is_taken_for_what_is_said(tmp_path: Path) -> None:
    path = by_flax(stepped(adapter.prodigy(1.0)), tmp_path)
    code, text = convert(path, tmp_path / "made", "--to", "numpy", "--rule", "prodigy")
    assert (code, "Give `--rule prodigy:optax` or" in text) == (2, True), text
    assert convert(path, tmp_path / "made", "--to", "numpy", "--rule", "prodigy:other")[0] == 2
    for whose, match in (("scirs2", None), ("optax", "optax")):
        assert convert(path, tmp_path / "made", "--to", "numpy", "--rule", f"prodigy:{whose}") == (0, "")
        assert state.describe(tmp_path / "made").match == match


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    code, text = convert(tmp_path, tmp_path / "made", "--to", "numpy", "--rule", "adamw")
    assert (code, "or be one of DeepSpeed or orbax" in text) == (2, True), text


def test_a_manager_of_checkpoints_is_read_where_it_has_one(tmp_path: Path) -> None:
    memory = stepped(TRANSFORMATIONS["adamw"])
    folder = tmp_path / "run"
    with orbax.CheckpointManager(folder) as manager:
        for step in (1, 2):
            manager.save(step, args=orbax.args.StandardSave({"opt_state": memory}))
            manager.wait_until_finished()
            code, text = convert(folder, tmp_path / f"made{step}", "--to", "numpy", "--rule", "adamw")
            assert (code, "It has 1, 2: name one" in " ".join(text.split())) == (2 * (step == 2), step == 2), text
    assert convert(folder / "2", tmp_path / "made2", "--to", "numpy", "--rule", "adamw") == (0, "")
    with loaded("test", tmp_path / "made1") as one, loaded("test", tmp_path / "made2") as other:
        assert list(differences(one, other)) == []


def test_a_state_dict_says_what_it_does_not_know(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = by_flax(stepped(TRANSFORMATIONS["adamw"]), tmp_path)
    code, _ = convert(path, tmp_path / "made.pt", "--to", "torch", "--rule", "adamw", "--layout", "flax")
    assert (code, "made.pt has the defaults of betas, eps, lr, weight_decay" in caplog.text) == (0, True), caplog.text

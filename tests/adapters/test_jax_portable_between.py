"""States that come from elsewhere into JAX: what is frozen there, how kernels lie, and what optax does not say."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from typer.testing import CliRunner

from scirs2_adapters import get, state
from scirs2_adapters import jax as adapter
from scirs2_adapters.commands.app import app
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.matrix import OUTPUTS_FIRST

SHAPES = {"w": (3, 4), "table": (5, 2), "b": (4,)}


def saved(path: Path, frozen: str = "", **values: float) -> HostOptimizer:
    """A state with these parameters, one of which may never have had a gradient."""
    params = {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()}
    optimizer = HostOptimizer(get("adamw")(**values), params, kernel="traced")
    for _ in range(2):
        optimizer.step({name: None if name == frozen else np.cos(p) for name, p in params.items()})
    state.save(optimizer, path)
    return optimizer


def params() -> dict[str, jnp.ndarray]:
    return {name: jnp.ones(shape) for name, shape in SHAPES.items()}


def test_a_parameter_that_was_never_stepped_is_no_loss_where_it_is_left_out(tmp_path: Path) -> None:
    """As where it is frozen by a mask."""
    saved(tmp_path / "s", "table")
    tx = optax.masked(optax.adamw(1e-3), {"w": True, "table": False, "b": True})
    new, report = state.load(tmp_path / "s", (tx, tx.init(params())), rule="adamw")
    assert [report.converted, report.missing, report.left_over] == [{}, [], []]
    assert new.inner_state[0].count == 2
    saved(tmp_path / "s")
    with pytest.raises(ValueError, match="in the file only: table"):
        state.load(tmp_path / "s", (tx, tx.init(params())), rule="adamw")


def test_a_parameter_that_was_never_stepped_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    saved(tmp_path / "s", "table")
    tx = adapter.adamw(1e-3)
    with pytest.raises(ValueError, match=r"Received: \[0, 2\].*`strict=False` to leave table"):
        state.load(tmp_path / "s", (tx, tx.init(params())))
    new, report = state.load(tmp_path / "s", (tx, tx.init(params())), strict=False)
    assert report.missing == ["table"]
    assert not np.any(new[0].mu["table"])
    assert np.all(new[0].mu["w"] > 0)


def test_what_optax_does_not_say_is_not_compared(tmp_path: Path) -> None:
    """The defaults of our rule are not the arguments of this transformation."""
    saved(tmp_path / "s", learning_rate=0.5, weight_decay=0.3)
    tx = optax.adamw(0.25)
    assert state.load(tmp_path / "s", (tx, tx.init(params())), rule="adamw")[1].hyperparameters == {}
    ours = adapter.adamw(0.25, weight_decay=0.3)
    _, report = state.load(tmp_path / "s", (ours, ours.init(params())))
    assert report.hyperparameters["learning_rate"] == (0.5, 0.25)


@pytest.mark.parametrize("layout", [None, "torch"])
def test_a_layout_that_is_said_holds_for_kernels_of_any_name(layout: str | None, tmp_path: Path) -> None:
    """A square one, called `kernel` on both sides, fits either way."""
    was = HostOptimizer("lion", {"a.kernel": np.ones((3, 3), np.float32)}, kernel="traced")
    was.step({"a.kernel": np.arange(9, dtype=np.float32).reshape(3, 3)})
    state.save(was, tmp_path / "s")
    tx = adapter.lion(1e-3)
    new, _ = state.load(tmp_path / "s", (tx, tx.init({"a": {"kernel": jnp.ones((3, 3))}})), layout=layout)
    moment = was.state["a.kernel"]["exp_avg"]
    assert np.array_equal(new[0].mu["a"]["kernel"], moment.T if layout else moment)


@pytest.mark.parametrize("name", ["galore", "apollo"])
def test_projections_of_kernels_that_lie_otherwise_are_refused(name: str, tmp_path: Path) -> None:
    """Of a kernel of four axes a projection has two, and fits without regard to their order."""
    kernel = np.ones((6, 4, 3, 3), np.float32)
    was = HostOptimizer(get(name)(rank=2), {"c": kernel}, kernel="traced", layout=OUTPUTS_FIRST)
    was.step({"c": np.sin(np.arange(216, dtype=np.float32)).reshape(6, 4, 3, 3)})
    state.save(was, tmp_path / "s")
    tx = getattr(adapter, name)(1e-3, rank=2)
    with pytest.raises(ValueError, match="rows and columns of axes that lie otherwise"):
        state.load(tmp_path / "s", (tx, tx.init({"c": jnp.ones((3, 3, 4, 6))})), layout="torch")


@pytest.mark.parametrize(
    "name", ["soap", "shampoo", "kron", "adafactor", "adammini", "came", "sm3", "galore", "apollo"]
)
@pytest.mark.parametrize("options", [{}, {"state_dtype": "int8"}], ids=str)
def test_every_slot_of_a_dense_kernel_is_turned_with_it(name: str, options: dict[str, str], tmp_path: Path) -> None:
    """Squares of sides, rows and columns, slices and projections of a kernel as torch lays it."""
    values = {"rank": 2} if name in ("galore", "apollo") else {}
    kernel = np.sin(np.arange(24, dtype=np.float32)).reshape(6, 4)
    was = HostOptimizer(get(name)(**values), {"k": kernel}, kernel="traced", layout=OUTPUTS_FIRST, **options)
    was.step({"k": np.cos(kernel)})
    state.save(was, tmp_path / "s")
    tx = getattr(adapter, name)(1e-3, **values, **options)
    new, report = state.load(tmp_path / "s", (tx, tx.init({"k": jnp.ones((4, 6))})), layout="torch")
    assert [report.missing, report.left_over] == [[], []]
    state.save((tx, new), tmp_path / "again")
    back = HostOptimizer(get(name)(**values), {"k": kernel.copy()}, kernel="traced", layout=OUTPUTS_FIRST, **options)
    state.load(tmp_path / "again", back, layout="flax")
    for slot, x in was.state["k"].items():
        assert np.array_equal(back.state["k"][slot], x), slot


def test_projections_are_not_turned_where_nobody_says_of_what_they_are(tmp_path: Path) -> None:
    tx = adapter.apollo(1e-3, rank=2)
    state.save((tx, tx.init({"k": jnp.ones((4, 6))})), tmp_path / "s")
    command = ["state", "convert", str(tmp_path / "s"), str(tmp_path / "t"), "--to", "torch", "--layout", "flax"]
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, "must say the shape of a parameter" in " ".join(done.output.split())) == (2, True)

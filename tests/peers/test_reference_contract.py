"""What the package's docstring promises of every slow twin; the twins are found as files.

Those of optimizers that evaluate the model take a function in place of gradients, and have tests of their own; those of
optimizers that depend on the loss take that beside gradients.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import pytest

from scirs2_adapters.core.registry import with_closure, with_value
from tests.reference import reference

from .problem import SHAPES, STEPS, gradients, parameters

HOME = Path(__file__).parents[1] / "reference"
FILES = (path.stem for path in HOME.glob("*.py") if not path.stem.startswith("_"))
TWINS = sorted(set(FILES) - {*with_closure(), *with_value()})


def values(history: tuple[list, list]) -> list[np.ndarray]:
    """All parameters, slots and scalars of a trajectory."""
    xs, states = history
    arrays = [x for step in xs for x in step]
    for state in states:
        arrays += [slot for slots in state["leaves"] for slot in slots.values()] + list(state["model"].values())
    return arrays


def rounded(x: np.ndarray) -> np.ndarray:
    """As single precision keeps it."""
    return x.astype(np.float32).astype(float)


@pytest.mark.parametrize("path", sorted(HOME.glob("*.py")), ids=lambda path: path.stem)
def test_twins_import_nothing_of_ours(path: Path) -> None:
    allowed = {*sys.stdlib_module_names, "numpy"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= allowed
        if isinstance(node, ast.ImportFrom):
            assert node.level == 1 or node.module.split(".")[0] in allowed


@pytest.mark.parametrize("name", TWINS)
def test_trajectory_covers_every_step_and_leaves_its_input_alone(name: str) -> None:
    params, grads = parameters(), gradients()
    xs, states = reference(name)(params, grads, hyper={})
    assert len(xs) == len(states) == STEPS
    for step, state in zip(xs, states, strict=True):
        assert [x.shape for x in step] == list(SHAPES)
        assert len(state["leaves"]) == len(SHAPES)
    assert all(v.dtype == float for v in values((xs, states)))
    for now, before in zip([params, *grads], [parameters(), *gradients()], strict=True):
        assert all(map(np.array_equal, now, before))


@pytest.mark.parametrize("name", TWINS)
def test_unknown_hyperparameter_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match="lr"):
        reference(name)(parameters(), gradients(), hyper={"lr": 0.1})


@pytest.mark.parametrize("name", TWINS)
def test_maximize_is_the_negated_gradient(name: str) -> None:
    turned = [[-g for g in gs] for gs in gradients()]
    ascent = reference(name)(parameters(), gradients(), hyper={"maximize": True})
    descent = reference(name)(parameters(), turned, hyper={})
    assert all(np.array_equal(a, b) for a, b in zip(values(ascent), values(descent), strict=True))


@pytest.mark.parametrize("name", TWINS)
def test_store_sees_each_parameter_once_a_step_and_decides_what_is_kept(name: str) -> None:
    seen = []

    def store(role: object, x: np.ndarray) -> np.ndarray:
        seen.extend([x.shape] if role == "param" else [])
        return rounded(x)

    kept = values(reference(name)(parameters(), gradients(), hyper={}, store=store))
    assert seen == list(SHAPES) * STEPS
    assert all(np.array_equal(v, rounded(v)) for v in kept)


@pytest.mark.parametrize("name", TWINS)
def test_empty_leaves_pass_through(name: str) -> None:
    params = [np.zeros((0,)), np.zeros((0, 3)), np.zeros((3, 0)), np.ones(2)]
    xs, _ = reference(name)(params, [params, params], hyper={})
    assert [x.shape for x in xs[-1]] == [p.shape for p in params]
    assert np.isfinite(xs[-1][-1]).all()


@pytest.mark.parametrize("name", TWINS)
def test_nan_reaches_its_own_entry(name: str) -> None:
    gs = [np.array([1.0, np.nan])]
    xs, _ = reference(name)([np.ones(2)], [gs, gs], hyper={})
    assert np.isnan(xs[-1][0][1])


def test_missing_twin_names_the_file_to_write() -> None:
    with pytest.raises(LookupError, match=r"tests/reference/nothing\.py"):
        reference("nothing")

"""What is remembered of a kernel, as it is of the same kernel that lies the other way: of every rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import scirs2_adapters as s2
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.matrix import INPUTS_FIRST, OUTPUTS_FIRST
from scirs2_adapters.core.portable import host
from scirs2_adapters.core.portable.convert import in_layout
from scirs2_adapters.core.portable.fit import Asked, fitted
from scirs2_adapters.core.portable.state import State
from scirs2_adapters.core.registry import with_value
from scirs2_adapters.drift import compare
from tests.conformance.options import brisk

GRADS = np.random.default_rng(6).normal(size=(4, 3, 5))
#: A kernel of three outputs and five inputs, which is stepped as that wherever it lies.
START = np.linspace(-1, 1, 15).reshape(3, 5)
SM3 = {"momentum": 0.0}
#: Whose noise follows from where an element lies.
BY_PLACE = {"noisysgd"}


def made(name: str, layout: str, steps: int = 3, folder: Path | None = None, **hyper: float) -> HostOptimizer:
    """An optimizer that has taken some steps."""
    rule, turn = s2.get(name), layout == INPUTS_FIRST
    settings = {"layout": layout} if "layout" in rule.fields_with() else {}
    params = {"dense.weight": np.array(START.T if turn else START, order="C")}
    optimizer = HostOptimizer(rule(**{**brisk(rule), **settings, **hyper}), params, kernel="traced", layout=layout)
    if folder is not None:
        optimizer = s2.record(optimizer, folder)
    for t, g in enumerate(GRADS[:steps]):
        value = {"value": 2.0 / (t + 1)} if rule.needs_value else {}
        optimizer.step({"dense.weight": np.array(g.T if turn else g, order="C")}, **value)
    return optimizer


def told(optimizer: HostOptimizer, layout: str, *, shapes: bool = True) -> State:
    state = replace(host.read(optimizer), layout=layout)
    if shapes:
        return state
    return replace(state, parameters={n: replace(p, shape=None) for n, p in state.parameters.items()})


@pytest.mark.parametrize("shapes", [True, False])
@pytest.mark.parametrize(("name", "hyper"), [("sm3", SM3), ("sm3", {}), ("adafactor", {}), ("adam", {})])
def test_a_state_is_turned_with_its_kernels_whether_it_says_their_shapes_or_not(
    name: str, hyper: dict[str, float], shapes: bool
) -> None:
    saved, wanted = (made(name, layout, **hyper) for layout in (OUTPUTS_FIRST, INPUTS_FIRST))
    loaded = made(name, INPUTS_FIRST, steps=0, **hyper)
    host.load(loaded, told(saved, OUTPUTS_FIRST, shapes=shapes), Asked(layout="torch"))
    for slot, x in wanted.state["dense.weight"].items():
        np.testing.assert_allclose(loaded.state["dense.weight"][slot], x, rtol=1e-12, err_msg=slot)


def test_a_file_that_says_no_shapes_of_numbers_for_slices_is_not_converted() -> None:
    state = told(made("sm3", OUTPUTS_FIRST, **SM3), OUTPUTS_FIRST, shapes=False)
    with pytest.raises(ValueError, match="must say the shapes of kernels of which it has a number for each slice"):
        in_layout("convert", state, INPUTS_FIRST)
    turned = in_layout("convert", told(made("sm3", OUTPUTS_FIRST, **SM3), OUTPUTS_FIRST), INPUTS_FIRST)
    wanted = made("sm3", INPUTS_FIRST, **SM3).state["dense.weight"]["accumulator"]
    np.testing.assert_allclose(turned.parameters["dense.weight"].slots["accumulator"].read(), wanted, rtol=1e-12)


@pytest.mark.parametrize("name", [*s2.names(), *with_value()])
def test_runs_that_differ_in_how_kernels_lie_do_not_differ(name: str, tmp_path: Path) -> None:
    hyper = SM3 if name == "sm3" else {}
    for layout in (OUTPUTS_FIRST, INPUTS_FIRST):
        made(name, layout, folder=tmp_path / layout, **hyper)
    drift = compare(tmp_path / OUTPUTS_FIRST, tmp_path / INPUTS_FIRST)
    assert drift.step == (1 if name in BY_PLACE else None), str(drift)


def test_numbers_for_slices_are_turned_where_the_shape_is_not_known_here() -> None:
    """As in JAX, whose state alone is given."""
    saved, wanted = (made("sm3", layout, **SM3) for layout in (OUTPUTS_FIRST, INPUTS_FIRST))
    here = replace(told(wanted, INPUTS_FIRST, shapes=False), layout="")
    state, _ = fitted(Asked(layout="torch"), told(saved, OUTPUTS_FIRST), here, saved.rule)
    slots = state.parameters["dense.weight"].slots
    np.testing.assert_allclose(slots["accumulator"].read(), wanted.state["dense.weight"]["accumulator"], rtol=1e-12)


def test_numbers_for_slices_of_which_nobody_knows_the_shape_are_refused_where_kernels_lie_otherwise() -> None:
    saved, here = (told(made("sm3", x, **SM3), x, shapes=False) for x in (OUTPUTS_FIRST, INPUTS_FIRST))
    rule = s2.get("sm3")(**SM3)
    with pytest.raises(ValueError, match=r"dense.weight has a number for each slice, and its shape is not known"):
        fitted(Asked(), saved, here, rule)
    fitted(Asked(), saved, replace(here, layout=OUTPUTS_FIRST), rule)

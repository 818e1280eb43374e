"""A program with coefficients that are known to be zero or one: the same numbers by fewer operations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scirs2_adapters import get, names
from scirs2_adapters import jax as adapter
from scirs2_adapters.core import Rule
from scirs2_adapters.core.ops import HOST_SCALARS
from scirs2_adapters.core.program.folded import folded, specialized
from scirs2_adapters.core.program.interpret import run
from scirs2_adapters.core.program.recorded import Program, record
from scirs2_adapters.core.slots import Extent, Leaf
from scirs2_adapters.core.step.reference import NUMPY

LEAF = Leaf((3, 2))
SHAPES = {Extent.FULL: (3, 2), Extent.TENSOR: (), Extent.MODEL: ()}


def without_decay(name: str) -> Rule:
    rule = get(name)()
    return rule.replace(weight_decay=0.0) if "weight_decay" in rule.fields else rule


def results(program: Program, arrays: dict[str, Any], scalars: dict[str, Any]) -> dict[str, Any]:
    with np.errstate(all="ignore"):
        return run(program, NUMPY, [arrays], [scalars], list(program.outputs))[0]


ELEMENTWISE = [
    name
    for name in names()
    if all(s.extent in SHAPES for s in without_decay(name).route(LEAF).slots(LEAF))
    and not any(n.op == "matrix" for n in record(without_decay(name).route(LEAF), LEAF).nodes)
]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_known_coefficients_change_no_number(name: str) -> None:
    rng, rule = np.random.default_rng(0), without_decay(name).route(LEAF)
    program = record(rule, LEAF)
    arrays = {key: rng.uniform(0.1, 1, (3, 2)) for key in ("p", "g")}
    arrays |= {s.name: rng.uniform(0.1, 1, SHAPES[s.extent]) for s in program.slots}
    scalars = {**rule.scalars(HOST_SCALARS, 3), **rule.leaf_coefficients(LEAF), "value": 0.5, "scale": 1.0}
    as_arrays = {key: np.asarray(scalars[key], dtype=float) for key in program.scalars}
    assert specialized(program, [as_arrays]) is program  # what is not known is left in
    known, unknown = results(program, arrays, scalars), results(program, arrays, as_arrays)
    for key, x in unknown.items():
        np.testing.assert_array_equal(known[key], x, err_msg=key)


def test_a_momentum_without_decay_does_not_read_the_parameter() -> None:
    rule = get("sgd")(momentum=0.9)
    program = record(rule, LEAF)
    reads = {}
    for decay in (0.0, 0.1):
        scalars = rule.replace(weight_decay=decay).scalars(HOST_SCALARS, 1)
        known = specialized(program, [scalars])
        reads[decay] = {known.nodes[i].name for i in known.order([known.outputs["momentum_buffer"]])}
    assert "p" not in reads[0.0]
    assert "p" in reads[0.1]


def test_rows_that_disagree_leave_the_program_whole() -> None:
    rule = get("adam")()
    program = record(rule, LEAF)
    rows = [rule.replace(weight_decay=decay).scalars(HOST_SCALARS, 2) for decay in (0.0, 0.1)]
    assert "l2" in specialized(program, rows).scalars
    assert "l2" not in specialized(program, rows[:1]).scalars


def test_zero_and_one_add_up_to_one() -> None:
    class Made(Rule, decay="inside"):
        def coefficients(self, math, t):  # type: ignore[no-untyped-def]
            return {"a": 1.0}

        def update(self, xp, p, g, /, weight_decay, a):  # type: ignore[no-untyped-def]
            return (weight_decay + a) * (a * g)

    program = folded(record(Made(), LEAF), ("weight_decay",), ("a",))
    g = np.arange(6.0).reshape(3, 2)
    got = results(program, {"p": np.zeros((3, 2)), "g": g}, {"zero": 0.0, "one": 1.0})
    np.testing.assert_array_equal(got["p"], -g)


def test_a_result_that_would_be_the_gradients_array_stays_a_new_one() -> None:
    class Kept(Rule, decay="l2"):
        def coefficients(self, math, t):  # type: ignore[no-untyped-def]
            return {"lr": self.learning_rate}

        def update(self, xp, p, g, last, /, lr):  # type: ignore[no-untyped-def]
            return lr * g, g

    program, g = record(Kept(), LEAF), np.ones((3, 2))
    got = results(program, {"p": g.copy(), "g": g, "last": g.copy()}, Kept().scalars(HOST_SCALARS, 1))
    assert not np.shares_memory(got["last"], g)


@pytest.mark.parametrize("name", ["dadaptsgd", "dog", "dowg"])
def test_sums_over_the_model_go_over_parameters_with_and_without_decay(name: str) -> None:
    params = {"a": jnp.linspace(0.1, 1, 6), "b": jnp.linspace(1, 2, 4)}
    grads = {"a": params["a"] / 2, "b": (params["b"] / 2).astype(jnp.bfloat16)}  # dtypes apart: a group for each
    walked = {}
    for kernel in ("host", "traced"):
        tx = getattr(adapter, name)(weight_decay=0.1, mask={"a": True, "b": False}, kernel=kernel)
        state, now = tx.init(params), params
        for _ in range(3):
            updates, state = tx.update(grads, state, now)
            now = jax.tree.map(lambda p, u: p + u, now, updates)
        walked[kernel] = now
    for a, b in zip(jax.tree.leaves(walked["host"]), jax.tree.leaves(walked["traced"]), strict=True):
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=1e-6)

"""`scirs2 check` on optax: our transformations pass it whole, and each fault is found."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest

from scirs2_adapters.adapters.jax.argument_names import factory_name

from .check_support import failures, some_of_ours, visible_rate

pytestmark = pytest.mark.usefixtures("frozen_heap")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    some_of_ours(metafunc, 2)


def test_ours_pass_whole_and_walk_as_their_rule(name: str) -> None:
    assert failures(f"scirs2_adapters.jax:{factory_name(name)}", "optax", name, visible_rate(name)) == {}


class Counted(NamedTuple):
    count: jax.Array | int


def grows_a_dtype(learning_rate: float) -> optax.GradientTransformation:
    """Momentum whose state begins as a Python number, and so is another program after the first step; it scales by a
    number of Python's own, which no transformation around it can replace.
    """

    def update(grads: object, state: Counted, params: object = None) -> tuple[object, Counted]:
        return jax.tree.map(lambda g: -learning_rate * g, grads), Counted(jnp.asarray(state.count, "float32") + 1)

    return optax.GradientTransformation(lambda params: Counted(jnp.zeros((), "int32")), update)


def test_faults_are_found() -> None:
    failed = failures(f"{__name__}:grows_a_dtype", "optax")
    assert {"constructor.negative_rate", "running.compiled_once", "transformations.scan", "rates.schedule"} <= set(
        failed
    )

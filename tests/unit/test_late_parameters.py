"""Parameters whose first gradient comes late, where each parameter's steps are counted: they are stepped as first ones
are, and change nothing of how the others are stepped.
"""

from __future__ import annotations

import numpy as np
import pytest

import scirs2_adapters as s2
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.registry import with_value
from tests.conformance.options import brisk

GRADS = np.random.default_rng(4).normal(size=(6, 2, 4, 3))
#: The step at which the late one begins.
LATE = 3
EVERY = [*s2.names(), *with_value()]
OF_MODEL = [n for n in EVERY if s2.get(n)().model_slots()]


def made(name: str, keys: str) -> HostOptimizer:
    rule = s2.get(name)
    return HostOptimizer(rule(**brisk(rule)), {k: np.linspace(-1, 1, 12).reshape(4, 3) for k in keys}, kernel="traced")


def walk(optimizer: HostOptimizer, first: str = "a") -> HostOptimizer:
    """`a` has a gradient from the first step on, and `b` from the step `LATE` on, or from its own first one."""
    for t, (a, b) in enumerate(GRADS):
        gradients = {"a": a} if t < LATE else {"a": a, "b": b}
        gradients = {k: g for k, g in gradients.items() if k in optimizer.params}
        if gradients:
            optimizer.step(gradients, **({"value": 2.0 / (t + 1)} if optimizer.rule.needs_value else {}))
    return optimizer


@pytest.mark.parametrize("name", [n for n in EVERY if n not in OF_MODEL])
def test_a_late_parameter_is_stepped_as_if_it_were_the_first(name: str) -> None:
    together, alone = walk(made(name, "ba")), [walk(made(name, k)) for k in "ab"]
    for key, one in zip("ab", alone, strict=True):
        if not any(n.op == "total" for n in one._entries[key].program.nodes):
            np.testing.assert_array_equal(together.params[key], one.params[key])


@pytest.mark.parametrize("name", OF_MODEL)
def test_what_is_learned_of_all_does_not_depend_on_which_parameter_is_late(name: str) -> None:
    one, two = (walk(made(name, keys)) for keys in ("ab", "ba"))
    assert one.model == pytest.approx(two.model, rel=1e-12)
    for key in "ab":
        np.testing.assert_allclose(one.params[key], two.params[key], rtol=1e-12)

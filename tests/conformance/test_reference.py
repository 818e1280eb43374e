"""Every rule, with options derived from its fields, walks like its slow twin in float64, on the oracle's path.

The other paths are held to the oracle by `test_trajectories`; here the oracle is held to the papers.
"""

from __future__ import annotations

import numpy as np
import pytest

import scirs2_adapters
from scirs2_adapters.core.registry import with_value
from tests.peers.problem import WALK, Record
from tests.reference import reference

from .cells import TOLERANCES
from .drivers.core import Optimizer
from .options import Hyper, losses, option_sets, resolved
from .problem import problem
from .walk import values, walk

CASES = [(name, hyper) for name in (*scirs2_adapters.names(), *with_value()) for hyper in option_sets(name)]


def shown(case: object) -> str:
    """A readable test name."""
    return case if isinstance(case, str) else ",".join(f"{k}={v}" for k, v in case.items()) or "defaults"


def nudged(role: object, x: np.ndarray) -> np.ndarray:
    """Memory that is off by its last bit."""
    del role
    return np.nextafter(x, np.inf)


@pytest.mark.parametrize(("name", "hyper"), CASES, ids=shown)
def test_a_rule_walks_like_its_slow_twin(name: str, hyper: Hyper, record_property: Record) -> None:
    """To 1e-12; where a formula magnifies the last bit of memory, as small differences do, to 4 times that."""
    task = problem("float64")
    twin, options = reference(name), resolved(name, hyper, "float64")
    ours = values(walk(Optimizer(name, hyper, "traced", task), task))
    theirs = values(twin(task.params, task.grads, hyper=options, **losses(name, task)))
    shaken = values(twin(task.params, task.grads, hyper=options, store=nudged, **losses(name, task)))
    file = f"tests/reference/{name}.py"
    assert ours.keys() == theirs.keys(), f"{file} returns other slots than `update`"
    gaps = []
    for key, right in theirs.items():
        size, floor, off = (np.max(np.abs(x), initial=0.0) for x in (right, shaken[key] - right, ours[key] - right))
        assert off <= (bound := max(TOLERANCES["float64"] * size, 4 * floor)), differs(
            file, key, ours[key], right, bound
        )
        gaps.append(float(off / max(size, np.finfo(float).tiny)))
    record_property(WALK, (name, file, max(gaps)))


def differs(file: str, key: str, ours: np.ndarray, right: np.ndarray, bound: float) -> str:
    """Where two walks part, and what is looked at first."""
    off = np.abs(ours - right).reshape(len(right), -1).max(axis=1, initial=0.0)
    step = int(np.argmin(off <= bound)) + 1
    return (
        f"differs from {file} first at step {step}, in {key}, by {off[step - 1]:.2g}. Does `update` return the step to "
        "be subtracted, and not the new parameter, and then the slots in the order of its signature?"
    )

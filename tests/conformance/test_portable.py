"""A run that goes on in one framework after another by way of files walks as one that stays in numpy; and what a
framework has taken from a file it saves again to the bit, so that any of them may follow any other.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scirs2_adapters import get, names, state
from scirs2_adapters.core.portable.convert import differences
from scirs2_adapters.core.portable.state import State, loaded

from .cells import TOLERANCES
from .drivers import driver
from .options import turned
from .problem import FEW, problem
from .walk import Driver

#: Of the adapters: where a run stops over, and on which path.
STOPS = {"torch": "host", "jax": "traced", "tf": "traced", "core": "host"}
EACH = 3


def held(adapter: str, at: Driver) -> object:
    """What `state` takes of a driver."""
    return (at.tx, at.memory) if adapter == "jax" else at.optimizer  # type: ignore[attr-defined]


def loaded_into(adapter: str, at: Driver, path: Path, rename: dict[str, str]) -> state.Report:
    """Load a file, and give JAX's driver its new state."""
    answer = state.load(path, held(adapter, at), rename=rename)
    if adapter != "jax":
        assert isinstance(answer, state.Report)
        return answer
    at.memory, report = answer  # type: ignore[attr-defined, misc]
    return report


@pytest.mark.parametrize("name", names())
def test_a_run_goes_on_in_the_next_framework(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    wanted = str(request.config.getoption("--adapters")).split(",")
    stops = {adapter: path for adapter, path in STOPS.items() if adapter in (*wanted, "core")}
    hyper, task = turned(get(name)), problem("float32", EACH * (1 + len(stops)), names=tuple(sorted(FEW)))
    alone = driver("core").Optimizer(name, hyper, "host", task)
    at: Driver = driver("core").Optimizer(name, hyper, "host", task)
    last, file = "core", tmp_path / "s"
    for i, grads in enumerate(task.grads):
        if i and i % EACH == 0:
            state.save(held(last, at), file)
            last, path = list(stops.items())[i // EACH - 1]
            at = driver(last).Optimizer(name, hyper, path, replace(task, params=at.params()))
            report = loaded_into(last, at, file, {})
            assert [{*report.converted} - {"steps"}, report.missing, report.left_over] == [set(), [], []]
            same_again(held(last, at), file, tmp_path / "again")
        alone.step(grads)
        at.step(grads)
    for x, y in zip(at.params(), alone.params(), strict=True):
        assert np.max(np.abs(x - y), initial=0) <= TOLERANCES["float32"] * max(np.max(np.abs(y), initial=0), 1e-30)


def same_again(optimizer: object, file: Path, again: Path) -> None:
    """What was loaded is saved as it was; of counts, those that both sides know."""
    state.save(optimizer, again)
    with loaded("test", file) as one, loaded("test", again) as other:
        assert list(differences(bare(one), bare(other))) == []
        assert {n: np.float32(x) for n, x in one.numbers.items()} == {
            n: np.float32(x) for n, x in other.numbers.items()
        }
        known = [(one.parameters[n].steps, p.steps) for n, p in other.parameters.items() if p.slots]
        assert [(a, b) for a, b in known if None not in (a, b) and a != b] == []


def bare(saved: State) -> State:
    """The slots alone."""
    slots = {name: replace(p, steps=None) for name, p in saved.parameters.items() if p.slots}
    return replace(saved, parameters=slots, config={}, match=None, step_count=0, numbers={})

"""`HostOptimizer`: its memory out and in, pickles and copies."""

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scirs2_adapters import names
from scirs2_adapters.core import HostOptimizer
from tests.unit.host_support import assert_same, params, walk

each_name = pytest.mark.parametrize("name", names())

COPIES: dict[str, Callable[[HostOptimizer], HostOptimizer]] = {
    "pickle": lambda o: pickle.loads(pickle.dumps(o)),
    "deepcopy": copy.deepcopy,
}


@each_name
@pytest.mark.parametrize("how", COPIES.values(), ids=list(COPIES))
@pytest.mark.parametrize("kernel", ["auto", "traced"])
def test_a_copy_goes_on_bit_for_bit_and_by_itself(name: str, kernel: str, how: Any) -> None:
    mine = walk(HostOptimizer(name, params(), kernel=kernel, threads=1), 3)
    copied = how(mine)
    before = {k: p.copy() for k, p in mine.params.items()}
    walk(copied, 2, first=4)
    assert all(np.array_equal(mine.params[k], p) for k, p in before.items())
    assert_same(copied, walk(mine, 2, first=4))


def test_a_pickle_holds_no_address() -> None:
    kept = walk(HostOptimizer("adamw", params()), 1).__getstate__()
    assert kept.keys() == {"rule", "params", "kernel", "state_dtype", "threads", "layout", "steps", "state", "model"}


@each_name
@pytest.mark.parametrize("state_dtype", [None, "bfloat16"])
def test_saved_memory_goes_on_bit_for_bit(name: str, state_dtype: str | None) -> None:
    mine = walk(HostOptimizer(name, params(), state_dtype=state_dtype), 3)
    saved = mine.state_dict()
    other = HostOptimizer(name, {k: p.copy() for k, p in mine.params.items()}, state_dtype=state_dtype)
    other.load_state_dict(pickle.loads(pickle.dumps(saved)))
    kept = copy.deepcopy(saved)
    assert_same(walk(other, 2, first=4), walk(mine, 2, first=4))
    assert pickle.dumps(saved) == pickle.dumps(kept)


def test_memory_that_is_loaded_replaces_all_that_was_there() -> None:
    mine = walk(HostOptimizer("adamw", params()), 2)
    mine.load_state_dict(HostOptimizer("adamw", params()).state_dict())
    assert mine.state == {}
    assert set(mine.steps.values()) == {0}


SAVED = walk(HostOptimizer("adamw", params()), 1).state_dict()
BAD_SAVED: dict[str, tuple[Any, str]] = {
    "None": (None, "must be what `state_dict` returned"),
    "a list": ([1], "must be what `state_dict` returned"),
    "nothing": ({}, "must be what `state_dict` returned"),
    "a part is missing": ({"rule": "adamw", "state": {}, "steps": {}}, "must be what `state_dict` returned"),
    "another optimizer": ({**SAVED, "rule": "lion"}, "must be of the optimizer adamw. Received: 'lion'"),
    "unknown parameter": ({**SAVED, "state": {"z": {}}}, "saved['state']=...)` is not of this optimizer, which has"),
    "unknown count": ({**SAVED, "steps": {"z": 1}}, "saved['steps']=...)` is not of this optimizer"),
    "unknown number": ({**SAVED, "model": {"d": 1.0}}, "saved['model']=...)` is not of this optimizer"),
    "a slot is missing": ({**SAVED, "state": {"b": {}}}, "saved['state']['b']['exp_avg']=...)` must be an array of"),
    "no slots": ({**SAVED, "state": {"b": 3}}, "must be an array of shape (5,) and dtype float64"),
    "another shape": (
        {**SAVED, "state": {"b": {**SAVED["state"]["b"], "exp_avg_sq": np.ones(4)}}},
        "saved['state']['b']['exp_avg_sq']=...)` must be an array of shape (5,) and dtype float64",
    ),
    "another dtype": (
        {**SAVED, "state": {"b": {k: x.astype("f4") for k, x in SAVED["state"]["b"].items()}}},
        "must be an array of shape (5,) and dtype float64. Received: an array of shape (5,) and dtype float32",
    ),
    "a count of words": ({**SAVED, "steps": {"b": "three"}}, "saved['steps']['b']=...)` must be a whole number >= 0"),
    "a negative count": ({**SAVED, "steps": {"b": -1}}, "must be a whole number >= 0. Received: -1"),
}


@pytest.mark.parametrize("kind", BAD_SAVED)
def test_memory_that_does_not_fit_is_refused_and_changes_nothing(kind: str) -> None:
    given, words = BAD_SAVED[kind]
    mine, untouched = (walk(HostOptimizer("adamw", params()), 2) for _ in range(2))
    with pytest.raises((TypeError, ValueError), match=re.escape(words)) as caught:
        mine.load_state_dict(given)
    assert "`HostOptimizer.load_state_dict(" in str(caught.value)
    assert_same(mine, untouched)

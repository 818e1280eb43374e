"""`HostOptimizer`: its memory out and in, pickles and copies."""

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scirs2_adapters import get, names
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


def test_a_pickle_names_the_public_module_and_one_of_version_0_1_loads() -> None:
    mine = walk(HostOptimizer("adamw", params()), 2)
    pickled = pickle.dumps(mine, protocol=0)
    assert b"cscirs2_adapters.core\nHostOptimizer" in pickled
    assert b"numpy_optimizer" not in pickled
    old = pickled.replace(b"cscirs2_adapters.core\nHost", b"cscirs2_adapters.core.execute.optimizer\nHost")
    assert_same(pickle.loads(old), mine)


def test_a_pickle_holds_no_address() -> None:
    kept = walk(HostOptimizer("adamw", params()), 1).__getstate__()
    options = {"kernel", "state_dtype", "threads", "layout", "skip_nonfinite", "rounding", "learning_rate", "groups"}
    assert kept.keys() == {"rule", "params", "steps", "state", "model", "skipped_steps", "step_count"} | options


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
    "a later version": ({**SAVED, "format_version": 2}, "saved['format_version']=...)` must be at most 1"),
    "unknown parameter": ({**SAVED, "state": {"z": {}}}, "saved only: 'z'. Received: '4 saved, 3 here'. Use `strict="),
    "unknown count": ({**SAVED, "steps": {**SAVED["steps"], "y": 1, "x": 2}}, "saved only: 'x', 'y'. Received"),
    "missing parameters": (
        {**SAVED, "steps": {"b": 1}, "state": {}},
        "must be of parameters of these names, shapes and dtypes: here only: 't', 'w'. Received: '1 saved, 3 here'",
    ),
    "no slots": ({**SAVED, "state": {"b": 3}}, "state['b']: must be a dict of arrays by slot, and is int"),
    "a slot of words": ({**SAVED, "state": {"b": {"exp_avg": "x"}}}, "'exp_avg' must be float64 (5,), and is str"),
    "another shape": (
        {**SAVED, "state": {"b": {**SAVED["state"]["b"], "exp_avg_sq": np.ones(4)}}},
        "state['b']: 'exp_avg_sq' must be float64 (5,), and is float64 (4,)",
    ),
    "another dtype": (
        {**SAVED, "state": {"b": {k: x.astype("f4") for k, x in SAVED["state"]["b"].items()}}},
        "'exp_avg' must be float64 (5,), and is float32 (5,); 'exp_avg_sq' must be float64 (5,), and is float32 (5,)",
    ),
    "a count of words": ({**SAVED, "steps": {"b": "three"}}, "saved['steps']['b']=...)` must be a whole number >= 0"),
    "a negative count": ({**SAVED, "steps": {"b": -1}}, "must be a whole number >= 0. Received: -1"),
}


@pytest.mark.parametrize("kind", BAD_SAVED)
def test_memory_that_does_not_fit_is_refused_and_changes_nothing(kind: str) -> None:
    saved, words = BAD_SAVED[kind]
    mine, untouched = (walk(HostOptimizer("adamw", params()), 2) for _ in range(2))
    with pytest.raises((TypeError, ValueError), match=re.escape(words)) as caught:
        mine.load_state_dict(saved)
    assert "`HostOptimizer.load_state_dict(" in str(caught.value)
    assert_same(mine, untouched)


@each_name
def test_saved_memory_says_what_it_is_in_plain_numbers(name: str) -> None:
    saved = walk(HostOptimizer(name, params()), 2).state_dict()
    assert saved["format_version"] == 1
    assert (saved["rule"], saved["match"], saved["skipped_steps"]) == (name, None, 0)
    assert saved["state"].keys() == saved["steps"].keys() == {"w", "b", "t"}
    assert {type(t) for t in saved["steps"].values()} == {int}
    assert {type(x) for x in saved["model"].values()} <= {float}


@each_name
def test_a_dict_without_version_loads(name: str) -> None:
    mine = walk(HostOptimizer(name, params()), 3)
    saved = {k: v for k, v in mine.state_dict().items() if k in ("rule", "steps", "state", "model")}
    other = HostOptimizer(name, {k: p.copy() for k, p in mine.params.items()})
    other.load_state_dict(saved)
    assert_same(walk(other, 2, first=4), walk(mine, 2, first=4))


@each_name
@pytest.mark.parametrize("kernel", ["host", "traced"])
def test_what_is_not_the_rules_travels_along(name: str, kernel: str) -> None:
    mine, plain = (walk(HostOptimizer(name, params(), kernel=kernel), 2) for _ in range(2))
    for key in mine.params:
        mine.state[key]["ema"] = np.ones(7)
    other = HostOptimizer(name, {k: p.copy() for k, p in mine.params.items()}, kernel=kernel)
    other.load_state_dict(mine.state_dict() | {"note": "of the user"})
    walk(other, 1, first=3)
    walk(plain, 1, first=3)
    for key, p in plain.params.items():
        np.testing.assert_array_equal(p, other.params[key])
        assert other.state[key].pop("ema").tolist() == [1.0] * 7
    assert_same(other, plain)


@each_name
def test_a_slot_that_is_not_there_begins_as_at_a_first_step(name: str) -> None:
    saved = walk(HostOptimizer(name, params()), 2).state_dict()
    first = HostOptimizer(name, params())
    for key, slots in saved["state"].items():
        for slot in list(slots):
            partial = {**saved, "state": {key: {n: x for n, x in slots.items() if n != slot}}}
            other = HostOptimizer(name, params())
            other.load_state_dict(partial)
            np.testing.assert_array_equal(other.state[key][slot], first.fresh(key)[slot])


def test_what_fits_of_another_model_is_taken_over_when_asked() -> None:
    saved = walk(HostOptimizer("adamw", params()), 2).state_dict()
    mine = HostOptimizer("adamw", {"w": np.ones((4, 3)), "b": np.ones(6), "new": np.ones(2)})
    with pytest.raises(ValueError, match=r"saved only: 't'; here only: 'new'; state\['b'\]: 'exp_avg' must be float64"):
        mine.load_state_dict(saved)
    mine.load_state_dict(saved, strict=False)
    assert mine.steps == {"w": 2, "b": 0, "new": 0}
    assert mine.state.keys() == {"w"}
    np.testing.assert_array_equal(mine.state["w"]["exp_avg"], saved["state"]["w"]["exp_avg"])


@each_name
def test_memory_of_another_meaning_is_refused_and_any_other_is_taken(name: str) -> None:
    made = get(name)
    hyper = {k: v for k, v in {"momentum": 0.9, "amsgrad": True}.items() if k in made().fields}
    rule = made(**hyper, weight_decay=0.0)
    mine = HostOptimizer(rule, params())
    mine.step(params(1))
    for match in getattr(rule, "base", rule).matches:
        other = HostOptimizer(rule.replace(match=match), params())
        other.step(params(1))
        slots = mine.state["w"].keys() & other.state["w"].keys()
        pairs = [(mine.state["w"][n], other.state["w"][n]) for n in slots]
        if all(x.shape == y.shape and np.allclose(x, y, rtol=1e-6) for x, y in pairs):
            mine.load_state_dict(other.state_dict())
            continue
        with pytest.raises(
            ValueError, match="must be None, as here: the memory of the two formulas differs in meaning"
        ):
            mine.load_state_dict(other.state_dict())


def test_numpys_numbers_come_in_as_pythons() -> None:
    saved = walk(HostOptimizer("prodigy", params()), 1).state_dict()
    saved["steps"] = {k: np.int64(t) for k, t in saved["steps"].items()}
    saved["model"] = {k: np.float64(x) for k, x in saved["model"].items()}
    mine = HostOptimizer("prodigy", params())
    mine.load_state_dict(saved)
    assert {type(t) for t in mine.steps.values()} == {int}
    assert {type(x) for x in mine.model.values()} == {float}

"""`HostOptimizer`: what it accepts and refuses, and changes between steps."""

import copy
import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from scirs2_adapters import get, names
from scirs2_adapters.core import SGD, Adam, AdamW, HostOptimizer, Lion, Lookahead, Muon, Rule
from scirs2_adapters.core import numpy_rules as module
from tests.unit.host_support import assert_same, params, walk

each_name = pytest.mark.parametrize("name", names())
each_path = pytest.mark.parametrize("kernel", ["host", "traced"])
BAD_PARAMS: dict[str, tuple[Any, type[Exception], str]] = {
    "no arrays": ([], ValueError, "HostOptimizer(params=...)` must hold at least one array"),
    "no keys": ({}, ValueError, "must hold at least one array"),
    "an array": (np.ones(3), TypeError, "HostOptimizer(params=...)` must be a dict or list of numpy arrays"),
    "a generator": ((x for x in [np.ones(3)]), TypeError, "must be a dict or list"),
    "None": (None, TypeError, "must be a dict or list of numpy arrays. Received: None (NoneType)"),
    "a list": ([[1.0]], TypeError, "HostOptimizer(params[0]=...)` must be a numpy array of dtype float64, float32"),
    "a number": ({"a": 1.0}, TypeError, "HostOptimizer(params['a']=...)` must be a numpy array"),
    "integers": ([np.ones(3, int)], TypeError, "Received: an array of shape (3,) and dtype int64"),
    "booleans": ([np.ones(3, bool)], TypeError, "dtype bool"),
    "complex": ([np.ones(3, complex)], TypeError, "dtype complex128"),
    "objects": ([np.ones(3, object)], TypeError, "dtype object"),
    "long doubles": ([np.ones(3, np.longdouble)], TypeError, "must be a numpy array of dtype float64"),
    "other bytes": ([np.ones(3, ">f4")], TypeError, "in this machine's byte order"),
    "read-only": ([np.broadcast_to(1.0, 3)], ValueError, "must be writeable, for it is updated in place"),
}


@pytest.mark.parametrize("kind", BAD_PARAMS)
def test_bad_parameters_are_refused(kind: str) -> None:
    refused, error, words = BAD_PARAMS[kind]
    with pytest.raises(error, match=re.escape(words)):
        HostOptimizer("adamw", refused)


def test_arrays_that_share_memory_are_refused() -> None:
    whole = np.ones((4, 4))
    for pair in ([whole, whole], [whole, whole[1:2]], [whole.T, whole[0]], [whole, np.ones(2), whole[3, 3:]]):
        with pytest.raises(ValueError, match=r"must not share memory with params\[\d\].*Give each array once"):
            HostOptimizer("sgd", pair)
    HostOptimizer("sgd", [whole[:, ::2], whole[:, 1::2]])


BAD_GRADS: dict[str, tuple[Any, type[Exception], str]] = {
    "an array": (np.ones(3), TypeError, "must be a dict or list of numpy arrays"),
    "another shape": ({"b": np.ones(4)}, ValueError, "step(grads['b']=...)` must have the parameter's shape (5,)"),
    "a broadcast": ({"b": np.ones(1)}, ValueError, "Received: an array of shape (1,) and dtype float64"),
    "an unknown key": ({"z": np.ones(5)}, ValueError, "step(grads['z']=...)` has no parameter; there are ['b', "),
    "a position": ([np.ones(5)], ValueError, "step(grads[0]=...)` has no parameter"),
    "integers": ({"b": np.ones(5, int)}, TypeError, "must be a floating numpy array"),
    "a list": ({"b": [1.0] * 5}, TypeError, "must be a floating numpy array"),
    "other bytes": ({"b": np.ones(5, ">f8")}, TypeError, "in this machine's byte order"),
}


@each_path
@pytest.mark.parametrize("kind", BAD_GRADS)
def test_bad_gradients_are_refused_and_change_nothing(kind: str, kernel: str) -> None:
    grads, error, words = BAD_GRADS[kind]
    mine, untouched = (walk(HostOptimizer("adamw", params(), kernel=kernel), 2) for _ in range(2))
    if isinstance(grads, dict):
        grads = {"w": np.ones((4, 3)), **grads}
    with pytest.raises(error, match=re.escape(words)):
        mine.step(grads)
    assert_same(mine, untouched)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"rule": AdamW}, TypeError, "HostOptimizer(rule=...)` must be a rule such as AdamW(), or its name"),
        ({"rule": None}, TypeError, "Received: None (NoneType)"),
        ({"rule": "adamm"}, ValueError, "No optimizer is named `adamm`. Did you mean `adam`?"),
        ({"kernel": "hots"}, ValueError, 'HostOptimizer(kernel=...)` must be "auto", "host" or "traced"'),
        ({"state_dtype": "int4"}, ValueError, "HostOptimizer(state_dtype=...)` must be None, one of"),
        ({"state_dtype": {"exp": "float32"}}, ValueError, "none of ['exp_avg', 'exp_avg_sq', 'max_exp_avg_sq']"),
        ({"learning_rate": "fast"}, TypeError, "must be a finite number >= 0, a function of the step count or None"),
        ({"threads": 0}, ValueError, "HostOptimizer(threads=...)` must be a whole number >= 1 or None"),
        ({"threads": "2"}, TypeError, "Received: '2' (str)"),
        ({"threads": True}, TypeError, "must be a whole number >= 1 or None"),
    ],
    ids=lambda x: str(x)[:30],
)
def test_bad_options_are_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=re.escape(words)):
        HostOptimizer(**{"rule": "adamw", "params": params(), **options})


def test_a_host_kernel_that_cannot_run_is_an_error_or_plain_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "kernel_obstacle", lambda dtypes: "it rains")
    with pytest.raises(ValueError, match=r'cannot be the host kernel here: it rains.*Use kernel="traced" or "auto"'):
        HostOptimizer("adamw", params(), kernel="host")
    assert_same(
        walk(HostOptimizer("adamw", params(), kernel="auto"), 2),
        walk(HostOptimizer("adamw", params(), kernel="traced"), 2),
    )


@each_path
@each_name
def test_no_gradient_leaves_parameter_memory_and_count_alone(name: str, kernel: str) -> None:
    mine = walk(HostOptimizer(name, params(), kernel=kernel), 2)
    before = copy.deepcopy(mine)
    mine.step({})
    mine.step({"w": None, "b": None})
    assert_same(mine, before)
    mine.step({"w": np.ones((4, 3)), "b": None})
    assert mine.steps == {"w": 3, "b": 2, "t": 2}
    np.testing.assert_array_equal(mine.params["b"], before.params["b"])
    for slot, x in mine.state["b"].items():
        np.testing.assert_array_equal(x, before.state["b"][slot])


def test_each_parameter_counts_its_own_steps() -> None:
    late, alone = HostOptimizer("adam", params()), HostOptimizer("adam", {"b": params()["b"]})
    late.step({"w": np.ones((4, 3))})
    for each in (late, alone):
        each.step({"b": np.ones(5)})
    np.testing.assert_array_equal(late.params["b"], alone.params["b"])


def test_numpys_scalars_are_gradients_of_arrays_without_axes() -> None:
    p = np.array(1.0)
    HostOptimizer(SGD(learning_rate=0.5), [p]).step([np.array(2.0) * 1.0])
    assert p == 0.0


@each_path
@each_name
def test_the_gradient_may_be_the_parameter_itself(name: str, kernel: str) -> None:
    mine, other = params(), params()
    HostOptimizer(name, mine, kernel=kernel).step(mine)
    HostOptimizer(name, other, kernel=kernel).step(params())
    for key, p in mine.items():
        np.testing.assert_array_equal(p, other[key])


@each_path
@each_name
def test_gradients_are_never_changed(name: str, kernel: str) -> None:
    grads = params(1)
    HostOptimizer(name, params(), kernel=kernel).step(grads)
    assert all(np.array_equal(g, params(1)[k]) for k, g in grads.items())


@each_path
def test_a_changed_rate_holds_from_the_next_step_on(kernel: str) -> None:
    mine = walk(HostOptimizer(Adam(), params(), kernel=kernel), 2)
    before = {k: p.copy() for k, p in mine.params.items()}
    mine.replace(learning_rate=0.0)
    walk(mine, 1)
    assert all(np.array_equal(mine.params[k], p) for k, p in before.items())
    assert mine.rule == Adam(learning_rate=0.0)


@each_path
@pytest.mark.parametrize(
    ("rule", "change", "slots"),
    [
        (SGD(), {"momentum": 0.9}, {"momentum_buffer"}),
        (SGD(momentum=0.9), {"momentum": 0.0}, set()),
        (AdamW(), {"amsgrad": True}, {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}),
        (Muon(), {"route_all": True}, {"exp_avg", "exp_avg_sq"}),
        (Lookahead("sgd"), {"base": Lion()}, {"exp_avg", "slow"}),
    ],
    ids=["momentum", "no momentum", "amsgrad", "route", "base"],
)
def test_a_change_that_asks_for_other_memory_gets_it(rule: Rule, change: Any, slots: set[str], kernel: str) -> None:
    mine = walk(HostOptimizer(rule, params(), kernel=kernel), 2)
    mine.replace(**change)
    walk(mine, 1)
    assert set(mine.state["w"]) == slots
    assert all(np.isfinite(p).all() for p in mine.params.values())


def test_a_bad_change_is_refused_and_changes_nothing() -> None:
    mine, untouched = (walk(HostOptimizer("adamw", params()), 2) for _ in range(2))
    for change, error in (({"beta1": 1.5}, ValueError), ({"lr": 0.1}, TypeError)):
        with pytest.raises(error, match="AdamW"):
            mine.replace(**change)
    assert_same(walk(mine, 1), walk(untouched, 1))
    assert mine.rule == AdamW()


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
@each_path
def test_sixteen_bit_parameters_move_and_keep_their_dtype(dtype: Any, kernel: str) -> None:
    narrow = {k: p.astype(dtype) for k, p in params().items()}
    before = {k: p.copy() for k, p in narrow.items()}
    mine = HostOptimizer(AdamW(learning_rate=0.1), narrow, kernel=kernel, state_dtype="float32")
    mine.step({k: p.astype(dtype) for k, p in params(1).items()})
    assert all(p.dtype == np.dtype(dtype) and not np.array_equal(p, before[k]) for k, p in narrow.items())
    assert {x.dtype.name for slots in mine.state.values() for x in slots.values()} == {"float32"}


def test_every_rule_of_the_registry_is_a_rule_for_the_host() -> None:
    assert all(HostOptimizer(get(name)(), params(), kernel="host").kernel == "host" for name in names())

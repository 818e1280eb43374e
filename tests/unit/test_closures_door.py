"""Optimizers that evaluate the model are rules of a kind: found by name, and refused where there is no closure."""

import pickle
from typing import Any

import numpy as np
import pytest

from scirs2_adapters.core import LBFGS, SAM, AdamW, ClosureOptimizer, HostOptimizer, Lookahead, get, names, with_closure


def test_they_are_found_by_name_and_listed_apart() -> None:
    assert with_closure() == ("lbfgs", "sam")
    assert not set(with_closure()) & set(names())
    assert (get("lbfgs"), get("SAM")) == (LBFGS, SAM)
    assert all(get(name).needs_closure for name in with_closure())
    assert not any(get(name).needs_closure for name in names())


@pytest.mark.parametrize("rule", [LBFGS(), SAM(radius=0.1, momentum=0.9)], ids=str)
def test_they_are_values_like_other_rules(rule: Any) -> None:
    assert pickle.loads(pickle.dumps(rule)) == rule == type(rule)(**rule.get_config())
    assert rule.replace(learning_rate=0.5).learning_rate == 0.5
    assert hash(rule) == hash(rule.replace())


@pytest.mark.parametrize("name", with_closure())
def test_a_gradient_alone_is_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(TypeError, match=r"evaluates the model .* `scirs2_adapters\.torch\.\w+`.*`step\(closure\)`"):
        HostOptimizer(name, [np.ones(2)])


@pytest.mark.parametrize("base", ["lbfgs", LBFGS(), "sam"], ids=str)
def test_a_wrapper_takes_none_of_them_as_base(base: Any) -> None:
    for wrapper in (SAM, Lookahead):
        with pytest.raises(TypeError, match=r"base=\.\.\.\)` must be .* that needs no closure"):
            wrapper(base)


@pytest.mark.parametrize("closure", [None, [np.ones(2)], 3.0], ids=str)
def test_a_step_without_a_closure_is_refused_with_the_way_out(closure: Any) -> None:
    for rule in (LBFGS(), SAM()):
        words = r"`ClosureOptimizer.step\(closure=...\)` must be a function .* Write `optimizer.step\(closure\)`"
        with pytest.raises(TypeError, match=words):
            ClosureOptimizer(rule, [np.ones(2)]).step(closure)


def test_other_rules_are_sent_to_the_other_optimizer() -> None:
    with pytest.raises(TypeError, match="Use HostOptimizer"):
        ClosureOptimizer(AdamW(), [np.ones(2)])


def test_memory_of_another_optimizer_is_refused() -> None:
    saved = ClosureOptimizer("sam", [np.ones(2)]).state_dict()
    with pytest.raises(ValueError, match="must be of the optimizer lbfgs"):
        ClosureOptimizer("lbfgs", [np.ones(2)]).load_state_dict(saved)


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_iter", 0), ("max_eval", 0), ("history_size", 0), ("tolerance_grad", -1.0), ("line_search_fn", "armijo")],
)
def test_values_out_of_range_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"`LBFGS\({field}=...\)` must be "):
        LBFGS(**{field: value})

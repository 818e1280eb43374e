"""Groups of parameters under the rules that sum over the whole model: what may differ gives the same numbers whatever
group is the first one, and what may not is refused by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import scirs2_adapters as s2
from scirs2_adapters.core import HostOptimizer, Rule
from scirs2_adapters.core.groups import sums, unlike
from scirs2_adapters.core.registry import with_value
from tests.conformance.options import brisk, other

RULES = [n for n in (*s2.names(), *with_value()) if sums(s2.get(n)())]
#: What numbers of the model are computed from besides sums. Formulas must be the same, too.
LEARNED = {
    "dadaptadamw": {"beta2", "d0", "growth_rate"},
    "dadaptlion": {"beta2", "d0", "growth_rate"},
    "dadaptsgd": {"d0", "growth_rate"},
    "dog": {"init_step_value"},
    "dowg": {"init_estim_sq_dist"},
    "mechanize": {"mechanic_decay", "mechanic_eps", "s_init"},
    "momo": {"momentum", "lower_bound"},
    "momoadam": {"beta1", "lower_bound"},
    "polyaksgd": set(),
    "prodigy": {"beta2", "beta3", "d0", "d_coef", "growth_rate"},
}
GRADS = np.random.default_rng(3).normal(size=(5, 2, 3, 2))


def fields_of(name: str) -> list[str]:
    rule = s2.get(name)
    return [k for k, f in rule.fields_with().items() if _fits(rule, {k: other(f)})]


def _fits(rule: type[Rule], hyper: dict[str, Any]) -> bool:
    try:
        rule(**{**brisk(rule), **hyper})
    except ValueError:  # two fields that do not go together
        return False
    return True


def walk(name: str, usual: str, hyper: dict[str, Any], changed: dict[str, Any]) -> tuple[np.ndarray, list[float]]:
    """The parameters and the numbers of the model after some steps; `usual` names the parameter of the first group."""
    rule, start = s2.get(name), {"a": np.full((3, 2), 0.5), "b": np.full((3, 2), -0.7)}
    params = {k: start[k] for k in sorted(start, reverse=usual == "b")}
    (last,) = params.keys() - {usual}
    made = HostOptimizer(rule(**hyper), params, kernel="traced", groups=[{"params": [last], **changed}])
    for t, (a, b) in enumerate(GRADS):
        made.step({"a": a, "b": b}, **({"value": 3.0 / (t + 1)} if rule.needs_value else {}))
    return np.stack([params["a"], params["b"]]), [made.model[k] for k in sorted(made.model)]


@pytest.mark.parametrize("name", RULES)
def test_groups_may_differ_in_all_that_is_not_learned_with(name: str) -> None:
    refused, rule = set(), s2.get(name)
    for field in fields_of(name):
        usual, value = {**brisk(rule), **_beside(name, field)}, other(rule.fields_with()[field])
        usual.setdefault(field, rule.fields_with()[field].default)
        value = value if value != usual[field] else rule.fields_with()[field].default
        try:
            walked = walk(name, "a", usual, {field: value})
        except ValueError as error:
            assert f"({field}=...)` must be {usual[field]!r} as in the first group" in str(error)  # noqa: PT017
            refused.add(field)
        else:
            swapped = walk(name, "b", usual | {field: value}, {field: usual[field]})
            for one, two in zip(walked, swapped, strict=True):
                np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-14, err_msg=field)
    formula = {k for k in fields_of(name) if rule.fields_with()[k].static}
    assert refused == LEARNED[name] | formula


def _beside(name: str, field: str) -> dict[str, Any]:
    """What lets a field show."""
    return {"weight_decay": 0.1} if field in ("cautious_decay", "peak_rate") else {}


def test_what_is_learned_with_a_decay_is_learned_with_one_decay() -> None:
    rule = s2.get("momo")
    for adapts in (False, True):
        one, two = (rule(weight_decay=x, adapt_lower_bound=adapts) for x in (0.0, 0.1))
        assert unlike(one, two) == ("weight_decay" if adapts else "")


def test_fields_that_matter_together_are_told_from_each_other() -> None:
    rule = s2.get("dowg")
    assert unlike(rule(eps=1e-3, init_estim_sq_dist=1e-3), rule(eps=1e-3, init_estim_sq_dist=None)) == ""
    assert unlike(rule(eps=1e-3), rule(eps=1e-2, init_estim_sq_dist=None)) in ("init_estim_sq_dist", "eps")


FROZEN: list[tuple[str, dict[str, Any]]]
FROZEN = [(n, {}) for n in RULES if hasattr(s2.get(n), "freezes")] + [("prodigy", {"safeguard_warmup": True})]


@pytest.mark.parametrize(("name", "options"), FROZEN, ids=[f"{n}-{''.join(o)}" for n, o in FROZEN])
def test_a_group_that_stands_still_changes_nothing_of_what_is_learned(name: str, options: dict[str, Any]) -> None:
    """As in the authors' packages, which allow groups of a learning rate of 0."""
    rule = s2.get(name)(**brisk(s2.get(name)), weight_decay=0.1, **options)
    alone, both = {"a": np.ones((3, 2))}, {"a": np.ones((3, 2)), "b": np.ones((3, 2))}
    one = HostOptimizer(rule, alone, kernel="traced")
    two = HostOptimizer(rule, both, kernel="traced", groups=[{"params": ["b"], "learning_rate": 0.0}])
    for a, b in GRADS:
        one.step({"a": a})
        two.step({"a": a, "b": b})
    np.testing.assert_allclose(alone["a"], both["a"], rtol=1e-13)
    assert one.model == pytest.approx(two.model, rel=1e-13)
    np.testing.assert_array_equal(both["b"], np.ones((3, 2)))


@pytest.mark.parametrize(("name", "options"), FROZEN, ids=[f"{n}-{''.join(o)}" for n, o in FROZEN])
def test_a_step_of_rate_zero_changes_nothing(name: str, options: dict[str, Any]) -> None:
    params = {"a": np.ones((3, 2))}
    made = HostOptimizer(s2.get(name)(**brisk(s2.get(name)), **options), params, kernel="traced")
    for a, _ in GRADS:
        made.step({"a": a})
    before = made.state_dict(), params["a"].copy()
    made.replace(learning_rate=0.0)
    made.step({"a": GRADS[0][1]})
    np.testing.assert_array_equal(params["a"], before[1])
    assert made.model == before[0]["model"]
    for slot, x in before[0]["state"]["a"].items():
        np.testing.assert_array_equal(made.state["a"][slot], x)

"""Rules are values: configuration, copies, equality, text; and what is refused when one is made."""

import copy
import inspect
import json
import pickle
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from scirs2_adapters import get, names
from scirs2_adapters.core import SGD, Adam, AdamW, HostOptimizer, Lion, Lookahead, Muon, Rule, with_closure
from scirs2_adapters.core.fields import fraction
from scirs2_adapters.core.matrix import LAST_AXES
from scirs2_adapters.core.ops import HOST_SCALARS
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf, slot
from tests.conformance.options import brisk

each_rule = pytest.mark.parametrize("rule", [get(name)() for name in names()], ids=names())


@each_rule
def test_a_configuration_makes_an_equal_rule(rule: Rule) -> None:
    again = type(rule)(**rule.get_config())
    assert again == rule
    assert hash(again) == hash(rule)
    assert again.get_config() == rule.get_config()


@each_rule
@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_a_copy_is_an_equal_rule(rule: Rule, how: Any) -> None:
    changed = rule.replace(learning_rate=0.123, maximize=True)
    assert how(changed) == changed != rule
    assert type(how(changed)) is type(rule)


@each_rule
def test_the_text_of_a_rule_is_its_call(rule: Rule) -> None:
    known = {get(name).__name__: get(name) for name in names()}
    assert eval(repr(rule), {**known, "inf": float("inf")}) == rule


@each_rule
@pytest.mark.parametrize("match", ["torch", "optax", "keras"])
def test_the_match_is_part_of_the_value(rule: Rule, match: str) -> None:
    if match not in getattr(rule, "base", rule).matches:
        with pytest.raises(ValueError, match=re.escape(f"Received: '{match}'.")):
            type(rule)(match=match)
        return
    matched = type(rule)(match=match)
    assert matched != rule
    assert pickle.loads(pickle.dumps(matched)) == matched
    assert matched.replace(learning_rate=0.5).match == match
    assert f"match={match!r}" in repr(matched)


@each_rule
def test_replace_changes_one_value_and_nothing_else(rule: Rule) -> None:
    changed = rule.replace(learning_rate=0.5)
    assert changed.get_config() == {**rule.get_config(), "learning_rate": 0.5}
    assert rule == type(rule)()


@each_rule
def test_parameters_are_set_on_a_copy(rule: Rule) -> None:
    held = {rule: "here"}
    changed = rule.set_params(learning_rate=0.25)
    assert changed == rule.replace(learning_rate=0.25) != rule
    assert changed.get_params()["learning_rate"] == 0.25
    with pytest.raises(ValueError, match="weight_decay"):
        rule.set_params(learning_rate=0.5, weight_decay=-1.0)
    assert rule == type(rule)()
    assert held[rule] == held[type(rule)()] == "here"


EVERY_RULE = [get(name)() for name in (*names(), *with_closure())]
AS_NUMPY: dict[str, Any] = {
    "scalars": lambda x: np.asarray(x)[()],
    "arrays without axes": np.asarray,
    "arrays of one": lambda x: np.asarray([x]),
    "smaller scalars": lambda x: (
        np.float32(x) if isinstance(x, float) and x == float(np.float32(x)) else np.asarray(x)[()]
    ),
}


@pytest.mark.parametrize("rule", EVERY_RULE, ids=lambda r: r.name)
@pytest.mark.parametrize("kind", AS_NUMPY)
def test_numpys_numbers_are_kept_as_pythons(rule: Rule, kind: str) -> None:
    def as_numpy(value: Any) -> Any:
        if isinstance(value, tuple):
            return np.asarray(value) if kind.startswith("arrays") else [AS_NUMPY[kind](x) for x in value]
        return value if value is None or isinstance(value, str) else AS_NUMPY[kind](value)

    config = {k: v for k, v in rule.get_config().items() if k != "base"}
    base = {"base": rule.base.name} if hasattr(rule, "base") else {}
    again = type(rule)(**base, **{k: as_numpy(v) for k, v in config.items()})
    assert again == rule
    assert hash(again) == hash(rule)
    assert repr(again) == repr(rule)
    assert json.dumps(again.get_config()) == json.dumps(rule.get_config())
    assert [type(v) for v in again.get_config().values()] == [type(v) for v in rule.get_config().values()]
    assert type(rule)(**json.loads(json.dumps(rule.get_config()))) == rule
    assert clone(again) == rule


@each_rule
def test_a_rule_cannot_be_assigned_to(rule: Rule) -> None:
    with pytest.raises(AttributeError, match=r"Use `rule\.replace\(learning_rate=1\)`"):
        rule.learning_rate = 1
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del rule.learning_rate
    assert rule == type(rule)()


@each_rule
def test_an_unknown_argument_is_refused_with_a_guess(rule: Rule) -> None:
    with pytest.raises(TypeError, match=r"has no argument `lerning_rate`\. Did you mean `learning_rate`\?"):
        type(rule)(lerning_rate=1)


@each_rule
def test_the_signature_holds_every_field_with_its_default(rule: Rule) -> None:
    parameters = inspect.signature(type(rule)).parameters
    assert all(parameters[name].default == field.default for name, field in type(rule).fields.items())


@each_rule
def test_every_default_is_a_value_that_its_field_accepts(rule: Rule) -> None:
    for name, field in type(rule).fields.items():
        assert field.check("", name, field.default) is field.default


def test_a_class_with_a_default_out_of_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`Bad\(momentum=\.\.\.\)` must be in \[0, 1\)\. Received: 1\.5\."):

        class Bad(Rule):
            momentum = fraction(1.5, "decay rate")


@each_rule
def test_two_variants_that_differ_in_a_number_share_a_program(rule: Rule) -> None:
    assert rule.replace(learning_rate=0.7).kernel_key() == rule.kernel_key()
    assert rule.replace(maximize=True).kernel_key() != rule.kernel_key()


def test_positional_arguments_are_the_fields_in_their_order() -> None:
    assert AdamW(0.5, 0.8) == AdamW(learning_rate=0.5, beta1=0.8)
    assert Lookahead("sgd", 3) == Lookahead(base="sgd", sync_period=3)


@pytest.mark.parametrize("cls", [Lion, Lookahead])
def test_too_many_or_doubled_arguments_are_refused(cls: type[Rule]) -> None:
    with pytest.raises(TypeError, match="takes at most"):
        cls(*["adamw"] * (cls is Lookahead), *[0.5] * 20)
    first = next(iter(cls.fields))
    with pytest.raises(TypeError, match=re.escape(f"`{cls.__name__}({first}=...)` was given twice")):
        cls(*["adamw"] * (cls is Lookahead), 1, **{first: 1})


@pytest.mark.parametrize("match", ["jax", ["torch"], 3, ""], ids=str)
def test_a_framework_without_this_optimizer_cannot_be_matched(match: Any) -> None:
    with pytest.raises(ValueError, match=re.escape("`Adam(match=...)` must be None or one of the frameworks that")):
        Adam(match=match)


class Drift(Rule):
    """A rule made in a script, which no name leads to; it refuses a pair of values."""

    def check(self, spell: Any, call: str) -> None:
        if self.learning_rate == 0 and self.weight_decay:
            raise ValueError(f"{call}({spell('weight_decay')}=...) does nothing without a learning rate")

    def coefficients(self, math: Any, t: Any) -> dict[str, Any]:
        return {"lr": self.learning_rate}

    def update(self, xp, p, g, /, lr):  # type: ignore[no-untyped-def]
        return lr * xp.sign(g)


def test_a_rule_can_refuse_values_that_do_not_go_together() -> None:
    with pytest.raises(ValueError, match=r"Drift\(weight_decay=...\) does nothing"):
        Drift(learning_rate=0.0, weight_decay=0.1)
    mine = Drift(weight_decay=0.1)
    with pytest.raises(ValueError, match="does nothing"):
        mine.set_params(learning_rate=0.0)
    assert mine == Drift(weight_decay=0.1)


def test_a_rule_with_a_list_can_be_hashed() -> None:
    assert Muon(ns_coefficients=[1.0, 2.0, 3.0]) == Muon(ns_coefficients=(1.0, 2.0, 3.0))
    assert hash(Muon(ns_coefficients=[1.0, 2.0, 3.0])) == hash(Muon(ns_coefficients=(1.0, 2.0, 3.0)))


def test_rules_of_different_classes_are_different() -> None:
    assert Adam(weight_decay=0.0) != AdamW(weight_decay=0.0)
    assert AdamW() != "adamw"
    assert len({AdamW(), AdamW(), AdamW(beta1=0.5)}) == 2


@given(st.floats(0, 1, exclude_max=True), st.floats(1e-30, 1e30), st.booleans())
def test_any_configuration_survives_a_pickle(beta: float, rate: float, maximize: bool) -> None:
    rule = Lion(learning_rate=rate, beta1=beta, maximize=maximize)
    assert pickle.loads(pickle.dumps(rule)) == rule


@pytest.mark.parametrize("base", ["sgd", Lion(learning_rate=0.5), Lion, Drift(), Drift])
def test_a_wrapper_takes_a_name_a_class_or_a_rule(base: Any) -> None:
    rule = Lookahead(base, sync_period=2)
    for again in (pickle.loads(pickle.dumps(rule)), rule.replace(), type(rule)(**rule.get_config())):
        assert again == rule
        assert type(again.base) is type(rule.base)


@pytest.mark.parametrize("base", [Lookahead, Lookahead(), "lookahead", 3, object, ""])
def test_a_wrapper_refuses_another_wrapper_and_anything_else(base: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="optimizer"):
        Lookahead(base)


def test_a_wrapper_has_the_hyperparameters_of_its_base() -> None:
    rule = Lookahead("sgd", momentum=0.5)
    assert rule.momentum == rule.base.momentum == 0.5
    assert rule.replace(momentum=0.7).base == SGD(momentum=0.7)
    assert rule.replace(base="lion") == Lookahead("lion")
    with pytest.raises(TypeError, match="has no argument `rho`"):
        Lookahead("sgd", rho=0.5)


@each_rule
def test_slots_have_shapes_that_belong_to_the_parameter(rule: Rule) -> None:
    for shape in ((), (3,), (2, 3), (4, 2, 3)):
        leaf = Leaf(shape)
        view = rule.route(leaf).view(leaf)
        matrix = view or LAST_AXES
        sides = [(side, side) for side in matrix.sides(shape)] if len(shape) > 1 else []
        sides += [(side, matrix.rank) for side in matrix.sides(shape)] if matrix.rank else []
        sides += [(sum(shape),)] if len(shape) > 1 else []
        sides += [(side, 1) for side in view.sides(shape)] if view else []
        for s in rule.route(leaf).slots(leaf):
            assert s.shape(shape) in (shape, (), (*shape[:-1], 1), (*shape[:-2], 1, *shape[-1:]), *sides)


@each_rule
def test_scalars_are_plain_numbers_at_every_step(rule: Rule) -> None:
    for t in (1, 2, 1000, 10**6):
        values = rule.scalars(HOST_SCALARS, t)
        numbers = {k: v for k, v in values.items() if not isinstance(v, (str, tuple, type(None)))}
        assert all(isinstance(v, (int, float)) for v in numbers.values())


def test_a_rule_can_be_used_by_name_or_by_value() -> None:
    assert HostOptimizer("AdamW", [np.ones(3)]).rule == HostOptimizer(AdamW(), [np.ones(3)]).rule == AdamW()


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_rule_that_16_bits_would_never_start_says_so(name: str, dtype: str) -> None:
    """Such a rule learns something of the whole model from how far parameters have moved; its first steps must show."""
    cls, leaf = get(name), Leaf((3,), dtype)
    rules = [cls(), cls(**brisk(cls))]
    assert [rule.refuses(leaf) is not None for rule in rules] == [bool(cls().model_slots()), False]
    assert all(rule.refuses(Leaf((3,))) is None for rule in rules)
    if reason := rules[0].refuses(leaf):
        with pytest.raises(ValueError, match=f"must have float32 parameters.*Received: '{dtype}'"):
            record(rules[0], leaf)
        assert "at least" in reason


def test_a_misspelt_trait_match_or_first_value_is_refused() -> None:
    """Nothing would read it, and the optimizer would be another one without a word."""

    def update(self, xp, p, g, buffer: slot(initial="initial_acc"), /, learning_rate):  # type: ignore[no-untyped-def]
        return learning_rate * g, buffer + g

    with pytest.raises(TypeError, match=r"modulus.*must be a trait"):
        type("Wrong", (Rule,), {}, modulus=True)
    with pytest.raises(TypeError, match=r"epsilon.*must be a field or trait"):
        type("Wrong", (Rule,), {"matches": {"optax": {"epsilon": 1e-3}}})
    with pytest.raises(TypeError, match=r"initial_acc.*must be a field"):
        type("Wrong", (Rule,), {"update": update})

"""What the class of a rule says and nothing would read is refused when it is made, or when its formula is recorded; the
message names it and the way out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from scirs2_adapters import get, names
from scirs2_adapters.core import Rule
from scirs2_adapters.core.fields import fraction, nonnegative, positive
from scirs2_adapters.core.formulas import adam_coefficients
from scirs2_adapters.core.match import CONVENTIONS, OptaxState
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf, Slot, scalar, slot
from tests.boundaries.support import ROOT

#: Traits with a closed list of values.
TRAITS = {k: get_args(v) for k, v in get_type_hints(Rule).items() if str(get_origin(v)) == "typing.Literal"}
GUIDE = (ROOT / "docs/adding-an-optimizer.md").read_text()


def plain(self, xp, p, g, exp_avg, /, learning_rate):  # type: ignore[no-untyped-def]
    return learning_rate * g, exp_avg + g


def made(traits: dict[str, Any] | None = None, **members: Any) -> type[Rule]:
    """A class with one slot, two fields of its own and a constant."""
    defaults = {"eps": positive(1e-3, "eps"), "first": nonnegative(0.0, "first"), "by_name": True, "update": plain}
    none = {"coefficients": lambda self, math, t: {}}
    return type("Made", (Rule,), defaults | none | members, **(traits or {}))


def annotated(mark: object) -> Callable[..., Any]:
    """The formula, whose slot has this annotation."""

    def update(self, xp, p, g, exp_avg, /, learning_rate):  # type: ignore[no-untyped-def]
        return learning_rate * g, exp_avg + g

    update.__annotations__["exp_avg"] = mark
    return update


@pytest.mark.parametrize("trait", TRAITS)
@pytest.mark.parametrize("where", ["class line", "class body", "row"])
@pytest.mark.parametrize("wrong", ["L2", 1, 0, "", None], ids=repr)
def test_a_trait_has_the_values_that_it_lists(trait: str, where: str, wrong: Any) -> None:
    if wrong is None and None in TRAITS[trait]:
        return
    places = {"class line": ({trait: wrong}, {}), "class body": ({}, {trait: wrong})}
    traits, members = places.get(where, ({}, {"matches": {"optax": {trait: wrong}}}))
    with pytest.raises(ValueError, match=rf"{trait}.*must be one of .*{TRAITS[trait][0]!r}.*Received: {wrong!r}\."):
        made(traits, **members)


@pytest.mark.parametrize(("trait", "value"), [(k, v) for k, values in TRAITS.items() for v in values])
def test_every_listed_value_is_taken(trait: str, value: Any) -> None:
    assert getattr(made({trait: value}), trait) == value
    assert getattr(made(matches={"torch": {trait: value}})(match="torch"), trait) == value


@pytest.mark.parametrize("trait", [*TRAITS, "first_step"])
def test_the_guide_lists_every_trait_with_its_values(trait: str) -> None:
    if trait == "needs_closure":  # of algorithms, which are no formulas
        return
    (row,) = (line for line in GUIDE.splitlines() if line.startswith(f"| `{trait}` |"))
    assert all(f"{value!r}".replace("'", '"') in row for value in TRAITS.get(trait, ()) if isinstance(value, str))


def test_a_value_that_is_misspelt_is_guessed() -> None:
    with pytest.raises(ValueError, match=r"Did you mean `l2`\?"):
        made({"decay": "L2"})


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "framework": ({"matches": {"jax": {}}}, r"`Made\.matches` names 'jax'.* There are: torch, optax, keras\."),
    "misspelt framework": ({"matches": {"kears": {}}}, r"Did you mean `keras`\?"),
    "no dict": ({"matches": ["optax"]}, r'`Made\(matches=\.\.\.\)` must be a dict of rows, as \{"optax": \{\}\}'),
    "no row": ({"matches": {"optax": None}}, r'`Made\.matches\["optax"\]` must be a dict'),
    "row with a method": ({"matches": {"optax": {"explain": 1}}}, r'matches\["optax"\]` names \'explain\''),
    "row with a misspelt field": ({"matches": {"optax": {"epsilon": 1e-3}}}, r"'epsilon'.*Did you mean `eps`\?"),
    "row with a value out of range": (
        {"matches": {"optax": {"eps": -1.0}}},
        r'\["optax"\]\["eps"\]` must be a number > 0',
    ),
    "row with a constant of another type": (
        {"matches": {"optax": {"by_name": "x"}}},
        r'\["by_name"\]` must be of type bool',
    ),
    "row with a number for a flag": ({"matches": {"optax": {"by_name": 2}}}, r'\["by_name"\]` must be of type bool'),
    "row with what is computed": (
        {"matches": {"optax": {"decay": "l2"}}, "decay": property(lambda self: "l2")},
        "'decay', which must be a field or trait of the rule that it does not compute",
    ),
    "field lost": ({"learning_rate": 1e-4}, r"`Made\(learning_rate=\.\.\.\)` must be declared by a kind of field"),
    "first step": ({"first_step": "d_0"}, "first_step.*must be one of"),
    "annotation": ({"update": annotated("first")}, r"`Made\.update\(exp_avg: \.\.\.\)` must have an annotation from"),
    "annotation of an array": (
        {"update": annotated(float)},
        r"`Made\.update\(exp_avg: \.\.\.\)` must have an annotation",
    ),
    "presence by a number": (
        {"update": annotated(slot("first"))},
        r"exp_avg.*'first', which must be a field with structural",
    ),
    "presence by nothing": (
        {"update": annotated(slot("amsgrad"))},
        r"`Made\.update\(exp_avg: \.\.\.\)` names 'amsgrad'",
    ),
    "first value": ({"update": annotated(slot(initial="frist"))}, r"`Made\.update\(exp_avg: .*Did you mean `first`\?"),
    "first value of no number": (
        {"update": annotated(Slot(initial=(1,)))},
        "must have a number or the name of a field",
    ),
    "first value of a flag": (
        {"update": annotated(slot(initial="maximize"))},
        "names 'maximize'.*first value, a number",
    ),
    "first value not finite": ({"update": annotated(slot(initial=float("nan")))}, "must have a finite number.*nan"),
    "first value below 0": (
        {"update": annotated(slot(initial=-1.0, block_dtype="uint8"))},
        r"`initial` of at least 0.*Received: -1\.0.*Leave `block_dtype",
    ),
    "several numbers in a list": (
        {"betas": [0.9, 0.99]},
        r"`Made\(betas=\.\.\.\)` must not be several numbers.*Declare",
    ),
    "several numbers in a tuple": ({"betas": (0.9, 0.99)}, "must not be several numbers"),
    "no slash": ({"update": lambda self, xp, p, g, exp_avg, lr: g}, r"`Made\.update` must have a `/` in its signature"),
    "optax state": ({"optax_state": "ScaleByAdamState"}, r"`Made\.optax_state` must be an `OptaxState`"),
    "slot of an optax state": (
        {"optax_state": OptaxState("ScaleByAdamState", {"mu": "exp_av"})},
        r"`Made\.optax_state\.fields` names 'exp_av', which must be a slot of the rule.* Did you mean `exp_avg`",
    ),
    "condition of an optax state": (
        {"optax_state": OptaxState("S", {}, unless=("lr",))},
        r"optax_state\.unless` names 'lr'",
    ),
    "decay of an optax state": ({"optax_state": OptaxState("S", {}, "later")}, r"optax_state\.decays` must be one of"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_nothing_would_read_is_refused_when_the_class_is_made(case: str) -> None:
    members, message = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        made(**members)
    assert "  " not in str(caught.value)


@pytest.mark.parametrize("name", ["learning_rate", "modulus", "explain", "eps"])
def test_the_class_line_takes_traits_alone(name: str) -> None:
    with pytest.raises(
        TypeError, match=rf"`class Made\(\.\.\., {name}=\.\.\.\)` names '{name}', which must be a trait"
    ):
        made({name: 0.1})


@pytest.mark.parametrize("framework", CONVENTIONS)
def test_a_row_may_be_of_every_framework(framework: str) -> None:
    row = {"eps": 0.5, "by_name": False, "decay": "l2"}
    rule = made(matches={framework: row})(match=framework)
    assert {k: getattr(rule, k) for k in row} == row


@pytest.mark.parametrize("initial", [1e-6, 1, 0.0, "first", "eps"])
def test_a_slot_may_begin_with_a_number_or_a_field(initial: Any) -> None:
    rule = made(update=annotated(slot(initial=initial)))()
    (declared,) = rule.slots(Leaf((3, 2)))
    assert declared.initial_value(rule) == (initial if not isinstance(initial, str) else getattr(rule, initial))
    assert made(update=annotated(scalar(1.0)))().all_slots()[0].initial_value(rule) == 1.0


NEEDED = {adam_coefficients: ("beta1", "beta2", "eps", "eps_root")}


@pytest.mark.parametrize(("shared", "field"), [(f, k) for f, needed in NEEDED.items() for k in needed])
def test_a_field_that_a_shared_formula_needs_is_named(shared: Callable[..., Any], field: str) -> None:
    has = {k: fraction(0.5, k) for k in NEEDED[shared] if k != field}
    cls = type("Made", (Rule,), {"coefficients": shared, "update": plain, **has})
    with pytest.raises(TypeError, match=rf"`{shared.__name__}` needs `{field}`: a field of `Made`, .*`{field} = 0\.0`"):
        record(cls(), Leaf((3, 2)))


@pytest.mark.parametrize("returned", [None, 1.0, ["gain"]], ids=repr)
def test_coefficients_return_a_dict(returned: Any) -> None:
    rule = made(coefficients=lambda self, math, t: returned)()
    with pytest.raises(
        TypeError, match=rf"must return a dict of numbers by name\. Received: {re.escape(repr(returned))}"
    ):
        record(rule, Leaf((3, 2)))


def test_a_coefficient_is_a_number() -> None:
    rule = made(coefficients=lambda self, math, t: {"learning_rate": None})()
    with pytest.raises(TypeError, match="takes a coefficient `learning_rate`, which must be a number"):
        record(rule, Leaf((3, 2)))


@pytest.mark.parametrize("name", names())
def test_a_class_of_another_name_than_its_file_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from scirs2_adapters.core import registry

    monkeypatch.setattr(get(name), "name", "other")
    with pytest.raises(ValueError, match=f"must define a class named `{name}`, in any capitalization"):
        registry.rule_in(get(name).__module__)

"""Formulas as programs: what may stand in one, what becomes of it, and what is refused by name."""

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from scirs2_adapters import get, names
from scirs2_adapters.core import Rule
from scirs2_adapters.core.ops import FORMULA_NAMES, HOST_SCALARS
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.program.recorder import Recorder
from scirs2_adapters.core.program.refusals import _WRITTEN
from scirs2_adapters.core.slots import COPY, Extent, Leaf, column, model, row, slot
from scirs2_adapters.core.step.reference import NUMPY

LEAF = Leaf((3, 2))
each_name = pytest.mark.parametrize("name", names())


def rule(update: Any, **members: Any) -> Rule:
    """A rule with this formula; its learning rate is `lr`."""
    members.setdefault("coefficients", lambda self, xp, t: {"lr": self.learning_rate})
    made: Rule = type("Made", (Rule,), {"update": update, **members})()
    return made


def plain(self, xp, p, g, /, lr):  # type: ignore[no-untyped-def]
    return lr * g


LITERALS = {
    "add": lambda self, xp, p, g, /: g + 1,
    "mul": lambda self, xp, p, g, /: 0.5 * g,
    "sub": lambda self, xp, p, g, /: 1 - g,
    "div": lambda self, xp, p, g, /: g / 2.0,
    "gt": lambda self, xp, p, g, /: xp.where(g > 0, g, p),
    "maximum": lambda self, xp, p, g, /: xp.maximum(g, 0.0),
    "where": lambda self, xp, p, g, /: xp.where(g > p, g, 0.0),
}


@pytest.mark.parametrize("op", LITERALS)
def test_a_literal_is_refused_by_the_operation_and_its_value(op: str) -> None:
    with pytest.raises(TypeError, match=rf"A formula's `{op}` was given the literal [0-9.]+: literals belong in"):
        record(rule(LITERALS[op]), LEAF)


@pytest.mark.parametrize(
    "update",
    [
        lambda self, xp, p, g, /: g if g > p else p,
        lambda self, xp, p, g, /: g and p,
        lambda self, xp, p, g, /: max(g, p),
    ],
    ids=["if", "and", "max"],
)
def test_a_branch_on_an_array_is_refused(update: Any) -> None:
    with pytest.raises(TypeError, match=r"A formula cannot branch on an array: use `xp\.where`"):
        record(rule(update), LEAF)


def test_a_name_outside_the_operations_is_not_there() -> None:
    with pytest.raises(AttributeError, match="cosh"):
        record(rule(lambda self, xp, p, g, /: xp.cosh(g)), LEAF)


def test_the_recorder_offers_the_formula_names() -> None:
    assert all(hasattr(Recorder(), name) for name in FORMULA_NAMES)


def test_slots_are_read_from_the_signature() -> None:
    def update(  # type: ignore[no-untyped-def]
        self, xp, p, g, a, b: slot("maximize"), c: row(), d: column(), e: COPY, f: model("learning_rate"), /, lr
    ):
        return lr * g, a, b, c, d, e, f

    made = rule(update)
    declared = {s.name: (s.extent, s.initial) for s in made.all_slots()}
    assert declared == {
        "a": (Extent.FULL, None),
        "b": (Extent.FULL, None),
        "c": (Extent.ROW, None),
        "d": (Extent.COLUMN, None),
        "e": (Extent.FULL, "parameter"),
        "f": (Extent.MODEL, "learning_rate"),
    }
    assert [s.name for s in made.slots(LEAF)] == ["a", "c", "d", "e", "f"]
    assert [s.name for s in made.replace(maximize=True).slots(LEAF)] == ["a", "b", "c", "d", "e", "f"]
    assert [s.name for s in made.model_slots()] == ["f"]
    assert {s.name: s.shape((4, 3, 2)) for s in made.all_slots()} == {
        "a": (4, 3, 2), "b": (4, 3, 2), "c": (4, 3, 1), "d": (4, 1, 2), "e": (4, 3, 2), "f": (),
    }  # fmt: skip


def test_a_formula_that_forgets_a_slot_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"`Made\.update` must return the step, then a new value for each slot: m, as one tuple"
    ):
        record(rule(lambda self, xp, p, g, m, /: g), LEAF)


@pytest.mark.parametrize(
    ("update", "levels"),
    [
        (lambda self, xp, p, g, /: g * g, 0),
        (lambda self, xp, p, g, /: g / xp.norm(g), 1),
        (lambda self, xp, p, g, /: g * xp.mean(g, -1) * xp.mean(g, -2), 1),
        (lambda self, xp, p, g, /: g / xp.norm(g / xp.norm(g)), 2),
        (lambda self, xp, p, g, /: g * xp.total(g * xp.total(p)), 2),
        (lambda self, xp, p, g, /: xp.matrix(lambda xp, x: xp.matmul(x, xp.transpose(x)), g), 1),
    ],
    ids=["elementwise", "norm", "means", "norm of norm", "total of total", "matrix"],
)
def test_every_round_of_reductions_is_a_level(update: Any, levels: int) -> None:
    assert record(rule(update), LEAF).levels == levels


def test_a_mean_of_rows_has_no_level_of_its_own() -> None:
    made = rule(lambda self, xp, p, g, /: g * xp.mean(xp.mean(g, -1), -2))
    assert record(made, LEAF).levels == 1


def test_equal_operations_are_one() -> None:
    program = record(rule(lambda self, xp, p, g, /: xp.sqrt(g * g) + xp.sqrt(g * g)), LEAF)
    assert [n.op for n in program.nodes].count("sqrt") == 1


@each_name
def test_a_program_is_recorded_once_for_each_variant(name: str) -> None:
    made = get(name)()
    routed = made.route(LEAF)
    assert record(routed, LEAF) is record(routed.replace(learning_rate=0.7), Leaf((5, 4)))


@each_name
def test_a_program_has_no_constant_and_its_scalars_are_the_rules(name: str) -> None:
    routed = get(name)().route(LEAF)
    program = record(routed, LEAF)
    known = {**routed.scalars(HOST_SCALARS, 1), **routed.leaf_coefficients(LEAF)}
    assert set(program.scalars) <= set(known)
    assert {n.op for n in program.nodes} <= {
        *FORMULA_NAMES, "input", "scalar", "sum", "add", "sub", "mul", "div", "neg", "gt", "ge", "lt", "le"
    }  # fmt: skip
    assert all(arg < i for i, node in enumerate(program.nodes) for arg in node.args)


@each_name
def test_equal_texts_are_equal_programs(name: str) -> None:
    routed = get(name)().route(LEAF)
    program, mirrored = record(routed, LEAF), record(routed.replace(maximize=True), LEAF)
    assert program.digest == record(routed, Leaf((9, 9))).digest != mirrored.digest


def test_the_change_of_a_parameter_is_an_output_of_its_own() -> None:
    from scirs2_adapters.core.program.interpret import run

    program = record(rule(plain), LEAF)
    p, g = np.full((3, 2), 5.0), np.ones((3, 2))
    done = run(program, NUMPY, [{"p": p, "g": g}], [{"lr": 0.5, "decay": 0.1}], ["p", "delta"])[0]
    np.testing.assert_allclose(done["delta"], np.full((3, 2), -1.0))
    np.testing.assert_allclose(done["p"], p + done["delta"])


def test_the_error_of_a_rule_without_coefficients_says_so() -> None:
    bare: Rule = type("Bare", (Rule,), {"update": plain})()
    with pytest.raises(TypeError, match=re.escape("`Bare(coefficients=...)` must be defined by the rule")):
        bare.scalars(HOST_SCALARS, 1)


def summed(self, xp, p, g, mean, /, gain):  # type: ignore[no-untyped-def]
    return xp.sign(mean), mean + gain * (g - mean)


REFUSED: dict[str, tuple[Any, str]] = {
    "unknown operation": (lambda self, xp, p, g, /: xp.exp(g), r"`Made\.update` uses `xp\.exp`\. .*`xp\.sqrt`"),
    "function of numbers": (
        lambda self, xp, p, g, /: math.exp(1) * g,  # type: ignore[name-defined]  # noqa: F821
        r"uses `math`\. Write it in `coefficients`",
    ),
    "coefficient that is not taken": (
        lambda self, xp, p, g, /: one * g,  # type: ignore[name-defined]  # noqa: F821
        r"Take it after the `/` of the signature",
    ),
    "misspelled operation": (lambda self, xp, p, g, /: xp.maximun(g, p), r"Did you mean `maximum`\?"),
    "unknown coefficient": (
        lambda self, xp, p, g, /, laerning_rate: g * laerning_rate,
        r"`laerning_rate`, which `coefficients` does not return\. Did you mean `learning_rate`\? .*There are: .*lr",
    ),
    "power": (lambda self, xp, p, g, /: g**2, r"raises to a power\. Write `g \* g`"),
    "number": (lambda self, xp, p, g, /: float(g), "makes a number of an array"),
    "element": (lambda self, xp, p, g, /: g[0], "looks at elements of an array"),
    "numpy": (lambda self, xp, p, g, /: np.exp(g), "calls a function of numpy"),
    "numpy number": (lambda self, xp, p, g, /: np.float64(2) * g, "calls a function of numpy"),
    "known function": (lambda self, xp, p, g, /: xp.square(g), r"uses `xp\.square`\. Write `g \* g`"),
    "function of numpy": (lambda self, xp, p, g, /: np.clip(g, 0, 1), r"numpy, `clip`\. Write `xp\.minimum\(xp\.max"),
    "function of torch": (lambda self, xp, p, g, /: torch.sqrt(g), r"of torch, `sqrt`\. Write `xp\.sqrt`\."),
    "method of torch": (lambda self, xp, p, g, /: torch.clamp(g, min=0.0), r"of torch, `clamp`\. Write `xp\.minimum"),
    "list for torch": (lambda self, xp, p, g, /: torch.stack([p, g]), "calls a function of torch, `stack`"),
    "function of jax": (
        lambda self, xp, p, g, /: jnp.sqrt(g),
        r"`Made\.update` calls a function of jax\. A formula may use",
    ),
    "comparison": (
        lambda self, xp, p, g, /: g if g > 0 else p,
        r"Take `zero`, which has this value, after the `/` .*cannot branch on an array: write `xp\.where\(g > zero",
    ),
    "field of self": (
        lambda self, xp, p, g, /: g * self.learning_rate,
        "Take `learning_rate` or `lr`, which has this value, after the `/`",
    ),
    "slot behind the slash": (
        lambda self, xp, p, g, /, exp_avg: g,
        r"`exp_avg`, which .* slot would stand before the `/`",
    ),
    "list": (lambda self, xp, p, g, m, /: [g, m], r"for each slot: m, as one tuple\. Received: \[g, m\]"),
    "attribute": (lambda self, xp, p, g, /: g.shape, r"uses `\.shape` of an array"),
    "equality": (lambda self, xp, p, g, /: xp.where(g == p, g, p), "asks whether arrays are equal"),
    "axis": (lambda self, xp, p, g, /: g / xp.mean(g, 2), "takes a mean over the axis 2"),
    "nothing": (lambda self, xp, p, g, /: None, r"must return the step.*it has none\. Received: None\."),
    "slot that is lost": (lambda self, xp, p, g, m, /: (g, None), r"a new value for the slot `m`\. Received: None\."),
    "slot that stays": (
        lambda self, xp, p, g, m, /: (g, m),
        r"slot `m`\. Received: the old one, so it would never change",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_formula_must_not_do_is_refused_with_a_way_out(case: str) -> None:
    update, message = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        record(rule(update), LEAF)
    assert "  " not in str(caught.value)


@pytest.mark.parametrize("name", sorted(_WRITTEN))
def test_a_known_function_is_told_what_to_write_and_no_other(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"uses `xp\.{name}`\. Write ") as caught:
        record(rule(lambda self, xp, p, g, /: getattr(xp, name)(g)), LEAF)
    assert "Did you mean" not in str(caught.value)


def test_a_symbol_shows_the_formula_that_leads_to_it() -> None:
    shown: list[str] = []

    def update(self, xp, p, g, /, lr):  # type: ignore[no-untyped-def]
        shown.append(f"{lr * -(g - p) / xp.norm(g)}")
        return g

    record(rule(update), LEAF)
    assert shown == ["lr * -(g - p) / sqrt(sum(g * g))"]


def test_a_rule_explains_itself_by_its_formula_memory_and_passes() -> None:
    made = rule(summed, coefficients=lambda self, math, t: {"gain": 0.5})
    lines = [line.strip() for line in made.explain().splitlines()]
    new_mean, new_p = "new_mean = mean + gain * (g - mean)", "p = p - (decay * p + sign(mean))"
    assert lines[1:5] == [new_mean, new_p, "mean = new_mean", "slots:"]
    assert "mean: full, float32, first 0.0" in lines
    assert "1: reads 12 and writes 8 bytes a parameter" in lines
    assert "gain = 0.5" in lines


@pytest.mark.parametrize("name", [*names(), "lbfgs", "sam"])
def test_every_class_explains_itself_with_its_defaults(name: str) -> None:
    assert get(name).explain() == get(name)().explain()

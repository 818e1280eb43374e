"""Fields: which values pass, and the words for those that do not."""

import math
import re
from collections import UserList
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scirs2_adapters.core import fields
from scirs2_adapters.core.errors import ArgumentTypeError, ArgumentValueError
from scirs2_adapters.core.fields import Field, members_of

INF, NAN = math.inf, math.nan

#: field, values that pass, values out of range, values of a wrong type
CASES: dict[str, tuple[Field, list[Any], list[Any], list[Any]]] = {
    "rate": (fields.rate(0.1), [0, 0.0, 1, 1e300, np.float32(0.5)], [-1e-9, INF, -INF, NAN], ["1", None, True, 1j]),
    "fraction": (fields.fraction(0.9, ""), [0, 0.5, 1 - 1e-16], [1, 1.5, -0.1, NAN], ["0.9", None, [0.9], False]),
    "optional": (fields.fraction(None, ""), [None, 0.5], [1.0, NAN], ["none", {}]),
    "positive": (fields.positive(1.0, ""), [1e-300, INF], [0, -1, NAN], [None, ()]),
    "nonpositive": (fields.nonpositive(-1.0, ""), [-1e300, 0, -0.0], [1e-9, INF, -INF, NAN], [None, "0"]),
    "finite": (fields.finite(0.0, ""), [-1e300, 0, 5], [INF, -INF, NAN], [None, "0"]),
    "flag": (fields.flag(False, ""), [True, False], [], [0, 1, "yes", None, np.float32(1)]),
    "count": (fields.count(5, ""), [1, 10**9, np.int64(3)], [0, -1], [1.0, True, None, "5"]),
    "choice": (fields.choice("a", "", "a", "b"), ["a", "b"], ["c", "A", ""], [None, 1]),
    "numbers": (
        fields.numbers_tuple((1.0, 2.0), ""),
        [(1, 2.5), [0.0, -1]],
        [(1,), (1, 2, 3), (1, "2"), (NAN, 1), (True, 1)],
        [None, 1.0, "12"],
    ),
}
ROWS = {kind: list(zip(("pass", "range", "type"), row[1:], strict=True)) for kind, row in CASES.items()}


def cases(wanted: str) -> list[Any]:
    return [
        pytest.param(CASES[kind][0], value, id=f"{kind}-{value!r}")
        for kind, groups in ROWS.items()
        for group, values in groups
        if group == wanted
        for value in values
    ]


@pytest.mark.parametrize(("field", "value"), cases("pass"))
def test_a_good_value_passes_and_a_scalar_of_numpy_becomes_a_number_of_python(field: Field, value: Any) -> None:
    passed = field.check("Lion", "beta1", value)
    assert not isinstance(passed, np.generic)
    assert passed is value or (passed == tuple(value) if isinstance(value, list) else passed == value)
    assert not isinstance(passed, list)


@pytest.mark.parametrize("pair", [(0.5, 0.9), [0.5, 0.9], np.array([0.5, 0.9]), UserList([0.5, 0.9])], ids=repr)
def test_any_sequence_has_members(pair: Any) -> None:
    members = members_of(pair, 2)
    assert members == (0.5, 0.9)
    assert all(type(x) is float for x in members)


@pytest.mark.parametrize("other", ["ab", {0.5, 0.9}, (0.5,), 0.5, None, np.zeros((2, 2))[:1], np.array(0.5)], ids=repr)
def test_anything_else_has_none(other: Any) -> None:
    assert members_of(other, 2) is None


@pytest.mark.parametrize(("field", "value"), cases("range"))
def test_a_value_out_of_range_is_a_value_error(field: Field, value: Any) -> None:
    with pytest.raises(ArgumentValueError, match=re.escape(f"`Lion(beta1=...)` {field.worded}. Received: ")):
        field.check("Lion", "beta1", value)


@pytest.mark.parametrize(("field", "value"), cases("type"))
def test_a_value_of_a_wrong_type_is_a_type_error_that_shows_it(field: Field, value: Any) -> None:
    words = f"`Lion(beta1=...)` {field.worded}. Received: {value!r} ({type(value).__name__})."
    with pytest.raises(ArgumentTypeError, match=re.escape(words)):
        field.check("Lion", "beta1", value)


class Traced:
    """An array of a framework, inside a trace: it has a shape and no value."""

    shape, dtype = (), "float32"

    def __float__(self) -> float:
        raise AssertionError("a traced value was looked at")

    __bool__ = __le__ = __ge__ = __lt__ = __gt__ = __float__


@pytest.mark.parametrize(
    "field", [fields.rate(0.1), fields.fraction(0.9, ""), fields.count(3, "")], ids=["rate", "fraction", "count"]
)
def test_a_traced_value_passes_unseen(field: Field) -> None:
    value = Traced()
    assert field.check("Lion", "beta1", value) is value


def test_what_a_variant_depends_on_cannot_be_traced() -> None:
    for field in (fields.flag(False, ""), fields.count(3, "", static=True), fields.choice("a", "", "a")):
        with pytest.raises(ArgumentTypeError):
            field.check("Muon", "ns_steps", Traced())


def test_numpys_arrays_of_one_number_are_checked_like_numbers() -> None:
    field, good = fields.rate(0.1), np.array(0.5)
    assert type(field.check("Lion", "learning_rate", good)) is float
    assert field.check("Lion", "learning_rate", good) == 0.5
    with pytest.raises(ArgumentValueError):
        field.check("Lion", "learning_rate", np.array(-1.0))
    for bad in (np.array("fast"), np.ones(2), np.float32, np.dtype("float32")):
        with pytest.raises(ArgumentTypeError):
            field.check("Lion", "learning_rate", bad)


@pytest.mark.parametrize(
    ("value", "present"), [(0, False), (0.0, False), (False, False), (0.5, True), (True, True), (Traced(), True)]
)
def test_a_structural_value_asks_for_its_slot_unless_it_is_nothing(value: Any, present: bool) -> None:
    assert fields.fraction(0.0, "", structural=True).present(value) is present


@given(st.floats())
def test_a_fraction_is_what_lies_between_zero_and_one(value: float) -> None:
    try:
        fields.fraction(0.9, "").check("Lion", "beta1", value)
    except ArgumentValueError:
        assert not 0 <= value < 1
    else:
        assert 0 <= value < 1

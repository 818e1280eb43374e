"""The options that all adapters share: dtypes of memory, and which path runs."""

from typing import Any

import pytest

from scirs2_adapters import get, names
from scirs2_adapters.core import AdamW, Lookahead
from scirs2_adapters.core.slots import Extent, Leaf
from scirs2_adapters.core.step.options import STATE_DTYPES, check_path, check_state_dtype, slot_dtype, takes_host

FLOATS = [dtype for dtype in STATE_DTYPES if dtype != "int8"]
SLOTS = AdamW().all_slots()


@pytest.mark.parametrize("value", [None, *STATE_DTYPES, {}, {"exp_avg": "bfloat16"}, {"rounding_error": "int16"}])
def test_a_good_dtype_of_memory_passes(value: Any) -> None:
    check_state_dtype("AdamW", value, SLOTS)


@pytest.mark.parametrize("value", ["int4", "float", "", {"exp_avg": "int4"}, {"exp_avg": None}, {"exp_avg": 32}])
def test_an_unknown_dtype_of_memory_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"`AdamW\(state_dtype=...\)` must be None, one of 'float64', 'float32'"):
        check_state_dtype("AdamW", value, SLOTS)


@pytest.mark.parametrize("value", [32, ["float32"], float, object()])
def test_a_dtype_of_memory_of_a_wrong_type_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"`AdamW\(state_dtype=...\)` must be None, one of"):
        check_state_dtype("AdamW", value, SLOTS)


def test_an_unknown_slot_is_refused_with_a_guess() -> None:
    with pytest.raises(ValueError, match=r"Received: 'exp_avgs'. Did you mean `exp_avg`\?"):
        check_state_dtype("AdamW", {"exp_avgs": "float32"}, SLOTS)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("asked", [None, *FLOATS])
@pytest.mark.parametrize("parameter", FLOATS)
def test_a_slot_is_stored_as_asked_or_as_its_parameter(name: str, asked: str | None, parameter: str) -> None:
    for slot in get(name)().all_slots():
        wide = slot.extent <= Extent.TENSOR or slot.extent is Extent.SIDE or slot.accurate
        special = wide or slot.initial == "parameter"
        if not special:
            assert slot_dtype(slot, Leaf((), parameter), asked) == (asked or parameter)


@pytest.mark.parametrize("name", names())
def test_eight_bits_are_for_what_they_can_hold(name: str) -> None:
    slots = get(name)().all_slots()
    check_state_dtype(name, "int8", slots)
    for slot in slots:
        for parameter, wide in (("float64", "float64"), ("bfloat16", "float32")):
            assert slot_dtype(slot, Leaf((4095,), parameter), {slot.name: "int8"}) == wide
            stored = slot_dtype(slot, Leaf((4096,), parameter), {slot.name: "int8"})
            assert stored == (slot.block_dtype if slot.may_be_blocks else wide)


def test_single_numbers_are_never_rounded_to_sixteen_bits() -> None:
    slots = [s for name in names() for s in get(name)().all_slots() if s.extent <= Extent.TENSOR]
    assert {s.extent.name for s in slots} == {"MODEL", "TENSOR"}
    assert {slot_dtype(s, Leaf((), "bfloat16"), "bfloat16") for s in slots} == {"float32"}
    assert {slot_dtype(s, Leaf((), "float64"), "bfloat16") for s in slots} == {"float64"}


def test_a_copy_of_the_parameter_keeps_its_dtype_unless_asked_by_name() -> None:
    slow = Lookahead().all_slots()[-1]
    assert slot_dtype(slow, Leaf((), "float32"), "bfloat16") == "float32"
    assert slot_dtype(slow, Leaf((), "float32"), {"slow": "bfloat16"}) == "bfloat16"


@pytest.mark.parametrize("kernel", ["Host", "gpu", "", None, 1, True])
def test_an_unknown_path_is_refused(kernel: Any) -> None:
    with pytest.raises(ValueError, match=r'`AdamW\(kernel=...\)` must be "auto", "host" or "traced". Received:'):
        check_path("AdamW", kernel)


@pytest.mark.parametrize(
    ("kernel", "reason", "host"),
    [
        ("auto", None, True),
        ("auto", "it rains", False),
        ("host", None, True),
        ("traced", None, False),
        ("traced", "it rains", False),
    ],
)
def test_the_path_follows_from_what_is_asked_and_what_can_run(kernel: str, reason: str | None, host: bool) -> None:
    assert takes_host("AdamW", kernel, reason) is host


def test_a_path_that_is_asked_for_and_cannot_run_is_an_error_that_says_why() -> None:
    with pytest.raises(ValueError, match=r'cannot be the host kernel here: it rains.*Use kernel="traced" or "auto"'):
        takes_host("AdamW", "host", "it rains")

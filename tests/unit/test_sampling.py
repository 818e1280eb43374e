"""A sampled run takes every kind of formula, and all days together take everything."""

import pytest

from scirs2_adapters.core import names
from tests.sampling import chosen, kind

ALL = [(name,) for name in names()]
TESTS = [f"tests/adapters/test_{i}.py::test" for i in range(1000)]


@pytest.mark.parametrize("test", TESTS[:8])
def test_every_kind_is_taken(test: str) -> None:
    taken = {kind(name) for (name,) in chosen(test, ALL, "2026-01-01")}
    assert taken == {kind(name) for name in names()}


def test_some_are_left_out_and_others_another_day() -> None:
    days = [frozenset(chosen(TESTS[0], ALL, f"day {day}")) for day in range(1000)]
    assert all(len(day) < len(ALL) for day in days)
    assert len(set(days)) > 20
    assert frozenset().union(*days) == set(ALL)


def test_the_tests_of_one_day_take_different_ones() -> None:
    assert frozenset().union(*(chosen(test, ALL, "2026-01-01") for test in TESTS)) == set(ALL)


def test_a_seed_says_it_all() -> None:
    assert chosen(TESTS[0], ALL, "a") == chosen(TESTS[0], reversed(ALL), "a")


def test_pairs_are_taken_by_their_kinds() -> None:
    pairs = [(a, b) for a in names() for b in names()]
    taken = chosen(TESTS[0], pairs, "a")
    assert {(kind(a), kind(b)) for a, b in taken} == {(kind(a), kind(b)) for a, b in pairs}
    assert len(taken) < len(pairs)

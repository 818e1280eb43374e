"""A sampled run takes every kind of formula, and all days together take everything."""

from types import SimpleNamespace

import pytest

from scirs2_adapters.core import names
from tests.sampling import SEED, chosen, kind, left_out
from tests.sampling import TESTS as TESTS_FOLDER

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


def test_of_cases_that_are_alike_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def item(number: int) -> SimpleNamespace:
        case = SimpleNamespace(alike=("moves", number % 4))
        params, path = {"case": case}, TESTS_FOLDER / "adapters/test_of_another_library.py"
        return SimpleNamespace(nodeid=f"test[{number}]", callspec=SimpleNamespace(params=params), path=path)

    items, seen = [item(number) for number in range(12)], set()
    for seed in map(str, range(50)):
        monkeypatch.setenv(SEED, seed)
        out = left_out(items)
        taken = [i.callspec.params["case"].alike for i in items if i not in out]
        assert sorted(taken) == [("moves", number) for number in range(4)]
        seen.update(i.nodeid for i in items if i not in out)
    assert len(seen) == len(items)

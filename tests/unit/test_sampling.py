"""A sampled run takes every kind of formula, and all days together take everything."""

from types import SimpleNamespace

import pytest

from scirs2_adapters.core import names
from tests.sampling import SEED, chosen, kind, left_out, turn
from tests.sampling import TESTS as TESTS_FOLDER

ALL = [(name,) for name in names()]
TESTS = [f"tests/adapters/test_{i}.py::test" for i in range(1000)]


@pytest.mark.parametrize("test", TESTS[:8])
def test_every_kind_is_taken(test: str) -> None:
    taken = {kind(name) for (name,) in chosen(test, ALL, "2026-01-01")}
    assert taken == {kind(name) for name in names()}


def test_a_third_of_the_kinds_is_some_of_all() -> None:
    whole = {test: chosen(test, ALL, "2026-W01") for test in TESTS}
    third = {test: chosen(test, ALL, "2026-W01", third=True) for test in TESTS}
    kinds = {kind(name) for name in names()}
    assert all(third[test] < whole[test] for test in TESTS)
    assert {len(taken) for taken in third.values()} == {(len(kinds) + 2) // 3}
    assert {kind(name) for taken in third.values() for (name,) in taken} == kinds


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


def item(number: int, mark: object, **params: object) -> SimpleNamespace:
    path = TESTS_FOLDER / "adapters/test_of_another_library.py"
    spec = SimpleNamespace(params={"number": number % 4, **params})
    return SimpleNamespace(nodeid=f"test[{number}]", callspec=spec, path=path, get_closest_marker=lambda _: mark)


@pytest.mark.parametrize("marked", [True, False])
def test_of_cases_that_are_alike_one_is_taken(marked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = SimpleNamespace(args=("number",)) if marked else None
    cases = [SimpleNamespace() if marked else SimpleNamespace(alike=number % 4) for number in range(12)]
    items, seen = [item(number, mark, case=case) for number, case in enumerate(cases)], set[str]()
    for seed in map(str, range(50)):
        monkeypatch.setenv(SEED, seed)
        out = [i.nodeid for i in left_out(items)]
        taken = [i for i in items if i.nodeid not in out]
        assert sorted(i.callspec.params["number"] for i in taken) == [0, 1, 2, 3]
        seen.update(i.nodeid for i in taken)
    assert len(seen) == len(items)


def test_every_part_has_its_turn_in_as_many_weeks(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = []
    for week in ("2026-W48", "2026-W49"):
        monkeypatch.setenv(SEED, week)
        turns.append(turn("a file", 2))
    assert sorted(turns) == [0, 1]

"""The benchmarks' own arithmetic; the numbers they find are no test."""

from benchmarks.__main__ import MODULES
from benchmarks.report import TITLES, markdown, table
from benchmarks.row import Row, measure, mixed, models


def test_mixed_sizes_have_the_numbers_they_claim() -> None:
    sizes = mixed(300, 10_000_000)
    assert (len(sizes), sum(sizes), min(sizes) > 0) == (300, 10_000_000, True)
    assert max(sizes) > 20 * sorted(sizes)[150]


def test_models_are_as_large_as_their_names_say() -> None:
    assert [m.numbers for m in models(quick=False)] == [100_000, 10_000_000, 50_000_000]


def test_each_baseline_has_its_row_and_all_share_one_measurement_of_ours() -> None:
    def slow() -> int:
        return sum(range(30_000))

    rows = list(measure("torch", "case", lambda: None, {"a": slow, "b": slow}, (5, 1), 8, (slow, 4)))
    assert [r.baseline for r in rows] == ["a", "b"]
    assert rows[0].ours == rows[1].ours
    assert all(r.ratio is not None and r.ratio < 1 and r.triad is not None and r.triad > 2 for r in rows)


def test_an_optimizer_that_the_framework_lacks_has_a_row_without_a_ratio() -> None:
    (row,) = measure("torch", "case", lambda: None, {}, (3, 1), 8)
    assert (row.baseline, row.ratio) == ("has none", None)


def test_every_group_has_a_title_and_a_table() -> None:
    assert list(MODULES) == list(TITLES)
    page = markdown([Row(group, "case", "peer", 1.0, 2.0, 0.5) for group in MODULES], load=0.1)
    assert all(f"## {title}" in page for title in TITLES.values())


def test_a_row_shows_what_was_measured_and_nothing_else() -> None:
    last = table([Row("torch", "case", "peer", 1.0, 2.0, 0.5, 28.0, 0.9), Row("jax", "c", "p", 1.0)]).splitlines()[2:]
    assert last == ["| case | 1 | peer | 2 | 0.50 | 28.0 | 90% |", "| c | 1 | p |  |  |  |  |"]

"""The benchmarks' own arithmetic; the numbers they find are no test."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.__main__ import MODULES
from benchmarks.report import TITLES, Measured, markdown, remembered, table, write
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


def measured(group: str, ratio: float = 0.5, machine: str = "here") -> Measured:
    return Measured([Row(group, "case", "peer", 1.0, 2.0, ratio)], machine, "2026-01-01", 0.1, 2.0)


def test_every_group_has_a_title_and_a_table() -> None:
    assert sorted(MODULES) == sorted(TITLES)
    page = markdown({group: measured(group) for group in MODULES})
    assert all(f"## {title}" in page for title in TITLES.values())


def test_a_run_of_one_group_leaves_the_tables_of_the_others(tmp_path: Path) -> None:
    write({"torch": measured("torch", 0.25), "jax": measured("jax", 0.75)}, tmp_path)
    write({"jax": measured("jax", 0.125, machine="there")}, tmp_path)
    ratios = {group: one.rows[0].ratio for group, one in remembered(tmp_path / "benchmarks.json").items()}
    assert ratios == {"torch": 0.25, "jax": 0.125}
    page = (tmp_path / "benchmarks.md").read_text()
    assert page.index("on machine 1") < page.index("on machine 2")
    assert (tmp_path / "benchmarks.png").stat().st_size > 0


def test_a_table_has_no_empty_columns_and_its_own_unit() -> None:
    assert table([Row("overhead", "c", "p", 0.05, 0.1, 0.5)]).splitlines() == [
        "| case | ours, µs | baseline | its µs | ratio |",
        "|---|---:|---|---:|---:|",
        "| c | 50 | p | 100 | 0.50 |",
    ]


def test_a_row_shows_what_was_measured_and_nothing_else() -> None:
    last = table([Row("torch", "case", "peer", 1.0, 2.0, 0.5, 28.0, 0.9), Row("jax", "c", "p", 1.0)]).splitlines()[2:]
    assert last == ["| case | 1 | peer | 2 | 0.50 | 28.0 | 90% |", "| c | 1 | p |  |  |  |  |"]


def test_the_rules_measured_are_those_that_one_pass_can_do() -> None:
    pytest.importorskip("torch", reason="the benchmark of torch needs it")
    from benchmarks.torch_steps import elementwise, forms, theirs

    rules = elementwise()
    assert {"adamw", "sgd"} <= set(rules)
    assert not {"lamb", "muon", "prodigy", "adafactor"} & set(rules)  # these measure whole tensors
    assert forms(theirs("adamw")) == [{"fused": True}]  # type: ignore[arg-type]


def test_no_optimizer_passes_the_ratio_of_one_that_takes_no_time() -> None:
    pytest.importorskip("transformers", reason="the models are its own")
    from benchmarks.torch_models import broken_down

    row = broken_down(Row("models", "case", "peer", 7.0, 10.0, 0.7), [5.0, 1.0, 1.0], [5.0, 4.0, 1.0])
    assert (row.least, row.parts["optimizer step"]) == (0.6, (1.0, 4.0))


@pytest.mark.slow
def test_a_training_step_of_a_model_is_broken_down_into_its_parts(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the models are its own")
    from benchmarks.torch_models import PARTS, rows

    steps = list(rows(quick=True))
    assert [r.baseline for r in steps] == ["torch.optim.AdamW()", "torch.optim.AdamW(fused=True)"] * 2
    for row in steps:
        assert tuple(row.parts) == PARTS
        assert min(min(pair) for pair in row.parts.values()) > 0
        assert row.least is not None
        assert 0 < row.least < 1
    write({"models": replace(measured("models"), rows=steps)}, tmp_path)
    assert (tmp_path / "benchmarks-models.png").stat().st_size > 0


def test_the_steps_of_offloaded_models_run_dry(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers", reason="the models are its own")
    from benchmarks.cuda_offload import DRY, FORMS, main

    main(["--dry-run"])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["step,", "ms", "peak,", "MiB"]
    assert [line.rsplit(None, 2)[0] for line in lines] == [f"{DRY}: {form}" for form in FORMS]
    main([DRY, next(iter(FORMS)), "--dry-run"])
    (line,) = capsys.readouterr().out.splitlines()
    assert all(float(shown.split()[-2]) > 0 for shown in (*lines, line))

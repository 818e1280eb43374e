"""The catalogue: what it measures, what it says, and that an optimizer is the same in every adapter."""

from __future__ import annotations

import io
import json
import math
import tomllib
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.catalogue import ALLOWED, exceeds, measured, moved, shapes
from scirs2_adapters import get, names
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.registry import with_value
from scirs2_adapters.demo import worker
from scirs2_adapters.demo.catalogue import ADAPTERS, dense, results
from scirs2_adapters.demo.data import Settings
from scirs2_adapters.demo.report import Report, Run
from scirs2_adapters.demo.run import run_catalogue

DOCS = Path(__file__).parents[2] / "docs"
#: One of each kind that an adapter could treat in its own way: an average, matrices and their rest, a base.
TRAINED = ["muon", "schedulefreeadamw", "lookahead"]


@pytest.mark.slow
def test_an_optimizer_reaches_the_same_accuracy_in_every_adapter(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    asked = request.config.getoption("--adapters").split(",")
    adapters, out = [adapter for adapter in ADAPTERS if adapter in asked], io.StringIO()
    settings = Settings(str(tmp_path), steps=30)
    reports, by_name = run_catalogue(TRAINED, adapters, settings, Console(file=out, width=100))
    assert [report.trouble for report in reports] == [""] * len(adapters)
    for name, row in by_name.items():
        assert list(row.accuracy) == adapters
        assert len(set(row.accuracy.values())) == 1, name
        assert row.accuracy[adapters[0]] > 0.5, name
        assert 0 < row.rounding < 1e-4, name
        assert row.gap < 1e-4, name
    assert all(get(name).__name__ in out.getvalue() for name in TRAINED)


def test_only_optimizers_that_need_more_than_gradients_are_not_trained() -> None:
    left = [get(name) for name in set(names()) - set(dense())]
    assert all(rule.sparse == "rows" or rule.needs_value for rule in left)


def test_a_run_that_did_not_end_has_no_accuracy() -> None:
    runs = [Run(adapter, "adamw", "ours", accuracy=0.9 + k / 100) for k, adapter in enumerate(ADAPTERS)]
    reports = [Report(r.adapter, [r]) for r in runs]
    assert results(reports, {"adamw": {"learning_rate": 0.1}}, {})["adamw"].accuracy == {}


def test_bytes_are_those_of_all_passes() -> None:
    numbers = sum(map(math.prod, shapes().values()))
    assert moved(get("adamw")(), shapes()) == (16 * numbers, 12 * numbers)
    assert moved(get("sgd")(), shapes()) == (8 * numbers, 4 * numbers)
    assert moved(get("lamb")(), shapes()) == ((16 + 16) * numbers, 12 * numbers)


@pytest.mark.parametrize("larger", ["bytes", "reads"])
def test_a_step_may_take_as_long_as_its_bytes_or_its_reads(larger: str) -> None:
    row = {"bytes": 0.4, "reads": 0.4, larger: 0.5}
    assert not exceeds(row | {"ratio": 0.5 * ALLOWED})
    assert exceeds(row | {"ratio": 0.5 * ALLOWED + 0.01})


def test_a_row_says_what_an_optimizer_costs() -> None:
    small = shapes(8, 10)
    row = measured("lion", small, budget=0.0)
    params = {name: np.ones(shape, np.float32) for name, shape in small.items()}
    memory = HostOptimizer("lion", params).memory()
    assert row["state"] == memory.state["exp_avg"]["float32"] / memory.numbers == 4.0
    assert row["bytes"] == round(20 / 28, 3)
    assert row["reads"] == round(12 / 16, 3)
    assert float(row["ratio"]) > 0
    assert float(row["milliseconds"]) > 0


def test_lines_about_use_are_short_and_about_optimizers() -> None:
    lines = tomllib.loads((DOCS / "when.toml").read_text())
    assert set(lines) <= {*names(), *with_value()}
    assert [name for name, line in lines.items() if not line.endswith(".") or len(line) > 110] == []


MEASURED = [file for file in ("catalogue.json", "accuracy.json", "peers.json") if (DOCS / file).is_file()]


@pytest.mark.parametrize("file", MEASURED)
def test_what_was_measured_is_about_optimizers(file: str) -> None:
    entries = json.loads((DOCS / file).read_text())
    entries = entries.get("optimizers", entries)
    assert entries
    assert set(entries) <= {*names(), *with_value()}


def test_no_optimizer_is_further_apart_in_two_frameworks_than_rounding_leads() -> None:
    """NoisySGD draws other noise where a kernel lies the other way round."""
    rows = json.loads((DOCS / "accuracy.json").read_text())
    far = [name for name, row in rows.items() if row["gap"] > max(1e-5, 30 * row["rounding"])]
    assert far == ["noisysgd"]


def test_a_run_whose_parameters_are_not_finite_ends_and_is_no_trouble(tmp_path: Path) -> None:
    class Diverging:
        settings = Settings(str(tmp_path))

        def train(self, optimizer: str, kind: str, watch: object) -> tuple[float, float]:
            raise ValueError("Solver produced non-finite parameter weights.")

    events: list[str] = []
    worker._run("sklearn", Diverging(), "adamw", "ours", lambda event, **facts: events.append(event))
    assert events == ["begin"]

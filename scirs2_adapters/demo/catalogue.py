"""Every optimizer on the digits in each adapter, from the same weights and over the same batches: `scirs2 demo
--catalogue`. An optimizer that is the same in all of them reaches the same accuracy in all of them.

The learning rate is that of `RATES`, times the default rate, after which the loss on the training digits is least
in a third of the steps; the numpy core looks for it, and all adapters train at it.

Frameworks round the gradients of the network differently. What that alone comes to is the gap between two runs of the
numpy core, one of which has exact gradients, rounded once: where it is large, the path of that optimizer at that rate
is chaotic, and no two frameworks, nor two machines, walk it alike.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from rich.table import Table

from scirs2_adapters.core.registry import get, names

from .data import Settings, write_digits
from .report import TITLES, Report, gap, measure_gaps

RATES: Final = (1.0, 10.0, 100.0)
#: The adapters that train the digits.
ADAPTERS: Final = ("torch", "tf", "jax", "sklearn")


@dataclass(frozen=True)
class Result:
    """Of one optimizer its rate, its accuracy in each adapter, the largest gap between the paths, and the one that
    rounding makes in the core.
    """

    learning_rate: float
    accuracy: Mapping[str, float]
    gap: float
    rounding: float


Results = dict[str, Result]


def dense() -> list[str]:
    """The optimizers that take the gradients of a perceptron and nothing else: none of rows alone, or of the loss."""
    return [name for name in names() if get(name).sparse != "rows" and not get(name).needs_value]


def tuned(optimizers: Sequence[str], settings: Settings) -> Settings:
    """The settings with each optimizer at its best rate."""
    short = dataclasses.replace(settings, steps=-(-settings.steps // 3))
    write_digits(short)
    hyper = {name: {"learning_rate": _best_rate(name, short)} for name in optimizers}
    write_digits(settings)
    return dataclasses.replace(settings, hyper=hyper, peers=False, snapshots=3)


def _best_rate(optimizer: str, settings: Settings) -> float:
    from .adapter import Watch
    from .sklearn_digits import Adapter

    default = get(optimizer).fields_with()["learning_rate"].default
    losses = {}
    for rate in (default * times for times in RATES):
        adapter = Adapter(dataclasses.replace(settings, hyper={optimizer: {"learning_rate": rate}}, peers=False))
        losses[rate], watch = np.inf, Watch(settings.steps, lambda event, **facts: None, 1)
        with contextlib.suppress(ValueError), warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            losses[rate], _ = adapter.train(optimizer, "ours", watch)  # where a rate is too large, scikit-learn raises
    return min(losses, key=lambda rate: losses[rate] if np.isfinite(losses[rate]) else np.inf)


def rounding_gaps(optimizers: Sequence[str], settings: Settings) -> dict[str, float]:
    """By optimizer, how far apart a run of the numpy core and one with exact gradients are at most."""
    from .adapter import Watch
    from .sklearn_digits import Adapter

    adapter, gaps = Adapter(settings), dict[str, float]()
    for name in optimizers:
        watches = [Watch(settings.steps, lambda event, **facts: None, settings.snapshots) for _ in range(2)]
        with contextlib.suppress(ValueError), warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            for kind, watch in zip(("exact", "ours"), watches, strict=True):  # raises where one diverges
                adapter.walk(name, kind, watch)
            gaps[name] = float(gap(*(np.stack(watch.snapshots) for watch in watches)).max())
    return gaps


def results(
    reports: Sequence[Report], hyper: Mapping[str, Mapping[str, float]], rounding: Mapping[str, float]
) -> Results:
    """What all runs come to, by optimizer; `rounding` is what `rounding_gaps` returns."""
    measure_gaps(reports)
    by_optimizer: Results = {}
    for name, values in hyper.items():
        runs = {r.adapter: r for f in reports for r in f.runs if r.optimizer == name and r.trajectory}
        gaps = [float(r.gap.max()) for r in runs.values() if r.gap is not None]
        accuracy = {adapter: round(r.accuracy, 4) for adapter, r in runs.items()}
        largest, of_rounding = (float(f"{x:.1e}") for x in (max(gaps, default=0.0), rounding.get(name, 0.0)))
        by_optimizer[name] = Result(values["learning_rate"], accuracy, largest, of_rounding)
    return by_optimizer


def table(results: Results) -> Table:
    """A row for each optimizer."""
    adapters = [a for a in ADAPTERS if any(a in row.accuracy for row in results.values())]
    result = Table(title="Accuracy on held-out digits", padding=0, show_edge=False)
    for head in ("Optimizer", "Rate", *map(TITLES.__getitem__, adapters), "Gap", "Of rounding"):
        result.add_column(head, justify="left" if head == "Optimizer" else "right", no_wrap=True)
    for name, row in results.items():
        accuracy = [f"{row.accuracy[a]:.1%}" if a in row.accuracy else "-" for a in adapters]
        result.add_row(get(name).__name__, f"{row.learning_rate:g}", *accuracy, f"{row.gap:.0e}", f"{row.rounding:.0e}")
    return result

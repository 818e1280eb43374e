"""Every optimizer on scikit-learn's digits, at the best of three learning rates, as `scirs2 demo --optimizers all` has
them.
"""

from __future__ import annotations

from itertools import pairwise
from tempfile import TemporaryDirectory

from rich.console import Console

from scirs2_adapters.core.registry import get
from scirs2_adapters.demo import catalogue
from scirs2_adapters.demo.data import BATCH, SIZES, Settings
from scirs2_adapters.demo.report import Run
from scirs2_adapters.demo.run import train

from .figures import panels, ranking
from .section import Effort, MeasurementError, Section

TITLE = "Every optimizer on real data"
TEXT = (
    "A perceptron of {parameters:,} parameters learns scikit-learn's digits in {steps} steps of {batch} images, "
    "from the same weights and over the same batches. Learning rates are 1, 10 or 100 times the optimizer's default, "
    "whichever reaches the lowest loss in a third of the steps. So coarse a choice, on one small model, ranks no "
    "optimizer for another; it shows that each one learns. Left out are those that take more than gradients: "
    "the loss, or rows of an embedding."
)
#: The adapter that trains: the digits come with its framework.
ADAPTER = "sklearn"


def section(effort: Effort, console: Console) -> Section:
    """Look for learning rates, train, rank by loss.

    Raises MissingExtraError without scikit-learn.
    """
    names = list(effort.optimizers) or catalogue.dense()
    with TemporaryDirectory() as folder:
        with console.status("Digits: looking for learning rates"):
            settings = catalogue.tuned(names, Settings(folder, steps=effort.digits_steps))
        report = train([ADAPTER], settings, console)[0]
    if report.trouble:
        raise MeasurementError(report.trouble)
    runs = sorted(report.runs, key=_order)
    rates = {name: f"{words['learning_rate']:g}" for name, words in settings.hyper.items()}
    rows = [[get(r.optimizer).__name__, rates[r.optimizer], f"{r.loss:.4f}", f"{r.accuracy:.1%}"] for r in runs]
    curves = {get(r.optimizer).__name__: r.losses for r in sorted(runs, key=lambda r: r.optimizer)}
    ends = {get(r.optimizer).__name__: (r.loss, r.accuracy) for r in runs}
    figures = {
        "digits": (panels(curves), "Loss of each optimizer over its steps"),
        "digits-ranking": (ranking(ends), "Final loss and accuracy on held-out digits of each optimizer"),
    }
    text = TEXT.format(batch=BATCH, steps=effort.digits_steps, parameters=_parameters())
    head = ("optimizer", "learning rate", "training loss", "accuracy, held out")
    return Section("digits", TITLE, text, head, rows, figures)


def _order(run: Run) -> float:
    """Diverged runs last: NaN compares with nothing."""
    return run.loss if run.loss == run.loss else float("inf")


def _parameters() -> int:
    return sum(a * b + b for a, b in pairwise(SIZES))

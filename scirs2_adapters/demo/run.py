"""Runs the demo: one process for each framework, one after the other, with live progress; then the table and the
figure.

One after the other, because two at a time would disturb each other's step times; of these the catalogue has none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from scirs2_adapters.core.registry import get

from . import catalogue
from .data import Settings, write_digits
from .processes import Event, events
from .report import TITLES, Report, Run, explanation, figure, measure_gaps, table

#: All run on the CPU, where every framework multiplies matrices in full float32. All run in one thread, because in
#: models so small threads wait for each other longer than they work.
ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu",
    "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3",
    "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
}  # fmt: skip


def run(adapters: Sequence[str], settings: Settings, console: Console) -> list[Report]:
    """Train in all adapters, print the table, save the figure and name it on the last line."""
    output = Path(settings.output)
    output.mkdir(parents=True, exist_ok=True)
    if set(adapters) != {"hf"}:
        write_digits(settings)
    reports = train(adapters, settings, console)
    reference = measure_gaps(reports)
    console.print(table(reports), explanation(reports, reference), sep="\n", highlight=False)
    _print_trouble(reports, console)
    if any(r.trajectory for f in reports for r in f.runs):
        file = output / "demo.png"
        figure(reports, file)
        console.print(f"Figure: {file}", soft_wrap=True, highlight=False)
    return reports


def run_catalogue(
    optimizers: Sequence[str], adapters: Sequence[str], settings: Settings, console: Console
) -> tuple[list[Report], catalogue.Results]:
    """Train with these optimizers in all adapters, and print their accuracies."""
    Path(settings.output).mkdir(parents=True, exist_ok=True)
    with console.status("looking for learning rates"):
        settings = catalogue.tuned(optimizers, settings)
    with console.status("measuring what rounding comes to"):
        rounding = catalogue.rounding_gaps(optimizers, settings)
    reports = train(adapters, settings, console)
    results = catalogue.results(reports, settings.hyper, rounding)
    console.print(catalogue.table(results), highlight=False)
    _print_trouble(reports, console)
    return reports, results


def train(adapters: Sequence[str], settings: Settings, console: Console) -> list[Report]:
    """All runs, with live progress: of one adapter after the other where steps are timed, else of all at once."""
    together = 1 if settings.peers else len(adapters)
    with progress_of(console) as progress, ThreadPoolExecutor(together) as pool:
        return list(pool.map(lambda adapter: _adapter(adapter, settings, progress), adapters))


def _print_trouble(reports: Sequence[Report], console: Console) -> None:
    for f in reports:
        if f.trouble:
            console.print(f"[red]{TITLES[f.adapter]}:[/red] {escape(f.trouble)}", soft_wrap=True, highlight=False)


def progress_of(console: Console) -> Progress:
    """A bar for each task, which has the field `loss`: what it has reached."""
    name, loss = TextColumn("{task.description:<32}"), TextColumn("{task.fields[loss]}")
    return Progress(name, BarColumn(28), MofNCompleteColumn(), loss, TimeElapsedColumn(), console=console)


def _adapter(adapter: str, settings: Settings, progress: Progress) -> Report:
    report, task = Report(adapter), progress.add_task(f"{TITLES[adapter]}: starting", total=None, loss="")
    log = Path(settings.output) / f"{adapter}.log"
    with log.open("w") as errors:
        words = (adapter, json.dumps(asdict(settings)))
        for event in events(f"{__package__}.worker", words, ENVIRONMENT, errors):
            _take(event, report, progress, task, settings)
    if report.exit_code:
        said = log.read_text(errors="replace").strip().splitlines() or ["without a word"]
        report.trouble = f"its process ended with {report.exit_code}: {said[-1]} (all of it: {log})"
    progress.update(task, description=f"{TITLES[adapter]}: {'done' if not report.trouble else 'not run'}", loss="")
    progress.stop_task(task)
    return report


def _take(event: Event, report: Report, progress: Progress, task: TaskID, settings: Settings) -> None:
    match event["event"]:
        case "missing":
            report.trouble, report.absent = event["why"], True
        case "adapter":
            report.counterparts, report.path = event["counterparts"], event["path"]
            progress.update(task, total=settings.of(report.adapter) * sum(map(len, event["runs"].values())))
        case "begin":
            run = Run(report.adapter, event["optimizer"], event["kind"])
            report.runs.append(run)
            words = {"ours": "ours", "own": "its own", "reference": "torch loop"}
            label = f"{TITLES[run.adapter]}: {get(run.optimizer).__name__}, {words[run.kind]}"
            progress.update(task, description=label)
        case "step":
            report.runs[-1].losses.append(event["loss"])
            progress.update(task, advance=1, loss=f"loss {event['loss']:.4f}")
        case "done":
            last = report.runs[-1]
            last.loss, last.accuracy, last.trajectory = event["loss"], event["accuracy"], event["trajectory"]
        case "timed":
            report.ratios[event["optimizer"]] = event["ratio"]
        case "exit":
            report.exit_code = event["code"]

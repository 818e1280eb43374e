"""Runs the demo: one process for each framework, one after the other, with live progress; then the table and the
figure.

One after the other, because two at a time would disturb each other's step times.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from .data import Settings, write_digits
from .report import OPTIMIZERS, TITLES, Found, Run, explanation, figure, measure_gaps, table

#: An adapter that takes longer than this many seconds hangs.
LIMIT: Final = 600

#: All on the CPU: what is compared are optimizers, and there every framework multiplies matrices in full float32. And
#: in one thread: in models so small threads wait for each other longer than they work, on a busy machine ten times so.
ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def run(adapters: Sequence[str], settings: Settings, console: Console) -> list[Found]:
    """Train in all adapters, print the table, save the figure and name it on the last line."""
    output = Path(settings.output)
    output.mkdir(parents=True, exist_ok=True)
    if set(adapters) != {"hf"}:
        write_digits(settings)
    with _progress(console) as progress:
        found = [_adapter(adapter, settings, progress) for adapter in adapters]
    reference = measure_gaps(found)
    console.print(table(found), explanation(found, reference), sep="\n", highlight=False)
    for f in found:
        if f.trouble:
            console.print(f"[red]{TITLES[f.adapter]}:[/red] {escape(f.trouble)}", soft_wrap=True, highlight=False)
    if any(r.trajectory for f in found for r in f.runs):
        file = output / "demo.png"
        figure(found, file)
        console.print(f"Figure: {file}", soft_wrap=True, highlight=False)
    return found


def _progress(console: Console) -> Progress:
    loss = TextColumn("{task.fields[loss]}")
    return Progress(
        TextColumn("{task.description:<32}"),
        BarColumn(28),
        MofNCompleteColumn(),
        loss,
        TimeElapsedColumn(),
        console=console,
    )


def _adapter(adapter: str, settings: Settings, progress: Progress) -> Found:
    found, task = Found(adapter), progress.add_task(f"{TITLES[adapter]}: starting", total=None, loss="")
    log = Path(settings.output) / f"{adapter}.log"
    with log.open("w") as errors:
        for event in _events(adapter, settings, errors):
            _take(event, found, progress, task, settings)
    if found.exit_code:
        found.trouble = f"its process ended with {found.exit_code}: {_last_line(log)} (all of it: {log})"
    progress.update(task, description=f"{TITLES[adapter]}: {'done' if not found.trouble else 'not run'}", loss="")
    progress.stop_task(task)
    return found


def _events(adapter: str, settings: Settings, errors: Any) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", f"{__package__}.worker", adapter, json.dumps(asdict(settings))]
    environment = {**os.environ, **ENVIRONMENT}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process:
        watchdog = threading.Timer(LIMIT, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                yield json.loads(line)
            yield {"event": "exit", "code": process.wait()}
        finally:
            watchdog.cancel()
            process.kill()


def _take(event: dict[str, Any], found: Found, progress: Progress, task: TaskID, settings: Settings) -> None:
    match event["event"]:
        case "missing":
            found.trouble, found.absent = event["why"], True
        case "adapter":
            found.own, found.path = event["own"], event["path"]
            total = settings.of(found.adapter) * sum(map(len, event["runs"].values()))
            progress.update(task, total=total)
        case "begin":
            run = Run(found.adapter, event["optimizer"], event["kind"])
            found.runs.append(run)
            progress.update(task, description=f"{TITLES[found.adapter]}: {_label(found, run)}")
        case "step":
            found.runs[-1].losses.append(event["loss"])
            progress.update(task, advance=1, loss=f"loss {event['loss']:.4f}")
        case "done":
            last = found.runs[-1]
            last.loss, last.accuracy, last.trajectory = event["loss"], event["accuracy"], event["trajectory"]
        case "timed":
            found.ratios[event["optimizer"]] = event["ratio"]
        case "exit":
            found.exit_code = event["code"]


def _label(found: Found, run: Run) -> str:
    words = {"ours": "ours", "own": "its own", "reference": "torch loop"}
    return f"{OPTIMIZERS[run.optimizer]}, {words[run.kind]}"


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "without a word"

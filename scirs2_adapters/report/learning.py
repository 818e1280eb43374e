"""Five models, each in a framework, trained by our AdamW and by the framework's: time, memory and loss."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import numpy as np
from rich.console import Console

from scirs2_adapters.core.errors import MissingExtraError
from scirs2_adapters.demo.adapter import Adapter, Parameters, Watch
from scirs2_adapters.demo.data import BATCH, HYPER, Settings, write_digits
from scirs2_adapters.demo.processes import Emit
from scirs2_adapters.demo.run import ENVIRONMENT, progress_of

from . import memory
from .figures import COLORS, bars, pairs
from .section import Effort, MeasurementError, Section, shown
from .training import Training
from .work import working

TITLE = "A model in each framework"
TEXT = (
    "Each model learns scikit-learn's digits, in {steps} steps of {batch}{besides}. It is trained twice, from the same "
    "weights, over the same batches and with the same hyperparameters: by our AdamW and by the framework's. "
    "scikit-learn has none; its Adam, without decay, is the nearest. First step: from the making of the model, with "
    "all that is compiled. Step: the median of those after the third, forward and backward pass included. Training: "
    "all steps. Memory: how far the peak of the process rises from when framework and data are loaded. Loss: the mean "
    "of the last five batches. Each run has a process of its own and one thread, because in models so small threads "
    "wait for each other longer than they work."
)
GPT2 = "; a GPT-2 learns the source code of Python's standard library"
HEAD = ("model", "parameters", "optimizer", "first step, s", "step, ms", "training, s", "memory, MiB", "loss")
#: What the demo's adapters call our optimizer and the framework's.
KINDS: Final = ("ours", "own")
OPTIMIZER: Final = "adamw"
OURS: Final = "ours: AdamW"


class Model(NamedTuple):
    """Its name, and the module with its adapter of the demo."""

    name: str
    module: str


#: By adapter.
MODELS: Final[Mapping[str, Model]] = {
    "torch": Model("LSTM in PyTorch", "report.models.torch_lstm"),
    "tf": Model("CNN in Keras", "report.models.keras_convolutional"),
    "jax": Model("transformer in JAX", "report.models.jax_transformer"),
    "sklearn": Model("MLP in scikit-learn", "demo.sklearn_digits"),
    "hf": Model("GPT-2 in the Trainer", "demo.hf_text"),
}
#: Of each model the runs, by the name of the optimizer: ours is the first.
Runs = Mapping[str, Mapping[str, Training]]


def section(effort: Effort, console: Console) -> Section:
    """Train each model with both.

    Raises MissingExtraError without scikit-learn, which has the digits.
    """
    runs: dict[str, Mapping[str, Training]] = {}
    left_out, failed = [], []
    total = len(KINDS) * effort.learn_steps
    with TemporaryDirectory() as folder, progress_of(console) as progress:
        write_digits(settings(folder, effort.learn_steps))
        task = progress.add_task("Models", total=len(effort.models) * total, loss="")
        for k, adapter in enumerate(effort.models, 1):
            model = MODELS[adapter].name
            progress.update(task, description=model, loss="")
            try:
                told = functools.partial(progress.update, task, advance=1)
                runs[model] = _trained(adapter, folder, effort.learn_steps, told)
            except MissingExtraError as error:
                left_out.append(f"{model}: {error}")
            except MeasurementError as error:
                failed.append(str(error))
            progress.update(task, completed=k * total)
    return _section(runs, effort, left_out, failed)


def _trained(adapter: str, folder: str, steps: int, told: Callable[..., object]) -> dict[str, Training]:
    trained: dict[str, Training] = {}
    for kind in KINDS:
        training = Training()
        for event in working("learn", ENVIRONMENT, adapter=adapter, kind=kind, folder=folder, steps=steps):
            training.take(event)
            if event["event"] == "begin":
                trained[event["optimizer"]] = training
            elif event["event"] == "step":
                told(loss=f"loss {event['loss']:.3f}")
    return trained


def settings(folder: str, steps: int) -> Settings:
    """Of the demo's adapters: so many steps of AdamW."""
    return Settings(folder, steps=steps, text_steps=steps, hyper={OPTIMIZER: HYPER[OPTIMIZER]})


class _Clock(Watch):
    """Reports the seconds of each step, and after the last one memory and parameters; it copies none."""

    def __init__(self, steps: int, emit: Emit) -> None:
        super().__init__(steps, emit, 1)
        self._steps, self._start, self._last = steps, memory.resident(), time.perf_counter()

    def __call__(self, loss: float, parameters: Parameters) -> None:
        self._emit("step", loss=loss, seconds=[time.perf_counter() - self._last])
        self._step += 1
        if self._step == self._steps:
            self._emit("trained", growth=memory.growth(self._start), numbers=sum(p.size for p in parameters()))
        self._last = time.perf_counter()

    def keep(self, parameters: Sequence[np.ndarray]) -> None:
        """Nothing: a copy would be counted."""


def learn(emit: Emit, adapter: str, kind: str, folder: str, steps: int) -> None:
    """In a worker: train a model, ours or the framework's optimizer, and report each step."""
    import_module(f"scirs2_adapters.{adapter}")  # its error says what to install
    model: Adapter = import_module(f"scirs2_adapters.{MODELS[adapter].module}").Adapter(settings(folder, steps))
    emit("begin", optimizer=OURS if kind == "ours" else model.counterparts()[OPTIMIZER])
    memory.count_peak_anew()
    model.walk(OPTIMIZER, kind, _Clock(steps, emit))


def _section(runs: Runs, effort: Effort, left_out: list[str], failed: list[str]) -> Section:
    rows = []
    for model, both in runs.items():
        for optimizer, t in both.items():
            seconds = [one for (one,) in t.seconds]
            numbers = [shown(seconds[0]), shown(t.parts()[0]), shown(sum(seconds)), t.memory(), f"{t.loss():.4f}"]
            rows.append([model, f"{t.numbers:,}", optimizer, *numbers])
    text = TEXT.format(steps=effort.learn_steps, batch=BATCH, besides=GPT2 if "hf" in effort.models else "")
    if not rows:
        return Section("models", TITLE, text, left_out=left_out, failed=failed)
    titles = ("time of a step, ms", "training, s", "growth of memory, MiB")
    lines = [[f"{row[0]}, ours" if row[2] == OURS else row[2], *row[4:7]] for row in rows]
    colors = [COLORS[0], COLORS[2]] * len(runs)
    losses = {model: [t.losses for t in both.values()] for model, both in runs.items()}
    figures = {
        "models": (bars(titles, lines, colors), "Time and memory of each model, by ours and by the framework's AdamW"),
        "models-losses": (pairs(losses), "Loss of each model over its steps, by ours and by the framework's AdamW"),
    }
    return Section("models", TITLE, text, HEAD, rows, figures, {}, left_out, failed)

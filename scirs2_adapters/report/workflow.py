"""Where the time of a training step of a torch model goes, with its loss and memory: ours and torch's AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.console import Console

from scirs2_adapters.demo.run import progress_of

from .figures import breakdown
from .section import Effort, Section, shown
from .training import Training
from .work import ALONE, spelled, working

TITLE = "Where a training step's time goes"
TEXT = (
    "A transformer of {numbers:,} parameters ({layers} layers of width {width}) learns the source code of Python's "
    "standard library, character by character, in {steps} steps of 16 windows, from the same weights and over the same "
    "batches. Times are medians of each part by itself. Loss: the mean of the last five steps. Memory: how far the "
    "peak of the process rises over what it is when the model and its data are there, so that gradients, activations, "
    "the optimizer's state and its code are in it. Each optimizer has a process of its own."
)
OURS: Final = "scirs2_adapters.torch"
THEIRS: Final = "torch.optim"
CONTENDERS: Final[tuple[tuple[str, dict[str, str | bool]], ...]] = (
    (OURS, {}),
    (OURS, {"state_dtype": "int8"}),
    (THEIRS, {}),
    (THEIRS, {"fused": True}),
)
PARTS: Final = ("forward", "backward", "step", "zero_grad")
LABELS: Final = {OURS: "ours: AdamW", THEIRS: "torch.optim.AdamW"}


def section(effort: Effort, console: Console) -> Section:
    """Train with each.

    Raises MissingExtraError without torch.
    Raises MeasurementError when a process ends early.
    """
    trained: dict[str, Training] = {}
    contenders = [one for one in CONTENDERS if effort.variants or not one[1]]
    with progress_of(console) as progress:
        task = progress.add_task("Workflow", total=len(contenders) * effort.model_steps, loss="")
        for module, options in contenders:
            name = spelled(LABELS[module], options)
            trained[name] = Training()
            progress.update(task, description=f"Workflow: {name}"[:32])
            model = {"width": effort.width, "layers": effort.layers, "steps": effort.model_steps}
            for event in working("train", ALONE, module=module, options=options, **model):
                trained[name].take(event)
                if event["event"] == "step":
                    progress.update(task, advance=1, loss=f"loss {event['loss']:.3f}")
    return _section(trained, effort)


def _section(trained: Mapping[str, Training], effort: Effort) -> Section:
    rows = []
    for name, training in trained.items():
        parts = training.parts()
        rows.append([name, *map(shown, parts), shown(sum(parts)), training.memory(), f"{training.loss():.4f}"])
    head = ("optimizer", *(f"{part}, ms" for part in PARTS), "sum, ms", "memory, MiB", "loss")
    numbers = next(iter(trained.values())).numbers
    text = TEXT.format(numbers=numbers, layers=effort.layers, width=effort.width, steps=effort.model_steps)
    parts_of = {name: dict(zip(PARTS, t.parts(), strict=True)) for name, t in trained.items()}
    growths = {name: (t.growth or 0) / 2**20 for name, t in trained.items()}
    drawn = breakdown(parts_of, growths, {name: t.losses for name, t in trained.items()})
    figures = {"workflow": (drawn, "Parts of a step, memory and loss of each optimizer")}
    return Section("workflow", TITLE, text, head, rows, figures)

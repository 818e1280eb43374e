"""The time of a step over the size of the model, ours and torch's, up to what the memory of the machine allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Final

import numpy as np
from rich.console import Console

from scirs2_adapters.core import AdamW, HostOptimizer
from scirs2_adapters.core.errors import MissingExtraError
from scirs2_adapters.demo.processes import Emit
from scirs2_adapters.demo.run import progress_of
from scirs2_adapters.demo.timing import seconds as seconds_of

from . import memory
from .figures import curves
from .section import Effort, MeasurementError, Section, shown
from .work import ALONE, working

TITLE = "Step time over model size"
TEXT = (
    "One step of AdamW on a float32 tensor of so many parameters, in milliseconds: medians. Each optimizer has a "
    "process of its own, one after the other, so that what else runs on the machine may disturb one and not "
    "another."
)
#: The core's, and of torch: ours, torch's default, and its fastest.
CORE, OURS, DEFAULT, FUSED = CONTENDERS = ("numpy core", "ours in PyTorch", "torch AdamW", "torch AdamW, fused")
#: Bytes of a parameter: value, gradient, two slots, and two temporary arrays, which torch's default makes.
NEEDED: Final = 24
#: Seconds that a step takes at the least: a coarse clock may say 0.
CLOCK: Final = 1e-7


def section(effort: Effort, console: Console) -> Section:
    """Each contender over all sizes."""
    sizes = [10**power for power in effort.powers]
    contenders = [name for name in CONTENDERS if effort.variants or name != DEFAULT]
    times: dict[str, dict[int, float]] = {name: {} for name in contenders}
    left_out: dict[str, None] = {}
    failed: list[str] = []
    with progress_of(console) as progress:
        task = progress.add_task("Model size", total=len(contenders) * len(sizes), loss="")
        for k, name in enumerate(contenders):
            progress.update(task, description=name)
            try:
                for event in working("sizes", ALONE, contender=name, sizes=sizes, budget=effort.seconds):
                    if event["event"] == "full":
                        left_out[event["why"]] = None
                    elif event["event"] == "size":
                        times[name][event["size"]] = event["seconds"]
                        progress.update(task, advance=1, loss=f"{event['size']:.0e}")
            except MissingExtraError as error:
                left_out[str(error)] = None
            except MeasurementError as error:
                failed.append(str(error))
            progress.update(task, completed=(k + 1) * len(sizes))
    return _section(sizes, times, list(left_out), failed)


def _section(
    sizes: Sequence[int], times: Mapping[str, Mapping[int, float]], left_out: list[str], failed: list[str]
) -> Section:
    """The columns of those that have stepped, up to the largest size that one of them has."""
    known = {name: column for name, column in times.items() if column}
    largest = max((n for column in known.values() for n in column), default=0)
    rows = [[f"{n:,}", *(_cell(column, n) for column in known.values())] for n in sizes if n <= largest]
    figures = {"sizes": (curves(known), "Step time over model size, both on logarithmic axes")} if known else {}
    return Section("sizes", TITLE, TEXT, ("parameters", *known), rows, figures, {}, left_out, failed)


def _cell(column: Mapping[int, float], size: int) -> str:
    return shown(column[size] * 1e3) if size in column else "-"


def step_sizes(emit: Emit, contender: str, sizes: Sequence[int], budget: float) -> None:
    """In a worker: step each size until the budget of seconds is spent, and at least five times."""
    for size in sizes:
        emit("begin")
        if NEEDED * size > memory.available():
            room = f"{memory.available() / 2**30:.1f} GiB of memory are available"
            emit("full", why=f"{size:,} parameters: {contender} may need {NEEDED * size / 2**30:.1f} GiB, and {room}.")
            return
        step = _stepper(contender, size)
        step()
        once = max(seconds_of(step), CLOCK)
        repeat = max(1, int(1e-3 / once))
        rounds = min(max(5, int(budget / (once * repeat))), 200)
        emit("size", size=size, seconds=median(seconds_of(step, repeat) for _ in range(rounds)))


def _stepper(contender: str, size: int) -> Callable[[], object]:
    p, g = np.zeros(size, np.float32), np.empty(size, np.float32)
    g.reshape(-1, 1000)[:] = np.linspace(-0.5, 0.5, 1000)
    if contender == CORE:
        optimizer = HostOptimizer(AdamW(), {"w": p})
        return lambda: optimizer.step({"w": g})
    import torch

    from scirs2_adapters import torch as ours  # its error says what to install

    weight = torch.nn.Parameter(torch.from_numpy(p))
    weight.grad = torch.from_numpy(g)
    if contender == OURS:
        return ours.AdamW([weight]).step
    return torch.optim.AdamW([weight], fused=True if contender == FUSED else None).step

"""torch, what training takes beside the model: how far a training loop raises the peak of the process's memory.

Growth is counted from the moment when the model and its batch are there, before the optimizer is imported, to the peak
of three whole steps that follow a first one: forward and backward pass, the optimizer's step, `zero_grad()`. So it has
in it activations, gradients, state and whatever the optimizer loads or keeps. Each is measured in a process of its own.
Load does not change it; pieces of the heap that cannot be given back make some percent of difference between two runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from .row import Row, count_peak_anew, process_memory
from .torch_subjects import Subject, subjects

THEIRS: dict[str, dict[str, Any]] = {"torch.optim.AdamW(fused=True)": {"fused": True}, "torch.optim.AdamW()": {}}
OURS: dict[str, dict[str, Any]] = {
    "float32": {},
    "state_dtype='bfloat16'": {"state_dtype": "bfloat16"},
    "state_dtype='int8'": {"state_dtype": "int8"},
    "int8, released gradients": {"state_dtype": "int8"},
}
#: The first of ours where no kernel is cached yet, so that it is compiled in the process that trains.
COLD = "float32, cold cache"
_MIB = 1 << 20


def rows(quick: bool) -> Iterator[Row]:
    """Each model and form of AdamW beside `fused=True`, and the first beside torch's default as well."""
    with tempfile.TemporaryDirectory() as warm:
        for name in OURS:
            growth(subjects(quick=True)[-1].name, name, warm)
        for subject in subjects(quick):
            theirs = {name: growth(subject.name, name, warm) for name in THEIRS}
            (fused, bar), (default, other) = theirs.items()
            for name in (*OURS, COLD):
                ours = growth(subject.name, name, warm)
                yield Row("memory", f"{subject.name}, {name}", fused, ours, bar, ours / bar)
                if name == "float32":
                    yield Row("memory", f"{subject.name}, {name}", default, ours, other, ours / other)


def growth(subject: str, optimizer: str, cache: str) -> float:
    """MiB by which this training raises the peak, measured in a process of its own."""
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "SCIRS2_CACHE_DIR": empty if optimizer == COLD else cache}
        command = [sys.executable, "-m", __spec__.name, subject, optimizer]
        out = subprocess.run(command, capture_output=True, text=True, env=environment)
    if out.returncode:
        raise RuntimeError(out.stderr)
    return float(out.stdout.split()[-1])


def _train(subject: Subject, name: str, steps: int = 3) -> float:
    model, data = subject.begin()
    start = process_memory("VmRSS")
    module = "torch.optim" if name in THEIRS else "scirs2_adapters.torch"
    options = THEIRS.get(name) or OURS.get(name) or {}
    optimizer = import_module(module).AdamW(model.parameters(), lr=1e-7, **options)
    if "released" in name:
        optimizer.release_gradients()
    for step in range(1 + steps):
        if step == 1:
            count_peak_anew()
        model(**data).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return (process_memory("VmHWM") - start) / _MIB


if __name__ == "__main__":
    every = {subject.name: subject for quick in (False, True) for subject in subjects(quick)}
    print(_train(every[sys.argv[1]], sys.argv[2]))

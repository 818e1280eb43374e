"""Training steps of GPT-2 with 124 million and 1.5 billion parameters on a CUDA device, with memory and step of AdamW
on the host (`offload=True`) and on the device: `python -m benchmarks.cuda_offload`, where there is a device.

Each form is measured in a process of its own: the median time of a whole step, and the peak of what torch has
allocated on the device. A form for which the device is too small says so. `--dry-run` goes through all of it with a
model of a few thousand parameters on the CPU, where nothing is offloaded, and says nothing about speed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from statistics import median
from typing import Any, NamedTuple

import torch
from transformers import GPT2Config, GPT2LMHeadModel

THEIRS, OURS = "torch.optim", "scirs2_adapters.torch"
TOKENS, WARM, ROUNDS = 256, 2, 10
DRY = "a small GPT-2"
MODELS: dict[str, dict[str, int]] = {
    "GPT-2": {},
    "GPT-2 XL": {"n_layer": 48, "n_head": 25, "n_embd": 1600},
    DRY: {"n_layer": 1, "n_head": 2, "n_embd": 16, "vocab_size": 64},
}


class Form(NamedTuple):
    """An AdamW: whose, of which parameters, with which options, and whether gradients are released."""

    module: str
    dtype: torch.dtype
    options: dict[str, Any]
    released: bool = False


_CODED = {"state_dtype": "int8", "rounding": "compensated"}
FORMS: dict[str, Form] = {
    "torch, fused": Form(THEIRS, torch.float32, {"fused": True}),
    "ours on the device": Form(OURS, torch.float32, {}),
    "offload": Form(OURS, torch.float32, {"offload": True}),
    "offload, max_grad_norm": Form(OURS, torch.float32, {"offload": True, "max_grad_norm": 1.0}),
    "offload, released gradients": Form(OURS, torch.float32, {"offload": True}, released=True),
    "bfloat16, int8, compensated, on the device": Form(OURS, torch.bfloat16, _CODED),
    "bfloat16, int8, compensated, offload": Form(OURS, torch.bfloat16, {"offload": True, **_CODED}),
}


class Measured(NamedTuple):
    """Milliseconds of a training step, and MiB at the peak on the device."""

    step: float
    peak: float


def measure(name: str, form: Form, dry: bool) -> Measured:
    """Trains a model and measures it."""
    device = torch.device("cpu" if dry else "cuda")
    wait: Callable[[], object] = (lambda: None) if dry else torch.cuda.synchronize
    torch.manual_seed(0)
    with device:
        model = GPT2LMHeadModel(GPT2Config(**MODELS[name])).to(form.dtype).train()
        words = torch.randint(0, model.config.vocab_size, (1, 8 if dry else TOKENS))
    optimizer = import_module(form.module).AdamW(model.parameters(), lr=1e-6, **form.options)
    if form.released:
        optimizer.release_gradients()
    times: list[float] = []
    for i in range(WARM + (2 if dry else ROUNDS)):
        if i == WARM and not dry:
            torch.cuda.reset_peak_memory_stats()
        wait()
        start = time.perf_counter()
        optimizer.zero_grad()
        model(input_ids=words, labels=words).loss.backward()
        optimizer.step()
        wait()
        times.append(time.perf_counter() - start)
    return Measured(median(times[WARM:]) * 1e3, 0.0 if dry else torch.cuda.max_memory_allocated() / (1 << 20))


def _row(model: str, form: str, dry: bool) -> str:
    """A line of the table; but for a dry run it is measured in a process of its own."""
    if dry:
        return _shown(measure(model, FORMS[form], dry))
    out = subprocess.run([sys.executable, "-m", __spec__.name, model, form], capture_output=True, text=True)
    if out.returncode == 0:
        return out.stdout.splitlines()[-1]
    if "OutOfMemoryError" in out.stderr:
        return f"{'the device is too small':>24}"
    raise RuntimeError(out.stderr)


def _shown(measured: Measured) -> str:
    return f"{measured.step:12.1f} {measured.peak:12.0f}"


def main(arguments: list[str]) -> None:
    """Prints the table, or what one process has measured."""
    dry = "--dry-run" in arguments
    names = [word for word in arguments if word != "--dry-run"]
    if names:
        print(_shown(measure(names[0], FORMS[names[1]], dry)))
        return
    if not (dry or torch.cuda.is_available()):
        raise SystemExit("There is no CUDA device. Use --dry-run to see whether all of it runs.")
    print(f"{'':56} {'step, ms':>12} {'peak, MiB':>12}")
    for model in [DRY] if dry else [name for name in MODELS if name != DRY]:
        for form in FORMS:
            print(f"{f'{model}: {form}':56}", _row(model, form, dry), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

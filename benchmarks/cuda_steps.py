"""Steps on a CUDA device against torch's own forms: `python -m benchmarks.cuda_steps`, where there is a device."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch

from scirs2_adapters import torch as adapter

SIZES = {"50 x 2,000": [2_000] * 50, "300 mixed, 10 M": [256, 100, 99_644] * 100, "50 M in 100": [500_000] * 100}
SIZES["500 M in 100"] = [5_000_000] * 100
ROUNDS = 30


def parameters(sizes: list[int]) -> list[torch.nn.Parameter]:
    params = [torch.nn.Parameter(torch.randn(n, device="cuda")) for n in sizes]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def milliseconds(step: Callable[[], Any]) -> float:
    """Of the device, from the first launch to the end of the last kernel."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    step()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def main() -> None:
    """Prints a table: milliseconds of each, interleaved, medians."""
    for name, forms in (("AdamW", ("fused", "foreach")), ("SGD", ("fused", "foreach")), ("RMSprop", ("foreach",))):
        options = {"momentum": 0.9} if name == "SGD" else {}
        for label, sizes in SIZES.items():
            params = parameters(sizes)
            run = {"ours": getattr(adapter, name)(params, **options).step}
            run["ours, traced"] = getattr(adapter, name)(params, **options, kernel="traced").step
            run |= {form: getattr(torch.optim, name)(params, **options, **{form: True}).step for form in forms}
            times: dict[str, list[float]] = {key: [] for key in run}
            for step in (step for step in run.values() for _ in range(3)):
                step()
            for _ in range(ROUNDS):
                for key, step in run.items():
                    times[key].append(milliseconds(step))
            medians = {key: statistics.median(samples) for key, samples in times.items()}
            print(f"{name:8} {label:16}", "  ".join(f"{k} {v:.3f} ms" for k, v in medians.items()), flush=True)
            del params, run


if __name__ == "__main__":
    main()

"""Steps on a CUDA device against torch's optimizers: `python -m benchmarks.cuda_steps` prints a table and writes it to
docs/cuda.json, after each case. It takes at most 10 minutes: a case has `SECONDS`, and what does not fit in `LIMIT` or
fails is named. JAX's steps against optax's come last, where JAX has a device too.

`--dry-run` needs no device: with a stub in the place of Triton's launcher it prints the time until a step returns, and
how many launches, copies and bytes it takes.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scirs2_adapters import torch as adapter
from scirs2_adapters.core import get
from scirs2_adapters.core.program.passes import Pass, split_passes
from scirs2_adapters.core.program.recorded import Program, record
from scirs2_adapters.core.slots import Extent, Leaf

from .cuda_stub import counted, obstacle, with_kernels

SIZES = {
    "50 x 2,000": [2_000] * 50,
    "304 mixed, 10 M": [256, 100, 98_500] * 100 + [60_000] * 4,
    "50 M in 100": [500_000] * 100,
    "400 M in 200": [2_000_000] * 200,
}


@dataclass(frozen=True)
class Case:
    """An optimizer with its options, and torch's optimizers that it is measured against with theirs. What torch's class
    of the same name is given as well is in `common`.
    """

    name: str
    peers: Sequence[tuple[str, Mapping[str, Any]]]
    common: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the table and the results call it."""
        words = ", ".join(f'{key}="{value}"' for key, value in self.options.items())
        return f"{self.name}({words})" if words else self.name


CASES = [
    Case("AdamW", [("AdamW", {"fused": True}), ("AdamW", {"foreach": True})]),
    Case("SGD", [("SGD", {"fused": True}), ("SGD", {"foreach": True})], common={"momentum": 0.9}),
    Case("Lion", [("AdamW", {"fused": True})]),
    Case("RMSprop", [("RMSprop", {"foreach": True})]),
    Case("NAdam", [("NAdam", {"foreach": True})]),
    Case("LAMB", [("AdamW", {"fused": True})]),
    Case("Adafactor", [("Adafactor", {"foreach": True})]),
    Case("Prodigy", [("AdamW", {"fused": True})]),
    Case("Muon", [("Muon", {})]),
    # Both iterate in bfloat16; the one above does so in float32.
    Case("Muon", [("Muon", {})], options={"match": "torch"}),
]
#: Rounds and seconds of a case, and seconds of all.
ROUNDS, SECONDS, LIMIT = 30, 12, 540
OUTPUT = Path(__file__).parents[1] / "docs" / "cuda.json"


def shapes(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Matrices of so many numbers, as near to squares as they can be."""
    rows = [next(k for k in range(math.isqrt(n), 0, -1) if n % k == 0) for n in sizes]
    return [(k, n // k) for k, n in zip(rows, sizes, strict=True)]


def traffic(name: str) -> int | None:
    """Bytes that the kernels of an optimizer read and write for each number in float32, or None without kernels."""
    if obstacle(get(name).name):
        return None
    leaf, options = Leaf((40, 50), "float32"), next((case.common for case in CASES if case.name == name), {})
    program = record(get(name)(**options).route(leaf), leaf)
    return 4 * sum(len(this.stores) + _reads(program, this) for this in split_passes(program, "p"))


def _reads(program: Program, this: Pass) -> int:
    """How often a pass reads a number; one that sums along rows and columns goes over all twice."""
    whole = {a.node for a in this.arrays if a.extent is Extent.FULL and a.node >= 0}
    if not this.columns:
        return len(whole)
    ways = (*this.rows, *this.sums), this.columns
    return sum(len(whole.intersection(program.order(list(sums), whole))) for sums in ways)


def milliseconds(step: Callable[[], Any]) -> tuple[float, float]:
    """Of the device, from the first launch to the end of the last kernel, and until the call returns."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    begun = time.perf_counter()
    step()
    host = 1e3 * (time.perf_counter() - begun)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)), host


def captured(step: Callable[[], Any]) -> Callable[[], Any]:
    """A graph of the step, to be replayed."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def optimizers(case: Case, params: list[torch.nn.Parameter]) -> dict[str, Callable[[], Any]]:
    """The steps to compare, eager and, where the optimizer can be captured, captured."""
    makers = {"ours": (getattr(adapter, case.name), {**case.common, **case.options})}
    for name, more in case.peers:
        if hasattr(torch.optim, name):
            form = f"torch {name} {next(iter(more), '')}".strip()
            makers[form] = getattr(torch.optim, name), {**(case.common if name == case.name else {}), **more}
    steps: dict[str, Callable[[], Any]] = {}
    for form, (cls, chosen) in makers.items():
        steps[form] = cls(params, lr=1e-6, **chosen).step
        can = "capturable" in inspect.signature(cls).parameters
        if can or cls is torch.optim.SGD:
            steps[f"{form}, captured"] = captured(
                cls(params, lr=1e-6, **chosen, **{"capturable": True} if can else {}).step
            )
    return steps


def measured(case: Case, sizes: Sequence[int], copy: float) -> dict[str, dict[str, float]]:
    """Medians of each, interleaved; `copy` are the gigabytes a second of a copy on the device."""
    params = [torch.nn.Parameter(torch.randn(shape, device="cuda")) for shape in shapes(sizes)]
    for p in params:
        p.grad = torch.randn_like(p)
    steps = optimizers(case, params)
    for step in (step for step in steps.values() for _ in range(3)):
        step()
    times: dict[str, list[tuple[float, float]]] = {form: [] for form in steps}
    begun = time.monotonic()
    while len(times["ours"]) < ROUNDS and time.monotonic() - begun < SECONDS:
        for form, step in steps.items():
            times[form].append(milliseconds(step))
    rows = {}
    for form, samples in times.items():
        ms, host = (statistics.median(column) for column in zip(*samples, strict=True))
        rows[form] = {"ms": ms, "host_ms": host}
        moved = traffic(case.name)
        if form.startswith("ours") and moved:
            speed = moved * sum(sizes) / ms / 1e6
            rows[form] |= {"gigabytes": speed, "of_copy": speed / copy}
    for form, row in rows.items():
        ours = rows["ours, captured" if form.endswith("captured") else "ours"]
        row["ours_to_it"] = ours["ms"] / row["ms"]
    return rows


def copy_speed() -> float:
    """Gigabytes a second of a copy of 1 GiB on the device, read and written."""
    x = torch.empty(1 << 28, device="cuda")
    y = torch.empty_like(x)
    times = [milliseconds(lambda: y.copy_(x))[0] for _ in range(10)]
    return 8 * x.numel() / statistics.median(times) / 1e6


def line(case: str, label: str, form: str, row: dict[str, float]) -> str:
    """A row of the table in Markdown."""
    speed = f"{row['gigabytes']:,.0f} | {row['of_copy']:.0%}" if "gigabytes" in row else "- | -"
    return f"| {case} | {label} | {form} | {row['ms']:.3f} | {row['host_ms']:.3f} | {speed} | {row['ours_to_it']:.2f} |"


def on_a_card(output: Path) -> None:
    """Measures all cases, and writes them with the name of the card."""
    begun, copy = time.monotonic(), copy_speed()
    card = torch.cuda.get_device_name()
    print(f"{card}, torch {torch.__version__}, copy {copy:,.0f} GB/s", flush=True)
    print("| | parameters | | ms | host ms | GB/s | of the copy | ours / it |\n| - | - | - | - | - | - | - | - |")
    kept: dict[str, Any] = {"card": card, "torch": torch.__version__, "copy": copy, "cases": {}, "left_out": {}}
    results = Results(output, begun, kept)
    for case in CASES:
        for label, sizes in SIZES.items():
            rows = results.take(kept["cases"], f"{case.label}, {label}", partial(measured, case, sizes, copy))
            torch.cuda.empty_cache()
            for form, row in rows.items():
                print(line(case.label, label, form, row), flush=True)
    with_jax(results)


class Results:
    """What has been measured, in a file after each case: a run that is cut off leaves what it had. What fails is left
    out with its error, and the run goes on.
    """

    def __init__(self, output: Path, begun: float, kept: dict[str, Any]) -> None:
        self.output, self.begun, self.kept = output, begun, kept
        self.save()

    def take(self, cases: dict[str, Any], name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Measures a case, if there is time, puts it into `cases`, and saves; what was measured, or nothing."""
        reason, rows = "no time was left", dict[str, Any]()
        if time.monotonic() - self.begun <= LIMIT - 2 * SECONDS:
            try:
                rows = measure()
            except Exception as error:
                reason = f"{type(error).__name__}: {str(error)[:500]}"
        if rows:
            cases[name] = rows
        else:
            self.kept["left_out"][name] = reason
            print(f"{name}: not measured, {reason}", flush=True)
        self.save()
        return rows

    def save(self) -> None:
        """Writes the file; whoever stops the run then finds this one or the one before, and no half."""
        half = self.output.with_suffix(".part")
        half.write_text(json.dumps(self.kept, indent=1) + "\n")
        half.replace(self.output)


def with_jax(results: Results) -> None:
    """Takes JAX's steps against optax's, or notes why there are none."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch has memory of the card
    from . import cuda_jax

    if cuda_jax.jax.default_backend() != "gpu":
        results.kept["left_out"]["JAX"] = "it has no CUDA device"
        return results.save()
    print("| | parameters | ms | optax | ratio | compile s | optax | ratio |\n| - | - | - | - | - | - | - | - |")
    cases = results.kept["jax"] = {}
    for name, options in cuda_jax.CASES:
        for label, sizes in list(SIZES.items())[:3]:
            rows = results.take(cases, f"JAX {name}, {label}", partial(cuda_jax.measured, name, options, sizes, ROUNDS))
            if rows:
                print(cuda_jax.line(name, label, rows), flush=True)


def dry_run(rounds: int) -> None:
    """Prints what a step does, with a stub in the place of the launcher."""
    print("Host time of the thread with a stub launcher, in ms, and what a step sends; the second if gradients moved.")
    head = f"{'':24} {'':16} {'launches':>8} {'host':>7} {'':>7} {'copies':>6} {'':>3} {'bytes':>8} {'':>8}"
    print(head)
    chosen = [(get(case.name).name, label, {**case.common, **case.options}) for case in CASES for label in SIZES]
    small = next(iter(SIZES))
    known = {name for name, *_ in chosen}
    chosen += [(name, small, {}) for name in with_kernels() if name not in known]
    for name, label, options in chosen:
        if reason := obstacle(name):
            as_in = f" as in {match}" if (match := options.get("match")) else ""
            print(f"{name + as_in:24} {label:16} torch's operations: {reason}")
            continue
        c = counted(name, list(shapes(SIZES[label])), options, rounds)
        numbers = f"{c.launches:8} {c.host:7.3f} {c.moved_host:7.3f} {c.copies:6} {c.moved_copies:3}"
        print(f"{name:24} {label:16} {numbers} {c.sent:8} {c.moved_sent:8}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, or says what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda_steps", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="needs no device; a stub stands in its place")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="steps of each case of a dry run")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    chosen = parser.parse_args(arguments)
    if chosen.dry_run:
        dry_run(chosen.rounds)
    elif not torch.cuda.is_available():
        print("There is no CUDA device here. `--dry-run` counts launches without one.", file=sys.stderr)
        return 2
    else:
        on_a_card(chosen.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())

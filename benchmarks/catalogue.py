"""A step of every optimizer beside AdamW's: `python -m benchmarks.catalogue` writes docs/catalogue.json.

All step the tensors of four transformer blocks of width 256 and an embedding, 4 million float32 numbers in matrices and
vectors, by the numpy optimizer: each optimizer in turn with AdamW, ten steps at a time, as some do more work every few
steps. `ratio` is the median of the ratios of neighbors. Beside it stand `bytes`, what the passes of a step read and
write, and `reads`, what they read, by what AdamW's do: a rule that does nothing but move memory has a ratio of about
the first where a write takes as long as a read, and of about the second where it is hidden behind reads.
`python docs/catalogue.py` shows them in docs/catalogue.md; optimizers that are not measured now keep what was measured
before.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scirs2_adapters import get, names
from scirs2_adapters.core import HostOptimizer, Rule
from scirs2_adapters.core.program.explain import pass_bytes
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.registry import with_value
from scirs2_adapters.core.slots import Leaf
from scirs2_adapters.demo.timing import compare, seconds, side_by_side

from .report import machine

FILE = Path(__file__).resolve().parents[1] / "docs/catalogue.json"
WIDTH, WORDS, BLOCKS = 256, 3400, 4
#: A step may take this many times longer than AdamW's, for each byte that it moves or reads.
ALLOWED = 1.15
#: Those that step by gradients alone, and those that the loss is told.
NAMES = (*names(), *with_value())
#: Steps at a time, and seconds for one optimizer.
REPEAT, BUDGET = 10, 6.0
Shapes = dict[str, tuple[int, ...]]
Result = dict[str, float | str]


def shapes(width: int = WIDTH, words: int = WORDS) -> Shapes:
    """The parameters by name, kernels with a row for each output."""
    linear = {"attn.qkv": (3 * width, width), "attn.out": (width, width)}
    linear |= {"mlp.up": (4 * width, width), "mlp.down": (width, 4 * width)}
    parameters: Shapes = {"embedding.weight": (words, width)}
    for block in map(str, range(BLOCKS)):
        for name, shape in linear.items():
            parameters |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
        parameters |= dict.fromkeys((f"{block}.norm.weight", f"{block}.norm.bias"), (width,))
    return parameters


class Moved(NamedTuple):
    """Bytes that the passes of one step read, and those that they write."""

    read: int
    written: int


def moved(rule: Rule, sizes: Shapes) -> Moved:
    """What a step over these parameters moves."""
    total_read = total_written = 0
    for name, shape in sizes.items():
        leaf = Leaf(shape, "float32", name)
        for read, written in pass_bytes(record(rule.route(leaf), leaf), leaf):
            total_read += math.prod(shape) * read
            total_written += math.prod(shape) * written
    return Moved(total_read, total_written)


def stepper(name: str, sizes: Shapes) -> tuple[HostOptimizer, Callable[[], None]]:
    """An optimizer with its defaults over parameters of its own, and its step."""
    rng = np.random.default_rng(0)
    params, grads = ({k: rng.standard_normal(s, np.float32) for k, s in sizes.items()} for _ in range(2))
    optimizer = HostOptimizer(get(name)(), params)
    return optimizer, lambda: optimizer.step(grads, value=1.0)


def measured(name: str, sizes: Shapes, budget: float = BUDGET) -> Result:
    """What there is to say of one optimizer."""
    optimizer, step = stepper(name, sizes)
    other, reference = stepper("adamw", sizes)
    for function in (step, reference):  # compiles
        function()
    both = seconds(step) + seconds(reference)
    times = side_by_side([step, reference], min(25, max(1, int(budget / REPEAT / both))), REPEAT)
    memory, pair = optimizer.memory(), compare(*times)
    state = sum(sum(by_dtype.values()) for by_dtype in memory.state.values())
    mine, adamw = moved(optimizer.rule, sizes), moved(other.rule, sizes)
    return {
        "ratio": round(pair.ratio, 3),
        "bytes": round(sum(mine) / sum(adamw), 3),
        "reads": round(mine.read / adamw.read, 3),
        "milliseconds": round(1e3 * pair.ours, 3),
        "state": round(state / memory.numbers, 3),
    }


def exceeds(row: Result) -> bool:
    """Whether a step takes longer than its bytes, and than its reads, at AdamW's bandwidth allow."""
    return float(row["ratio"]) > ALLOWED * max(float(row["bytes"]), float(row["reads"]))


def rows(wanted: list[str], budget: float = BUDGET) -> Iterator[tuple[str, Result]]:
    """Each optimizer with what was measured, and where and when."""
    sizes = shapes() if budget else shapes(16, 50)
    for name in wanted:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan
        run = {"machine": machine(), "date": str(datetime.date.today()), "load": round(load, 1)}
        yield name, measured(name, sizes, budget) | run


def remembered(file: Path = FILE) -> dict[str, Result]:
    """What was measured before, by optimizer."""
    results: dict[str, Result] = json.loads(file.read_text()) if file.is_file() else {}
    return results


def line(name: str, row: Result) -> str:
    """One optimizer as it is printed."""
    mark = "more than it moves" if exceeds(row) else ""
    numbers = " ".join(f"{row[key]:>8.2f}" for key in ("ratio", "bytes", "reads", "state"))
    return f"{name:<26} {numbers}  {mark}".rstrip()


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catalogue", description=__doc__)
    parser.add_argument("--only", default=",".join(NAMES), help="optimizers by comma (default: all)")
    parser.add_argument("--quick", action="store_true", help="a small model, to see that it runs; writes nothing")
    chosen = parser.parse_args(arguments)
    if unknown := set(wanted := chosen.only.split(",")) - set(NAMES):
        parser.error(f"`--only` must name some of {', '.join(NAMES)}. Received: {min(unknown)!r}.")
    print(f"{'':<26} {'time':>8} {'bytes':>8} {'reads':>8} {'state':>8}")
    results = remembered()
    for name, row in rows(wanted, 0.0 if chosen.quick else BUDGET):
        results[name] = row
        print(line(name, row), flush=True)
        if not chosen.quick:  # at once: all of them take minutes
            FILE.write_text(json.dumps({k: results[k] for k in sorted(results) if k in NAMES}, indent=1) + "\n")


if __name__ == "__main__":
    main()

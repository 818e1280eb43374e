"""Keras on TensorFlow: `optimizer.apply` in a graph, compiled by XLA and eagerly, ours against Keras' own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from scirs2_adapters import tf as ours

from .row import Model, Row, count_peak_anew, measure, models, process_memory

#: Ours of which a step with a sparse gradient is one of its rows, and what Keras has in its place.
BY_ROWS = {"SGD": "SGD", "Adagrad": "Adagrad", "SparseAdam": "Adam"}
WIDTH = 64


#: What is stepped in each way, with which arguments besides the learning rate, which is so small that nothing grows.
RULES: dict[str, dict[str, float]] = {"AdamW": {}, "SGD": {"momentum": 0.9}, "Lion": {}}
WAYS = {"in a graph": ("AdamW", "SGD", "Lion"), "by XLA": ("AdamW", "SGD"), "eagerly": ("AdamW",)}
#: Models besides those that all are stepped on.
LARGEST = {("AdamW", "in a graph"): [Model("100 tensors, 200 M", (2_000_000,) * 100)]}


def rows(quick: bool) -> Iterator[Row]:
    """Three optimizers on three models, and rows of a large embedding."""
    for way, names in WAYS.items():
        for name in names:
            for model in [*models(quick), *([] if quick else LARGEST.get((name, way), []))]:
                yield from _compare(name, model, way)
    yield from embedding(quick)


def embedding(quick: bool) -> Iterator[Row]:
    """A table of which a batch has few rows, with the memory that a step takes for a time."""
    count, touched = (20_000, 100) if quick else (1_000_000, 1_000)
    for name, its in BY_ROWS.items():
        classes = {"ours": name, "keras": its}
        mine, theirs = (_of_rows(whose, cls, count, touched) for whose, cls in classes.items())
        mine_peak, their_peak = (_peak(whose, cls, count, touched) for whose, cls in classes.items())
        case = f"{name} in a graph, {touched:,} rows of an embedding of {count:,} x {WIDTH}"
        for row in measure("keras", case, mine, {f"keras.optimizers.{its}, graph": theirs}, (10, 2)):
            yield replace(row, parts={"peak, MiB": (mine_peak, their_peak)})


def _of_rows(whose: str, name: str, count: int, touched: int) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    indices, values = rng.integers(0, count, touched), rng.standard_normal((touched, WIDTH), dtype=np.float32)
    g = tf.IndexedSlices(tf.constant(values), tf.constant(indices), tf.constant([count, WIDTH]))
    cls = getattr(ours if whose == "ours" else keras.optimizers, name)
    return _stepper(cls(learning_rate=1e-6), [g], [keras.Variable(keras.ops.ones((count, WIDTH)))])


def _peak(*arguments: str | int) -> float:
    """MiB by which steps raise the peak of memory, in a process of its own, where none has been kept for reuse."""
    command = [sys.executable, "-m", __spec__.name, *map(str, arguments)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def _raised(step: Callable[[], object]) -> float:
    start = process_memory("VmRSS")
    count_peak_anew()
    for _ in range(3):
        step()
    return (process_memory("VmHWM") - start) / (1 << 20)


def _compare(name: str, model: Model, way: str) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    grads = [tf.constant(rng.standard_normal(n, dtype=np.float32)) for n in model.sizes]
    mine, theirs = (
        _stepper(getattr(classes, name)(learning_rate=1e-6, **RULES[name]), grads, _variables(model), way)
        for classes in (ours, keras.optimizers)
    )
    case = f"{name}{' with momentum' if RULES[name] else ''} {way}, {model.name}"
    rounds, steps = model.rounds
    yield from measure("keras", case, mine, {f"keras.optimizers.{name}, {way}": theirs}, (rounds, max(1, steps // 2)))


def _variables(model: Model) -> list[keras.Variable]:
    """New ones for each optimizer: what two of them step in turn, each takes out of the other's memory."""
    rng = np.random.default_rng(1)
    return [keras.Variable(rng.standard_normal(n, dtype=np.float32)) for n in model.sizes]


def _stepper(optimizer: Any, grads: Any, variables: Any, way: str = "in a graph") -> Callable[[], object]:
    optimizer.build(variables)

    def one() -> Any:
        optimizer.apply(grads, variables)
        return optimizer.iterations.value

    call = one if way == "eagerly" else tf.function(one, jit_compile=way == "by XLA")
    return lambda: call().numpy()


if __name__ == "__main__":
    whose, name, count, touched = sys.argv[1:]
    print(_raised(_of_rows(whose, name, int(count), int(touched))))

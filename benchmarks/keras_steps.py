"""Keras on TensorFlow: `optimizer.apply` in a graph, ours against Keras' own."""

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


def rows(quick: bool) -> Iterator[Row]:
    """AdamW on three models, Lion on the mixed one, and rows of a large embedding."""
    for model in models(quick):
        yield from _compare("AdamW", ours.AdamW, keras.optimizers.AdamW, model)
    yield from _compare("Lion", ours.Lion, keras.optimizers.Lion, models(quick)[1])
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


def _peak(*given: str | int) -> float:
    """MiB by which steps raise the peak of memory, in a process of its own, where none has been kept for reuse."""
    command = [sys.executable, "-m", __spec__.name, *map(str, given)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def _raised(step: Callable[[], object]) -> float:
    start = process_memory("VmRSS")
    count_peak_anew()
    for _ in range(3):
        step()
    return (process_memory("VmHWM") - start) / (1 << 20)


def _compare(name: str, mine: Any, theirs: Any, model: Model) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    grads = [tf.constant(rng.standard_normal(n, dtype=np.float32)) for n in model.sizes]
    variables = [keras.Variable(rng.standard_normal(n, dtype=np.float32)) for n in model.sizes]
    our_step, their_step = (_stepper(cls(learning_rate=1e-6), grads, variables) for cls in (mine, theirs))
    baseline = {f"keras.optimizers.{name}, graph": their_step}
    yield from measure("keras", f"{name} in a graph, {model.name}", our_step, baseline, model.rounds)


def _stepper(optimizer: Any, grads: Any, variables: Any) -> Callable[[], object]:
    optimizer.build(variables)

    @tf.function
    def one() -> Any:
        optimizer.apply(grads, variables)
        return optimizer.iterations.value

    return lambda: one().numpy()


if __name__ == "__main__":
    whose, name, count, touched = sys.argv[1:]
    print(_raised(_of_rows(whose, name, int(count), int(touched))))

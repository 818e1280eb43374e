"""Keras on the backend of this process: `model.fit`, and on JAX and PyTorch `optimizer.apply`, ours against Keras'."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from scirs2_adapters import tf as ours

from .row import Model, Row, measure, models

BACKEND = keras.backend.backend()
GROUP = "keras fit" if BACKEND == "tensorflow" else f"keras {BACKEND}"
RULES: dict[str, dict[str, float]] = {"AdamW": {}, "SGD": {"momentum": 0.9}}
#: How `compile` compiles: on TensorFlow "auto" is XLA, and False a graph.
WAYS: dict[str, Any] = {"": "auto", ", jit_compile=False": False} if BACKEND == "tensorflow" else {"": "auto"}


def mlp() -> list[keras.Layer]:
    """Three layers of 256, of 28 x 28 numbers."""
    dense = [keras.layers.Dense(256, "relu") for _ in range(3)]
    return [keras.layers.Flatten(), *dense, keras.layers.Dense(10)]


def cnn() -> list[keras.Layer]:
    """Two convolutions with pooling, and a layer of 64."""
    first, second = (keras.layers.Conv2D(filters, 3, activation="relu") for filters in (16, 32))
    pool = [keras.layers.MaxPooling2D(), keras.layers.MaxPooling2D()]
    dense = [keras.layers.Flatten(), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)]
    return [first, pool[0], second, pool[1], *dense]


def rows(quick: bool) -> Iterator[Row]:
    """Each optimizer in `fit` of two models, and in steps by themselves."""
    for name in RULES:
        for what, layers in {"MLP": mlp, "CNN": cnn}.items():
            for way, jit in WAYS.items():
                yield from _compare_fit(name, what, layers, way, jit, 4 if quick else 50)
        for model in models(quick)[:2] if BACKEND != "tensorflow" else ():
            yield from _compare_apply(name, model)


def _case(name: str) -> str:
    return f"{name}{' with momentum' if RULES[name] else ''}"


def _compare_fit(
    name: str, what: str, layers: Callable[[], list[keras.Layer]], way: str, jit: Any, batches: int
) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    x, y = rng.random((batches * 64, 28, 28, 1), dtype=np.float32), rng.integers(0, 10, batches * 64)
    mine, theirs = (
        _fitter(getattr(classes, name)(learning_rate=1e-5, **RULES[name]), layers(), jit, x, y)
        for classes in (ours, keras.optimizers)
    )
    case = f"{_case(name)}, fit of a small {what}, {batches} batches of 64{way}"
    yield from measure(GROUP, case, mine, {f"keras.optimizers.{name}": theirs}, (10, 1))


def _fitter(optimizer: Any, layers: list[keras.Layer], jit: Any, x: Any, y: Any) -> Callable[[], object]:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(x.shape[1:]), *layers])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=jit)
    return lambda: model.fit(x, y, batch_size=64, verbose=0)


def _compare_apply(name: str, model: Model) -> Iterator[Row]:
    arguments = {"learning_rate": 1e-6, **RULES[name]}
    mine, theirs = (_stepper(getattr(classes, name)(**arguments), model) for classes in (ours, keras.optimizers))
    rounds, steps = model.rounds
    case = f"{_case(name)}, apply, {model.name}"
    yield from measure(GROUP, case, mine, {f"keras.optimizers.{name}": theirs}, (rounds, max(1, steps // 4)))


def _stepper(optimizer: Any, model: Model) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    numbers = [rng.standard_normal(n, dtype=np.float32) for n in model.sizes]
    variables, grads = [keras.Variable(x) for x in numbers], [keras.ops.convert_to_tensor(x) for x in numbers]
    optimizer.build(variables)

    def step() -> None:
        optimizer.apply(grads, variables)
        for variable in variables if BACKEND == "jax" else ():
            variable.value.block_until_ready()

    return step

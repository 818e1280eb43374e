"""Keras on TensorFlow: `optimizer.apply` in a graph, ours against Keras' own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from scirs2_adapters import tf as ours

from .row import Model, Row, measure, models


def rows(quick: bool) -> Iterator[Row]:
    """AdamW on three models, and Lion on the mixed one."""
    for model in models(quick):
        yield from _compare("AdamW", ours.AdamW, keras.optimizers.AdamW, model)
    yield from _compare("Lion", ours.Lion, keras.optimizers.Lion, models(quick)[1])


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

"""`skip_nonfinite`: a step that is not finite changes nothing and is counted. On whatever backend Keras has;
`test_tf_backends` runs this file on the others.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import ops

from scirs2_adapters import tf as adapter

from .tf_support import GRADS, KERAS_READS, NAMES, RATE, apply, apply_stateless, keras_class, network, values, variables

pytestmark = KERAS_READS

BACKEND = keras.backend.backend()
#: How steps are taken: one call at a time, and as a training loop takes them.
STEPPERS = {"eager": apply, "compiled": apply_stateless if BACKEND == "jax" else apply}
if BACKEND == "tensorflow":
    import tensorflow as tf

    def in_graph(optimizer: keras.Optimizer, xs: list, grads: list = GRADS) -> list:
        @tf.function
        def step(gs: list) -> None:
            optimizer.apply(gs, xs)

        for gs in grads:
            step([tf.convert_to_tensor(g, dtype=x.dtype) for g, x in zip(gs, xs, strict=True)])
        return values(xs)

    STEPPERS["compiled"] = in_graph
each_stepper = pytest.mark.parametrize("stepper", STEPPERS.values(), ids=STEPPERS)


def spoiled(value: float, at: int = 0) -> list[np.ndarray]:
    """Gradients of which one element is not what it should be."""
    gs = [g.copy() for g in GRADS[1]]
    gs[at].reshape(-1)[-1] = value
    return gs


def state(optimizer: keras.Optimizer, xs: list) -> list[np.ndarray]:
    return [np.array(ops.convert_to_numpy(v)) for v in [*xs, *optimizer.variables]]


def unchanged(before: list[np.ndarray], after: list[np.ndarray]) -> None:
    """All bit for bit, but for the count at the end."""
    for a, b in zip(before[:-1], after[:-1], strict=True):
        np.testing.assert_array_equal(a, b)


@each_stepper
@pytest.mark.parametrize("name", NAMES)
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(name: str, stepper: Callable) -> None:
    made, xs = keras_class(name)(learning_rate=RATE, skip_nonfinite=True), variables()
    made.build(xs)
    stepper(made, xs, GRADS[:1])
    before = state(made, xs)
    stepper(made, xs, [spoiled(np.nan, 3), spoiled(np.inf), spoiled(-np.inf, 1)])
    after = state(made, xs)
    unchanged(before, after)
    assert (int(before[-1]), int(after[-1])) == (0, 3)
    assert int(ops.convert_to_numpy(made.skipped_steps)) == 3
    stepper(made, xs, GRADS[1:4])
    same, ys = keras_class(name)(learning_rate=RATE), variables()
    same.build(ys)
    stepper(same, ys, GRADS[:4])
    for a, b in zip(state(same, ys), state(made, xs)[:-1], strict=True):  # a graph with a branch rounds otherwise
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-12)


def test_nothing_is_there_that_nobody_asked_for() -> None:
    plain, asked = adapter.AdamW(RATE), adapter.AdamW(RATE, skip_nonfinite=True)
    assert plain.skipped_steps == asked.skipped_steps == 0
    for made in (plain, asked):
        made.build(variables())
    assert plain.skipped_steps == 0
    assert [v.path.split("/")[1] for v in asked.variables] == [
        *(v.path.split("/")[1] for v in plain.variables),
        "skipped_steps",
    ]
    with pytest.raises(TypeError, match=r"`AdamW\(skip_nonfinite=...\)` must be True or False"):
        adapter.AdamW(skip_nonfinite=1)
    with pytest.raises(ValueError, match="once the optimizer is built"):
        plain.skip_nonfinite = True


@each_stepper
@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_it_sees_gradients_before_they_are_clipped(clip: str, stepper: Callable) -> None:
    made, xs = adapter.SGD(RATE, skip_nonfinite=True, **{clip: 1.0}), variables()
    made.build(xs)
    before = state(made, xs)
    stepper(made, xs, [spoiled(np.inf), spoiled(np.nan)])
    unchanged(before, state(made, xs))
    assert all(np.isfinite(x).all() for x in stepper(made, xs, GRADS[:2]))


@each_stepper
@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm"])
def test_a_norm_that_overflows_is_not_finite(clip: str, stepper: Callable) -> None:
    made, xs = adapter.SGD(RATE, skip_nonfinite=True, **{clip: 1.0}), variables()
    made.build(xs)
    before = state(made, xs)
    stepper(made, xs, [spoiled(1e25)])
    unchanged(before, state(made, xs))
    assert int(ops.convert_to_numpy(made.skipped_steps)) == 1


@each_stepper
def test_another_gradient_takes_the_place_of_one_left_out_of_a_mean(stepper: Callable) -> None:
    arguments = {"gradient_accumulation_steps": 2, "use_ema": True, "ema_overwrite_frequency": 2}
    made, xs = adapter.AdamW(RATE, skip_nonfinite=True, **arguments), variables()[:4]
    made.build(xs)
    short = [gs[:4] for gs in GRADS]
    stepper(made, xs, short[:1])
    before = state(made, xs)
    stepper(made, xs, [spoiled(np.nan)[:4]])
    unchanged(before, state(made, xs))
    stepper(made, xs, short[1:])
    same, ys = adapter.AdamW(RATE, **arguments), variables()[:4]
    same.build(ys)
    stepper(same, ys, short)
    unchanged([*state(same, ys), np.zeros(())], state(made, xs))


def test_a_sum_of_gradients_that_overflows_is_not_finite() -> None:
    made, xs = adapter.AdamW(RATE, skip_nonfinite=True, gradient_accumulation_steps=2), variables()
    apply(made, xs, [spoiled(3e38)])
    before = state(made, xs)
    apply(made, xs, [spoiled(3e38)])
    unchanged(before, state(made, xs))


def test_a_loss_scale_around_it_skips_first_and_counts_for_itself() -> None:
    inner = adapter.AdamW(RATE, skip_nonfinite=True)
    outer, xs = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0), variables()
    outer.build(xs)
    (apply_stateless if BACKEND == "jax" else apply)(outer, xs, [GRADS[0], spoiled(np.inf)])
    assert (int(ops.convert_to_numpy(inner.iterations)), int(ops.convert_to_numpy(inner.skipped_steps))) == (1, 0)


@pytest.mark.slow
def test_a_model_trains_on_after_a_batch_that_is_not_finite() -> None:
    model, x, y = network(adapter.AdamW(0.01, skip_nonfinite=True), jit="auto")
    x[20, 0] = np.nan
    model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())
    counts = [int(ops.convert_to_numpy(v)) for v in (model.optimizer.iterations, model.optimizer.skipped_steps)]
    assert counts == [6, 2]

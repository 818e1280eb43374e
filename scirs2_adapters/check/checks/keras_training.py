"""What Keras does with an optimizer besides stepping it."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from ..drivers.keras import KerasDriver
from ..outcome import expect
from ..problem import MOVES, same_bits


def no_gradients(driver: KerasDriver) -> None:
    """Gradients that are all missing are refused, as Keras does, and change nothing."""
    run = driver.start()
    run.advance(1)
    before = run.params()
    try:
        run.step([None] * len(before))
    except ValueError:
        expect(same_bits(run.params(), before), "parameters unchanged", "a change")
        return
    expect(False, "ValueError", "a step")


def iterations(driver: KerasDriver) -> None:
    """`iterations` counts steps."""
    run = driver.start()
    run.advance(3)
    count = int(ops.convert_to_numpy(run.optimizer.iterations))
    expect(count == 3, "3 after three steps", str(count))


def overflow(driver: KerasDriver) -> None:
    """LossScaleOptimizer leaves out steps whose gradients overflow, and takes those after."""
    inner = driver.create()
    run = driver.over(keras.optimizers.LossScaleOptimizer(inner, initial_scale=4.0))
    grads = driver.problem.gradients(driver.problem.params, 0)
    for factor, moves in ((np.inf, False), (4.0, True)):
        before = run.params()
        for _ in range(MOVES):
            run.step([np.where(g == 0, 0, g * factor) for g in grads])
        moved = not same_bits(run.params(), before)
        expect(moved is moves, "a step" if moves else "no step", "a step" if moved else "no step")


def fit(driver: KerasDriver) -> None:
    """`compile` and `fit` take it, and move every weight."""
    keras.utils.set_random_seed(1)
    x, y = driver.problem.batches[0]
    model = keras.Sequential([keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(y.shape[1])])
    model.build((None, x.shape[1]))
    before = [np.array(w) for w in model.get_weights()]
    model.compile(optimizer=driver.create(), loss="mse")
    losses = model.fit(x, y, epochs=MOVES // 2, batch_size=8, shuffle=False, verbose=0).history["loss"]
    expect(bool(np.isfinite(losses).all()), "losses that are finite", "others")
    moved = [not np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True)]
    expect(all(moved), "all weights moved", "some did not")


CHECKS = (no_gradients, iterations, overflow, fit)

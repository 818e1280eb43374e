"""What Keras' own optimizers lose without a word and ours do not: in copies of a trained model, in assignments once a
step is compiled, in a second `fit`. On whatever backend Keras has; `test_tf_backends` runs this file on the others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from scirs2_adapters import tf as adapter

from .tf_file_support import held, model_of, walk, weights
from .tf_support import KERAS_READS, RATE, fit, network

pytestmark = KERAS_READS


def trained(**options: object) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A model after a compiled epoch, of which one kernel and the biases do not decay."""
    optimizer = adapter.AdamW(RATE, weight_decay=0.5, **options)
    model, x, y = network(optimizer)
    optimizer.exclude_from_weight_decay(var_list=[model.layers[0].kernel], var_names=["bias"])
    fit(model, x, y, 1)
    return model, x, y


def by_file(model: keras.Model, folder: Path) -> keras.Model:
    model.save(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras")


def by_copied_optimizer(model: keras.Model, folder: Path) -> keras.Model:
    again = keras.models.clone_model(model)
    again.set_weights(model.get_weights())
    again.compile(copy.deepcopy(model.optimizer), loss="mse", jit_compile=model.jit_compile)
    return again


WAYS: dict[str, Callable[[keras.Model, Path], keras.Model]] = {
    "file": by_file,
    "clone of the model, copy of the optimizer": by_copied_optimizer,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_copy_of_a_trained_model_goes_on_with_its_memory_and_its_exclusions(
    way: Callable[[keras.Model, Path], keras.Model], tmp_path: Path
) -> None:
    model, x, y = trained()
    again = way(model, tmp_path)
    assert fit(again, x, y, 1) == pytest.approx(fit(model, x, y, 1), rel=1e-6)
    assert [again.optimizer._use_weight_decay(v) for v in again.trainable_variables] == [False, False, True, False]
    for one, other in zip(held(again.optimizer), held(model.optimizer), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


def test_the_file_of_another_optimizer_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    one, other = model_of(adapter.AdamW(RATE)), model_of(adapter.RMSprop(RATE))
    for model in (one, other):
        walk(model, 0, 1)
    one.save_weights(tmp_path / "adamw.weights.h5")
    before = held(other.optimizer)
    with pytest.raises(ValueError, match="holds the memory of `adamw`"):
        other.load_weights(tmp_path / "adamw.weights.h5")
    for then, now in zip(before, held(other.optimizer), strict=True):
        np.testing.assert_array_equal(then, now)


def test_a_changed_copy_goes_on_as_if_the_changes_had_been_seen() -> None:
    """Where nothing is compiled they are seen at the next step."""
    changes = {"beta_1": 0.5, "epsilon": 0.1, "weight_decay": 0.0, "clipnorm": 0.1}
    ends = []
    for eagerly in (False, True):
        model, x, y = network(adapter.AdamW(RATE, weight_decay=0.5))
        model.run_eagerly = eagerly
        fit(model, x, y, 1)
        changed = model.optimizer if eagerly else copy.deepcopy(model.optimizer)
        for word, value in changes.items():
            setattr(changed, word, value)
        if not eagerly:
            model.compile(changed, loss="mse", jit_compile=model.jit_compile)
        fit(model, x, y, 1)
        ends.append(weights(model))
    np.testing.assert_allclose(*ends, rtol=1e-5, atol=1e-6)


def test_a_second_fit_goes_on_from_the_averages(tmp_path: Path) -> None:
    model, x, y = trained(use_ema=True, ema_momentum=0.5)
    again = by_file(model, tmp_path)
    losses = [fit(each, x, y, 1) for each in (model, again)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for each in (model, again):
        averages = each.optimizer._model_variables_moving_average
        for variable, average in zip(each.trainable_variables, averages, strict=True):
            np.testing.assert_array_equal(*map(ops.convert_to_numpy, (variable, average)))
    assert fit(model, x, y, 3)[-1] < losses[0][-1]

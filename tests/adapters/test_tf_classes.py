"""Ftrl, Adafactor's relative step and the files of these and ScheduleFreeAdamW beside Keras' own: formulas and names,
which are the same on every backend.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import scirs2_adapters as s2
from scirs2_adapters import tf as adapter
from scirs2_adapters.core import HostOptimizer

from .tf_file_support import held, model_of, walk, weights
from .tf_support import GRADS, KERAS_READS, PARAMS, RATE, apply, close, keras_class, variables

pytestmark = KERAS_READS

AVERAGING = [name for name in s2.names() if s2.get(name).evaluation is not None]


def of_keras() -> set[str]:
    """The names of all of Keras' own optimizers that step."""
    names = {n for n, c in vars(keras.optimizers).items() if isinstance(c, type) and issubclass(c, keras.Optimizer)}
    return names - {"Optimizer", "LossScaleOptimizer", "MultiOptimizer"}


def test_every_class_of_keras_is_here() -> None:
    assert of_keras() >= {"Ftrl", "SGD", "Adam"}
    assert of_keras() <= set(adapter.__all__)
    missing = [n for n in of_keras() if "keras" not in s2.get(n.lower()).matches]
    assert missing == []


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.3, "initial_accumulator_value": 0.5},
        {"l1_regularization_strength": 2.0, "l2_regularization_strength": 0.1, "beta": 0.5},
        {"l2_shrinkage_regularization_strength": 0.2, "learning_rate_power": -0.7},
        {"learning_rate_power": 0.0},
    ],
    ids=lambda v: "-".join(v) or "plain",
)
def test_ftrl_is_keras_own(options: dict) -> None:
    walks = []
    for cls, more in ((adapter.Ftrl, {"match": "keras"}), (keras.optimizers.Ftrl, {})):
        made, xs = cls(learning_rate=RATE, **options, **more), variables()[:4]
        apply(made, xs, [gs[:4] for gs in GRADS[:4]])
        made.learning_rate = RATE / 2
        walks.append(apply(made, xs, [gs[:4] for gs in GRADS[4:]]))
    close(*walks, 2e-5)
    if "l1_regularization_strength" in options:
        zeros = [w == 0 for w in walks[0]]
        assert sum(z.sum() for z in zeros) > 0
        assert all(np.array_equal(z, w == 0) for z, w in zip(zeros, walks[1], strict=True))


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("rate", [0.01, 0.9])
def test_keras_relative_step_changes_nothing_and_ours_does(relative: bool, rate: float) -> None:
    """Keras' class bounds the rate by 1 / sqrt(t) again where `relative_step` has let it through."""
    cut = [gs[:4] for gs in GRADS]
    theirs = apply(keras.optimizers.Adafactor(rate, relative_step=relative), variables()[:4], cut)
    close(apply(adapter.Adafactor(rate, relative_step=relative, match="keras"), variables()[:4], cut), theirs, 2e-5)
    xs = [p.astype(float) for p in PARAMS[:4]]
    host = HostOptimizer(s2.get("adafactor")(rate, relative_step=relative), xs, layout="inputs_first")
    for gs in cut:
        host.step([np.asarray(g, float) for g in gs])
    ours = apply(adapter.Adafactor(rate, relative_step=relative), variables()[:4], cut)
    close(ours, xs)
    farther = sum(float(np.sum((a - b) ** 2)) for a, b in zip(ours, theirs, strict=True)) ** 0.5
    assert (farther > 1) == (rate == 0.9 and not relative)


def test_keras_schedule_free_file_does_not_say_how_steps_weigh() -> None:
    theirs, xs = keras.optimizers.ScheduleFreeAdamW(RATE), variables()[:2]
    apply(theirs, xs, [gs[:2] for gs in GRADS[:2]])
    theirs.save_own_variables(store := {})
    ours = adapter.ScheduleFreeAdamW(RATE)
    ours.build(xs)
    before = held(ours)
    with pytest.raises(ValueError, match="missing: steps_averaged of"):
        ours.load_own_variables(store)
    assert all(map(np.array_equal, held(ours), before))
    alike = adapter.ScheduleFreeAdamW(RATE, weight_lr_power=0.0)
    alike.build(xs)
    alike.load_own_variables(store)
    for mine, z in zip(alike.slots.entries, theirs._momentums, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(mine.slots["z"]), ops.convert_to_numpy(z))


@pytest.mark.parametrize("name", ["ftrl", "schedulefreeadamw", "adafactor"])
def test_several_optimizers_share_a_model_and_its_file(name: str, tmp_path: Path) -> None:
    def both() -> keras.Optimizer:
        by_pattern = {".*two.*": keras_class(name)(RATE)}
        return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(adapter.AdamW(RATE), by_pattern))

    model, again = model_of(both()), model_of(both())
    walk(model)
    model.save_weights(tmp_path / "a.weights.h5")
    again.load_weights(tmp_path / "a.weights.h5")
    for a, b in zip(held(again.optimizer), held(model.optimizer), strict=True):
        np.testing.assert_array_equal(a, b)
    for each in (model, again):
        walk(each, 4)
    np.testing.assert_array_equal(weights(again), weights(model))
    alone = model_of(keras_class(name)(RATE))
    walk(alone, 0, 8)
    mine = [np.array(ops.convert_to_numpy(v)) for v in model.trainable_variables[2:]]
    for a, v in zip(mine, alone.trainable_variables[2:], strict=True):
        np.testing.assert_allclose(a, ops.convert_to_numpy(v), rtol=1e-5, atol=1e-6)

"""What an optimizer was told, by whatever way, holds: in its config, its copies and its compiled steps. On whatever
backend Keras has; `test_tf_backends` runs this file on the others.
"""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import scirs2_adapters as s2
from scirs2_adapters import tf as adapter

from .tf_support import (
    GRADS,
    KERAS_READS,
    MATCHING,
    NAMES,
    PARAMS,
    RATE,
    apply,
    close,
    fit,
    keras_class,
    network,
    oracle,
    variables,
)

pytestmark = KERAS_READS
BACKEND = keras.backend.backend()
WIDE = pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless its process was started so")

#: One number, as it comes out of configs, files and computations.
FORMS: dict[str, Callable[[float], object]] = {
    "float32": np.float32,
    "float64": np.float64,
    "0-d": np.array,
    "1-d": lambda v: np.array([v], "float32"),
    "tensor": lambda v: ops.convert_to_tensor(v, "float32"),
    "bfloat16": lambda v: ops.convert_to_tensor(v, "bfloat16"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_any_form_become_pythons(name: str, form: Callable[[float], object]) -> None:
    cls = keras_class(name)
    plain = {"learning_rate": 0.5, "weight_decay": 0.25}
    config = cls(**plain).get_config()
    numbers = {
        k: v for k, v in config.items() if type(v) is float and 0 < v < float("inf") and k not in ("ema_momentum",)
    }
    quarters = {k: 0.25 if v < 1 else 0.5 for k, v in numbers.items() if k in plain or k.startswith(("beta", "eps"))}
    made = cls(**{k: form(v) for k, v in (quarters | plain).items()}, clipnorm=form(0.5), ema_momentum=form(0.5))
    expected = cls(**(quarters | plain), clipnorm=0.5, ema_momentum=0.5).get_config()
    saved = json.loads(json.dumps(made.get_config()))
    assert saved | {"name": ""} == expected | {"name": ""}
    assert cls.from_config(saved).get_config() == saved
    made.learning_rate = form(0.25)
    made.weight_decay = form(0.5)
    assert (made.get_config()["learning_rate"], made.get_config()["weight_decay"]) == (0.25, 0.5)
    assert type(made.weight_decay) is float


def test_a_list_of_numbers_may_be_an_array() -> None:
    made = adapter.Muon(ns_coefficients=np.array([3.0, -4.0, 2.0]), ns_steps=np.int64(3))
    config = made.get_config()
    assert (config["ns_coefficients"], config["ns_steps"]) == ([3.0, -4.0, 2.0], 3)
    assert json.loads(json.dumps(config)) == config


def test_a_config_says_the_rate_that_was_given() -> None:
    made = adapter.AdamW(learning_rate=0.001)
    assert made.get_config()["learning_rate"] == 0.001
    made.learning_rate = 0.3
    assert made.get_config()["learning_rate"] == 0.3
    made._learning_rate.assign(0.1)
    assert made.get_config()["learning_rate"] == float(np.float32(0.1))


class Rate:
    def __call__(self) -> float:
        return RATE


class Stepped:
    def __call__(self, step: int) -> float:
        return RATE / (1 + step)


@pytest.mark.parametrize("rate", [Rate(), Rate().__call__, lambda x=RATE: x], ids=["object", "method", "default"])
def test_anything_that_can_be_called_without_arguments_is_a_learning_rate(rate: object) -> None:
    close(apply(adapter.AdamW(learning_rate=rate), variables()), oracle(s2.get("adamw")(learning_rate=RATE)))


@pytest.mark.parametrize(
    "rate",
    [Rate, Stepped(), keras.layers.Dense(1), keras.optimizers.schedules.CosineDecay],
    ids=["class", "with an argument", "layer", "class of a schedule"],
)
def test_what_can_be_called_but_is_no_rate_is_refused_at_once(rate: object) -> None:
    with pytest.raises(TypeError, match=r"`AdamW\(learning_rate=...\)` must be a number, a LearningRateSchedule"):
        adapter.AdamW(learning_rate=rate)
    made = adapter.AdamW()
    with pytest.raises(TypeError, match=r"`AdamW\(learning_rate=...\)` must be a number, a LearningRateSchedule"):
        made.learning_rate = rate


@pytest.mark.parametrize("value", [float("nan"), -1.0, None, "0.1", True])
def test_values_that_are_assigned_are_checked(value: object) -> None:
    made = adapter.AdamW(weight_decay=0.25)
    for word in ("learning_rate", "weight_decay", "beta_1"):
        if (word, value) != ("weight_decay", None):  # Keras' way to say no decay
            with pytest.raises((ValueError, TypeError), match=rf"`AdamW\({word}=...\)`"):
                setattr(made, word, value)
    config = made.get_config()
    assert (config["learning_rate"], config["weight_decay"], config["beta_1"]) == (0.001, 0.25, 0.9)


def test_a_variable_is_no_number() -> None:
    with pytest.raises(TypeError, match=r"`AdamW\(learning_rate=...\)` must be a number and no variable"):
        adapter.AdamW(learning_rate=keras.Variable(0.1))


WAYS: dict[str, Callable[[keras.Optimizer], keras.Optimizer]] = {
    "config": lambda o: type(o).from_config(json.loads(json.dumps(o.get_config()))),
    "serialized": lambda o: keras.optimizers.deserialize(keras.optimizers.serialize(o)),
    "pickle": lambda o: pickle.loads(pickle.dumps(o)),
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_decay_is_part_of_the_config(
    name: str, way: Callable[[keras.Optimizer], keras.Optimizer]
) -> None:
    made, xs = keras_class(name)(learning_rate=RATE, weight_decay=0.5), variables()
    made.exclude_from_weight_decay(var_list=[xs[0]], var_names=["p1"])
    again, ys = way(made), variables()
    assert again.get_config() == made.get_config()
    walks = [apply(o, zs, GRADS[:2]) for o, zs in ((made, xs), (again, ys))]
    close(*walks, 0.0)


def test_what_does_not_decay_survives_a_file(tmp_path: Path) -> None:
    optimizer = adapter.AdamW(0.01, weight_decay=0.5)
    model, x, y = network(optimizer)
    optimizer.exclude_from_weight_decay(var_list=[model.layers[0].kernel], var_names=["bias"])
    fit(model, x, y)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [loaded.optimizer._use_weight_decay(v) for v in loaded.trainable_variables] == [False, False, True, False]
    np.testing.assert_allclose(fit(loaded, x, y), fit(model, x, y), rtol=1e-6)


def test_a_name_to_exclude_that_is_gone_is_said() -> None:
    made, xs = adapter.AdamW(), variables()
    made.exclude_from_weight_decay(var_list=[xs[0]])
    again = adapter.AdamW.from_config(made.get_config())
    with pytest.warns(UserWarning, match="no variable is named p0"):
        again.build(xs[1:])


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("beta_1", 0.5),
        ("epsilon", 1e-3),
        ("weight_decay", 0.5),
        ("clipnorm", 1.0),
        ("gradient_accumulation_steps", 2),
        ("learning_rate", keras.optimizers.schedules.InverseTimeDecay(RATE, 2, 0.5)),
    ],
)
def test_what_a_compiled_step_would_not_see_is_refused(word: str, value: object) -> None:
    made = adapter.AdamW(RATE)
    model, x, y = network(made)
    before = made.get_config()
    setattr(made, word, getattr(made, word))
    setattr(made, word, value)
    assert made.get_config() != before
    made = adapter.AdamW(RATE)
    model, x, y = network(made)
    fit(model, x, y, 1)
    before, count = made.get_config(), len(made.variables)
    if BACKEND == "torch":  # where every step reads it
        setattr(made, word, value)
        return
    with pytest.raises(ValueError, match=rf"`AdamW\({word}=...\)` must be set before a step is compiled"):
        setattr(made, word, value)
    assert (made.get_config(), len(made.variables)) == (before, count)
    setattr(made, word, before[word]) if word != "learning_rate" else None
    made.learning_rate = 0.5
    fit(model, x, y, 1)


def test_what_is_set_between_steps_holds_where_nothing_is_compiled() -> None:
    made, xs = adapter.AdamW(RATE, weight_decay=0.0), variables()
    apply(made, xs, GRADS[:4])
    made.beta_1, made.weight_decay = 0.5, 0.25

    def change(host: object, i: int) -> None:
        if i == 4:
            host.replace(beta1=0.5, weight_decay=0.25)

    close(apply(made, xs, GRADS[4:]), oracle(s2.get("adamw")(RATE, weight_decay=0.0), each=change))


@WIDE
@pytest.mark.parametrize("name", NAMES)
def test_in_float64_a_constant_rate_is_what_was_given(name: str) -> None:
    """Keras holds it in a float32 variable."""
    rate = 0.3 if name in ("lion", "muon") else 0.1
    made, xs = keras_class(name)(learning_rate=rate), variables("float64")
    grads = [[g.astype(float) for g in gs] for gs in GRADS]
    close(apply(made, xs, grads), oracle(s2.get(name)(learning_rate=rate), grads), 1e-12)


@WIDE
def test_a_rate_assigned_to_the_variable_is_the_truth() -> None:
    made, xs = adapter.AdamW(0.1), variables("float64")
    made.build(xs)
    made._learning_rate.assign(0.03)
    expected = oracle(s2.get("adamw")(learning_rate=float(np.float32(0.03))))
    close(apply(made, xs), expected, 1e-12)


#: Further from Keras' own in float64 than rounding, and why.
FURTHER = {"muon": (2e-9, "Keras divides by the norm plus 1e-7, where ours divides by no less than 1e-7")}


@pytest.mark.parametrize("dtype", ["float64", "float32"] if BACKEND == "tensorflow" else ["float32"])
@pytest.mark.parametrize("name", MATCHING)
def test_matching_keras_is_keras_in_every_dtype(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64 Keras' own takes its numbers through float32, and so walks up to 7e-6 off its formula; not here."""
    cast, before, walks = ops.cast, keras.config.floatx(), []

    def exact(x: object, dtype: str) -> object:
        return ops.convert_to_tensor(x, dtype) if isinstance(x, float) else cast(x, dtype)

    theirs = getattr(keras.optimizers, keras_class(name).__name__)
    for cls, more, floatx in ((theirs, {}, dtype), (keras_class(name), {"match": "keras"}, before)):
        keras.config.set_floatx(floatx)
        try:
            with monkeypatch.context() as patch:
                if not more:
                    patch.setattr("keras.src.ops.cast", exact)
                    base = keras.src.optimizers.base_optimizer.BaseOptimizer  # TensorFlow's has a cast of its own
                    patch.setattr(keras.optimizers.Optimizer, "_apply_weight_decay", base._apply_weight_decay)
                made, xs = cls(learning_rate=0.1, **more), variables(dtype)[:4]
                walks.append(apply(made, xs, [[g.astype(dtype) for g in gs[:4]] for gs in GRADS]))
        finally:
            keras.config.set_floatx(before)
    close(*walks, FURTHER.get(name, (2e-12, ""))[0] if dtype == "float64" else 2e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", MATCHING)
def test_matching_keras_in_16_bits_is_its_formula_in_32(name: str, dtype: str) -> None:
    """Keras' own computes in 16 bits, where 0.999 is 1: there is nothing to match."""
    start = [ops.convert_to_numpy(ops.cast(ops.cast(ops.convert_to_tensor(p), dtype), "float32")) for p in PARAMS]
    rate = 100 * s2.get(name)().learning_rate  # steps that 16 bits can show
    theirs = getattr(keras.optimizers, keras_class(name).__name__)(learning_rate=rate)
    xs = [keras.Variable(p) for p in start[:4]]
    expected = apply(theirs, xs, [gs[:4] for gs in GRADS])
    seen = apply(keras_class(name)(learning_rate=rate, match="keras"), variables(dtype)[:4], [gs[:4] for gs in GRADS])
    off = sum(float(np.sum((a - b) ** 2)) for a, b in zip(seen, expected, strict=True)) ** 0.5
    path = sum(float(np.sum((p - b) ** 2)) for p, b in zip(start, expected, strict=False)) ** 0.5
    assert off <= 0.25 * path, off / path  # where Keras' own stands still it is all of it

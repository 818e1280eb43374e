"""Every rule as a Keras optimizer, on whatever backend Keras has; `test_tf_backends` runs this file on the others."""

from __future__ import annotations

import functools
import inspect
import json
import re
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import scirs2_adapters as s2
from scirs2_adapters import tf as adapter
from scirs2_adapters.adapters.tf.argument_names import KERAS
from tests.conformance.options import brisk

from .tf_support import (
    GRADS,
    KERAS_READS,
    NAMES,
    PARAMS,
    RATE,
    SHAPES,
    apply,
    close,
    fit,
    keras_class,
    network,
    oracle,
    variables,
)

pytestmark = KERAS_READS


@pytest.mark.parametrize("name", NAMES)
def test_it_walks_like_the_core(name: str) -> None:
    hyper = brisk(s2.get(name))
    arguments = KERAS.to_framework(hyper, s2.get(name).fields_with())
    close(apply(keras_class(name)(**arguments), variables()), oracle(s2.get(name)(**hyper)))


@pytest.mark.parametrize("name", NAMES)
def test_its_config_is_plain_and_makes_it_again(name: str) -> None:
    made = keras_class(name)(learning_rate=RATE, weight_decay=0.25, clipnorm=1.0, kernel="traced")
    config = made.get_config()
    assert json.loads(json.dumps(config)) == config
    again = type(made).from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    assert dir(again) == dir(made)
    members = {"muon_a", "muon_b", "muon_c"} if "ns_coefficients" in config else set()
    assert config.keys() >= set(inspect.signature(type(made)).parameters) - {"base_hyper"} - members


@pytest.mark.parametrize("name", NAMES)
def test_keras_finds_it_by_its_registered_name(name: str) -> None:
    cls = keras_class(name)
    optimizer = keras.optimizers.get({"class_name": f"scirs2>{cls.__name__}", "config": {}})
    assert type(optimizer) is cls
    assert type(keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))) is cls


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_goes_on_as_if_it_had_not_stopped(name: str, tmp_path: Path) -> None:
    model, x, y = network(keras_class(name)(learning_rate=max(0.01, s2.get(name)().learning_rate)))
    losses = fit(model, x, y)
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is type(model.optimizer)
    np.testing.assert_allclose(fit(loaded, x, y), fit(model, x, y), rtol=1e-6)


#: Divided by a mean of squares that has seen no gradient, a first step is beyond what 16 bits hold.
NOT_TOO_FAR = {"acprop": {"epsilon": 0.1}}


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_single_precision(name: str) -> None:
    made, xs = keras_class(name)(**brisk(s2.get(name)), **NOT_TOO_FAR.get(name, {})), variables("float16")
    moved = apply(made, xs)
    assert all(np.isfinite(m).all() for m in moved)
    assert all(np.any(m != p.astype("float16")) for m, p in zip(moved, PARAMS, strict=True) if p.size)


@pytest.mark.parametrize("name", NAMES)
def test_nan_reaches_the_parameter(name: str) -> None:
    xs = variables()
    grads = [GRADS[0], [np.full(s, np.nan, "float32") for s in SHAPES]]
    assert all(np.isnan(v).all() for v in apply(keras_class(name)(), xs, grads) if v.size)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Adam", {}),
        ("Adam", {"amsgrad": True, "weight_decay": 0.1}),
        ("AdamW", {"weight_decay": 0.3}),
        ("SGD", {"momentum": 0.9, "weight_decay": 0.1}),
        ("SGD", {"momentum": 0.9, "nesterov": True}),
        ("RMSprop", {"momentum": 0.5, "centered": True, "weight_decay": 0.1}),
        ("Lion", {"weight_decay": 0.1}),
        ("Lamb", {"weight_decay": 0.3}),
        ("Adafactor", {"weight_decay": 0.3, "clip_threshold": 0.5}),
        ("Adagrad", {"weight_decay": 0.3, "initial_accumulator_value": 0.2}),
        ("Adadelta", {"weight_decay": 0.3, "rho": 0.8}),
        ("Adamax", {"weight_decay": 0.3}),
        ("Nadam", {"weight_decay": 0.3}),
    ],
    ids=lambda v: v if isinstance(v, str) else "-".join(v) or "plain",
)
def test_keras_own_formula_is_matched(name: str, arguments: dict) -> None:
    walks = []
    for adapter_or_keras, more in ((adapter, {"match": "keras"}), (keras.optimizers, {})):
        made, xs = getattr(adapter_or_keras, name)(learning_rate=RATE, **arguments, **more), variables()[:4]
        apply(made, xs, [gs[:4] for gs in GRADS[:4]])
        made.learning_rate = RATE / 2
        walks.append(apply(made, xs, [gs[:4] for gs in GRADS[4:]]))
    close(*walks, 2e-5)


#: Those that this version of Keras has too. Muon has other defaults in the oldest one that is supported, and steps only
#: variables that have a path.
PEERED = [n for n in NAMES if "keras" in s2.get(n).matches and hasattr(keras.optimizers, keras_class(n).__name__)]
if keras.__version__.startswith("3.10."):
    PEERED.remove("muon")


@pytest.mark.parametrize("name", PEERED)
def test_matching_keras_takes_its_defaults(name: str) -> None:
    ours = keras_class(name)(match="keras").get_config()
    theirs = getattr(keras.optimizers, keras_class(name).__name__)().get_config()
    ours["learning_rate"] = float(np.float32(ours["learning_rate"]))  # Keras says what its variable holds
    shared = {k: v for k, v in theirs.items() if k in ours and k != "name"}
    assert {k: ours[k] for k in shared} == shared | {"weight_decay": theirs["weight_decay"] or 0.0}


def late(made: keras.optimizers.Optimizer, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """How two equal variables have moved in two steps: one from the first step on, and one after so many steps."""
    early, late = (keras.Variable(PARAMS[0]) for _ in range(2))
    made.build([early, late])
    moved = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gradients do not exist", UserWarning)
        for x in (early, late):
            for t in range(steps if x is early else 2):
                g = keras.ops.convert_to_tensor(GRADS[t % 2][0])
                made.apply([g if v is x else None for v in (early, late)], [early, late])
                if t == 1:
                    moved.append(np.array(keras.ops.convert_to_numpy(x)) - PARAMS[0])
    return moved[0], moved[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_variable_whose_first_gradient_comes_late_moves_about_as_far_as_others_did(name: str) -> None:
    """Keras counts steps in which a variable has none, so that a formula cannot tell by t that its memory is empty."""
    rule, hyper = s2.get(name), KERAS.to_framework(brisk(s2.get(name)), s2.get(name).fields_with())
    first, second = late(keras_class(name)(**hyper), steps=2)
    assert np.abs(first).max() / 10 <= np.abs(second).max() < 10 * np.abs(first).max() + RATE
    if rule().time_dependence == "none" and not rule().model_slots():
        np.testing.assert_allclose(second, first, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in NAMES if s2.get(n).first_step])
def test_what_is_too_small_for_16_bits_is_refused_by_the_name_that_was_typed(name: str) -> None:
    rule = s2.get(name)
    typed = re.escape(KERAS.spell(rule.first_step, rule.fields_with()))
    with pytest.raises(ValueError, match=rf"or `{typed}` of at least 0.0078125, not (1e-06|0.0001)"):
        keras_class(name)().build([keras.Variable(PARAMS[0], dtype="bfloat16")])


#: Keras' average counts the steps of all variables, ours those of each.
COUNTED_APART = ("schedulefreeadamw",)


@pytest.mark.parametrize("name", [n for n in PEERED if n not in COUNTED_APART])
def test_a_late_variable_moves_as_in_keras(name: str) -> None:
    walks = [
        late(m(learning_rate=RATE), steps=12)[1]
        for m in (
            functools.partial(keras_class(name), match="keras"),
            getattr(keras.optimizers, keras_class(name).__name__),
        )
    ]
    np.testing.assert_allclose(*walks, rtol=0.02, atol=1e-6)

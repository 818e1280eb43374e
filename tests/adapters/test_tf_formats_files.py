"""Files of Keras optimizers with memory of 8 bits and rounding errors: they go on bit for bit, and what is of other
formats is converted by what its numbers stand for. On whatever backend Keras has.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from scirs2_adapters import tf as adapter

from .tf_format_support import BOTH, FINE, INT8, fit, held, network, number, numbers
from .tf_support import KERAS_READS

pytestmark = KERAS_READS

AROUND: dict[str, dict[str, Any]] = {
    "plain": {},
    "all": {"gradient_accumulation_steps": 2, "use_ema": True, "ema_overwrite_frequency": 2, "clipnorm": 1.0},
}


@pytest.mark.parametrize("rounding", ["compensated", "stochastic"])
@pytest.mark.parametrize("around", AROUND)
def test_a_model_of_bfloat16_goes_on_from_every_kind_of_file(around: str, rounding: str, tmp_path: Path) -> None:
    options = {"learning_rate": 1e-2, "name": "ours", **INT8, "rounding": rounding, **AROUND[around]}
    model = network(adapter.AdamW(skip_nonfinite=True, **options))
    losses = fit(model, 2)
    assert losses[-1] < losses[0]
    assert {"int8", "uint8", "float32"} <= {v.dtype for v in model.optimizer.variables}
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    others = [keras.models.load_model(tmp_path / "model.keras")]
    for optimizer in (pickle.loads(pickle.dumps(model.optimizer)), adapter.AdamW(skip_nonfinite=True, **options)):
        others.append(network(optimizer, seed=2))
        optimizer.build(others[-1].trainable_variables)
        others[-1].load_weights(tmp_path / "model.weights.h5")
    for other in others:
        assert other.optimizer.get_config() == model.optimizer.get_config()
        for one, loaded in zip(held(model.optimizer), held(other.optimizer), strict=True):
            np.testing.assert_array_equal(one, loaded)
    if keras.backend.backend() != "jax" or around == "plain":  # on JAX, Keras cannot fit twice with averages
        others.append(model)
    assert len({tuple(fit(other)) for other in others}) == 1


def test_a_pickle_alone_has_the_memory() -> None:
    x, other = (keras.Variable(np.ones((64, 64)), dtype="bfloat16") for _ in range(2))
    made = adapter.AdamW(1e-2, **BOTH)
    made.apply([ops.ones((64, 64), dtype="bfloat16")], [x])
    again = pickle.loads(pickle.dumps(made))
    again.build([other])
    for one, restored in zip(held(made), held(again), strict=True):
        np.testing.assert_array_equal(one, restored)


FORMATS: dict[str, dict[str, Any]] = {
    "variable's": {},
    "float32": {"state_dtype": "float32"},
    "int8": INT8,
    "one in int8": {"state_dtype": {"exp_avg_sq": "int8"}},
    "compensated": BOTH,
    "fine": FINE,
    "stochastic": {"rounding": "stochastic"},
}
#: Of the last place, that rounding errors count.
PARTS = {"int8": 2**8, "int16": 2**16}
GRADS = np.random.default_rng(4).normal(size=(3, 64, 64)).astype("float32")


def stepped(made: keras.Optimizer, dtype: str = "bfloat16", first: int = 0, steps: int = 2) -> keras.Optimizer:
    """The optimizer after some steps of one variable."""
    x = keras.Variable(np.linspace(-2, 2, 4096).reshape(64, 64), dtype=dtype, name="x")
    made.build([x])
    for g in GRADS[first : first + steps]:
        made.apply([ops.convert_to_tensor(g, dtype=dtype)], [x])
    return made


def saved(made: keras.Optimizer) -> dict[str, np.ndarray]:
    store: dict[str, np.ndarray] = {}
    made.save_own_variables(store)
    return store


def root(x: np.ndarray, slot: str, largest: float) -> np.ndarray:
    """Of whose numbers codes are evenly spaced."""
    return np.sign(x) * np.abs(x / largest) ** (0.25 if slot == "exp_avg_sq" else 0.5)


@pytest.mark.parametrize("there", FORMATS)
def test_a_file_of_other_formats_is_converted(there: str) -> None:
    made = stepped(adapter.AdamW(1e-2, **FORMATS[there]))
    for options in FORMATS.values():
        again = stepped(adapter.AdamW(1e-2, **options), first=2, steps=1)  # what is not in the file must not stay
        again.load_own_variables(saved(made))
        for slot in ("exp_avg", "exp_avg_sq"):
            one, other = numbers(made, slot), numbers(again, slot)
            assert (largest := np.abs(one).max()) > 0
            assert np.abs(root(one, slot, largest) - root(other, slot, largest)).max() <= 0.006
        error, loaded = (o.slots.entries[0].slots.get("rounding_error") for o in (made, again))
        if loaded is None:
            continue
        assert (error is not None) == number(loaded).any()
        if error is not None:
            wider = PARTS[loaded.dtype] / PARTS[error.dtype]
            expected = number(error) * wider
            np.testing.assert_allclose(number(loaded), np.minimum(expected, 127) if wider < 1 else expected, atol=0.5)


def test_errors_of_another_dtype_are_left_out() -> None:
    """They are parts of the last place of numbers of that dtype."""
    made, again = (stepped(adapter.AdamW(1e-2, **BOTH), dtype) for dtype in ("float16", "bfloat16"))
    again.load_own_variables(saved(made))
    assert not number(again.slots.entries[0].slots["rounding_error"]).any()
    np.testing.assert_array_equal(numbers(again, "exp_avg"), numbers(made, "exp_avg"))


@pytest.mark.parametrize(("name", "hyper"), [("Adam", {}), ("SGD", {"momentum": 0.9}), ("RMSprop", {"momentum": 0.5})])
def test_a_file_of_keras_own_becomes_codes(name: str, hyper: dict[str, Any]) -> None:
    """Momentum, too, which Keras' SGD keeps with the other sign and multiplied by the learning rate."""
    theirs = saved(stepped(getattr(keras.optimizers, name)(1e-2, **hyper), "float32"))
    plain, codes = (
        stepped(getattr(adapter, name)(1e-2, match="keras", **hyper, **options), "float32", steps=0)
        for options in ({}, INT8)
    )
    for made in (plain, codes):
        made.load_own_variables(theirs)
    for slot in plain.slots.entries[0].slots:
        one, other = numbers(plain, slot), numbers(codes, slot)
        assert np.linalg.norm(one) > 0
        assert np.linalg.norm(other - one) <= 0.02 * np.linalg.norm(one)


def test_momentum_in_codes_is_converted_between_formulas() -> None:
    made = stepped(adapter.SGD(1e-2, momentum=0.9, **INT8), "float32")
    again = stepped(adapter.SGD(1e-2, momentum=0.9, match="keras", **INT8), "float32", steps=0)
    again.load_own_variables(saved(made))
    expected = numbers(made, "momentum_buffer") * 1e-2
    np.testing.assert_allclose(numbers(again, "momentum_buffer"), expected, rtol=1e-5)


@pytest.mark.parametrize("fault", ["missing", "short"])
def test_codes_without_their_scales_are_refused_and_nothing_changes(fault: str) -> None:
    made = stepped(adapter.AdamW(1e-2, **BOTH))
    store = saved(made)
    place = str(next(i for i, v in enumerate(made.variables) if v.path.endswith("exp_avg_scale")))
    if fault == "missing":
        names = bytes(store["scirs2"]).replace(b'"exp_avg_scale"', b'"exp_avg_other"')
        store["scirs2"] = np.frombuffer(names, np.uint8)
    else:
        store[place] = store[place][:-1]
    before = held(made)
    with pytest.raises(ValueError, match=r"exp_avg of .*x is int8 codes, whose scales are missing"):
        made.load_own_variables(store)
    for one, other in zip(before, held(made), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_of_other_formats_are_refused() -> None:
    """By position alone, numbers could be taken for codes."""
    one, other = (stepped(adapter.AdamW(state_dtype={slot: "int8"})) for slot in ("exp_avg", "exp_avg_sq"))
    weights = [ops.convert_to_numpy(v) for v in one.variables]
    one.set_weights(weights)
    with pytest.raises(ValueError, match="must be bfloat16 for x_exp_avg"):
        other.set_weights(weights)

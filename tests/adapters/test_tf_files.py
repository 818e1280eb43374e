"""Files of optimizers: ours go by name, Keras' own are converted, and what does not fit is refused before anything
changes. On whatever backend Keras has; `test_tf_backends` runs this file on the others.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import scirs2_adapters as s2
from scirs2_adapters import tf as adapter

from .tf_file_support import STEPS, held, model_of, walk, weights
from .tf_support import KERAS_READS, MATCHING, RATE, keras_class

pytestmark = KERAS_READS

BOTH = {"use_ema": True, "gradient_accumulation_steps": 2}


def options(name: str) -> Iterator[dict]:
    """All combinations of what decides the memory of Keras' class, and what the base class keeps besides."""
    theirs = inspect.signature(getattr(keras.optimizers, keras_class(name).__name__)).parameters
    word = {"momentum": 0.9, "nesterov": True, "centered": True, "amsgrad": True}
    flags = [k for k, f in s2.get(name).fields.items() if f.structural and k in theirs and k in word]
    for n in range(len(flags) + 1):
        for chosen in itertools.combinations(flags, n):
            yield {k: word[k] for k in chosen}
    yield {k: word[k] for k in flags} | BOTH


CASES = [(name, hyper) for name in MATCHING for hyper in options(name)]
each_case = pytest.mark.parametrize(
    ("name", "hyper"), CASES, ids=lambda v: v if isinstance(v, str) else "-".join(v) or "plain"
)


@each_case
@pytest.mark.parametrize("scheduled", [False, True], ids=["constant", "schedule"])
def test_a_file_of_keras_own_goes_on_as_keras_would(name: str, hyper: dict, scheduled: bool, tmp_path: Path) -> None:
    def rate() -> object:
        return keras.optimizers.schedules.InverseTimeDecay(RATE, 3, 0.5) if scheduled else RATE

    theirs = model_of(getattr(keras.optimizers, keras_class(name).__name__)(rate(), **hyper))
    walk(theirs)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    walk(theirs, STEPS)
    ours = model_of(keras_class(name)(rate(), match="keras", **hyper))
    start = weights(ours)
    ours.load_weights(tmp_path / "theirs.weights.h5")
    assert int(ops.convert_to_numpy(ours.optimizer._iterations)) == STEPS
    walk(ours, STEPS)
    path = np.linalg.norm(weights(theirs) - start)
    assert np.linalg.norm(weights(ours) - weights(theirs)) <= 2e-5 * path
    ours.save_weights(tmp_path / "ours.weights.h5")


@each_case
def test_its_own_file_goes_on_bit_for_bit(name: str, hyper: dict, tmp_path: Path) -> None:
    whole = model_of(keras_class(name)(RATE, match="keras", **hyper))
    walk(whole)
    whole.save_weights(tmp_path / "a.weights.h5")
    again = model_of(keras_class(name)(RATE / 2, match="keras", **hyper))
    again.load_weights(tmp_path / "a.weights.h5")
    for a, b in zip(held(whole.optimizer), held(again.optimizer), strict=True):
        np.testing.assert_array_equal(a, b)


@each_case
def test_keras_own_takes_our_file_only_where_it_means_the_same(name: str, hyper: dict, tmp_path: Path) -> None:
    ours = model_of(keras_class(name)(RATE, match="keras", **hyper))
    walk(ours)
    ours.save_weights(tmp_path / "a.weights.h5")
    theirs = model_of(getattr(keras.optimizers, keras_class(name).__name__)(RATE, **hyper))
    fresh = held(theirs.optimizer)
    walk(ours, STEPS)
    try:
        with pytest.warns(UserWarning, match="Skipping variable loading"):
            theirs.load_weights(tmp_path / "a.weights.h5")
    except pytest.fail.Exception:
        walk(theirs, STEPS)
        np.testing.assert_allclose(weights(theirs), weights(ours), atol=1e-5)
    else:
        for a, b in zip(held(theirs.optimizer), fresh, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "hyper", "match"),
    [
        *itertools.starmap(
            lambda case, match: (*case, match),
            itertools.product(
                [("SGD", {"momentum": 0.9}), ("RMSprop", {"momentum": 0.9}), ("Muon", {})], [None, "torch", "optax"]
            ),
        ),
        ("Nadam", {}, None),
    ],
)
def test_momentum_of_keras_goes_by_its_meaning(name: str, hyper: dict, match: str | None, tmp_path: Path) -> None:
    """Under another formula the next step goes on from what was remembered, in the unit of that formula."""
    theirs = model_of(getattr(keras.optimizers, name)(RATE, **hyper))
    walk(theirs)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    ours, same = (model_of(getattr(adapter, name)(RATE, match=m, **hyper)) for m in (match, "keras"))
    for model in (ours, same):
        model.load_weights(tmp_path / "theirs.weights.h5")
    same.save_weights(tmp_path / "same.weights.h5")
    again = model_of(getattr(adapter, name)(RATE, match=match, **hyper))
    again.load_weights(tmp_path / "same.weights.h5")
    for a, b in zip(held(ours.optimizer), held(again.optimizer), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    if name == "SGD":
        walk(ours, STEPS)
        walk(theirs, STEPS)
        np.testing.assert_allclose(weights(ours), weights(theirs), atol=1e-6)


@pytest.mark.parametrize("build", [False, True])
def test_a_file_without_memory_of_variables_is_loaded_without_a_warning(build: bool, tmp_path: Path) -> None:
    """SGD's has the step count and the learning rate alone, which Keras gives back with the weights."""
    model = model_of(adapter.SGD(RATE))
    walk(model)
    model.save_weights(tmp_path / "a.weights.h5")
    other = model_of(adapter.SGD(RATE / 100), build=build)
    other.load_weights(tmp_path / "a.weights.h5")  # a warning is an error in this suite
    assert int(other.optimizer.iterations) == STEPS
    np.testing.assert_allclose(float(other.optimizer.learning_rate), RATE)

"""Muon with match="keras" walks as Keras' own does; its buffer is an average, where Keras' is a sum."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from scirs2_adapters import tf as adapter
from scirs2_adapters.adapters.tf.argument_names import BASE
from scirs2_adapters.core import HostOptimizer, Muon

from .tf_support import KERAS_READS

pytestmark = KERAS_READS

SHAPES = {"wide": (5, 8), "tall": (8, 5), "bias": (7,), "embedding": (6, 3), "last": (4, 4)}
#: Keras' arguments, each away from its default.
ARGUMENTS: dict[str, Any] = {
    "adam_beta_1": 0.8, "adam_beta_2": 0.9, "adam_weight_decay": 0.2, "epsilon": 1e-2, "weight_decay": 0.1,
    "exclude_layers": ["last$", "w.de"], "exclude_embeddings": False, "muon_a": 3.0, "muon_b": -3.2, "muon_c": 1.2,
    "adam_lr_ratio": 0.3, "momentum": 0.8, "ns_steps": 3, "nesterov": False, "rms_rate": 0.5,
}  # fmt: skip
NONE = ({"rms_rate": None}, {"adam_weight_decay": None}, {"weight_decay": None}, {"exclude_layers": None})


def walked(optimizer: keras.Optimizer, without: list[str] | None = None) -> list[np.ndarray]:
    """Where an optimizer goes in five steps."""
    rng = np.random.default_rng(1)
    xs = [keras.Variable(rng.standard_normal(s).astype(np.float32), name=k) for k, s in SHAPES.items()]
    if without:
        optimizer.exclude_from_weight_decay(var_names=without)
    optimizer.build(xs)
    for _ in range(5):
        optimizer.apply([keras.ops.convert_to_tensor(rng.standard_normal(x.shape).astype(np.float32)) for x in xs], xs)
    return [keras.ops.convert_to_numpy(x) for x in xs]


def test_the_arguments_are_those_of_keras() -> None:
    base = {"self", "kwargs", "learning_rate", "name", *BASE}
    theirs = [k for k in inspect.signature(keras.optimizers.Muon.__init__).parameters if k not in base]
    assert sorted(theirs) == sorted(ARGUMENTS)
    assert [k for k in inspect.signature(adapter.Muon).parameters if k in theirs] == theirs


@pytest.mark.parametrize("kwargs", [*({k: v} for k, v in ARGUMENTS.items()), ARGUMENTS, *NONE], ids=str)
def test_each_argument_of_keras_does_what_it_does_there(kwargs: dict[str, Any]) -> None:
    ours = adapter.Muon(1e-2, **kwargs, match="keras")
    again = adapter.Muon.from_config(json.loads(json.dumps(ours.get_config())))
    plain, excluded = (keras.optimizers.Muon(1e-2, **kwargs) for _ in range(2))
    copied = adapter.Muon.from_config(plain.get_config() | {"match": "keras"})
    without = ["bias", "wide"]  # and not the others
    expected = walked(plain)
    pairs = [(walk, expected) for walk in map(walked, (ours, again, copied))]
    pairs.append((walked(adapter.Muon(1e-2, **kwargs, match="keras"), without), walked(excluded, without)))
    for walk, wanted in pairs:
        for one, two in zip(walk, wanted, strict=True):
            np.testing.assert_allclose(one, two, rtol=0, atol=2e-6)


def test_rms_rate_says_by_itself_how_steps_are_scaled() -> None:
    """Without `match` too: an argument that is given is not left aside."""
    asked = [adapter.Muon(0.01), adapter.Muon(0.01, rms_rate=0.5), adapter.Muon(0.01, rms_rate=None)]
    assert [(o.adjust, o.rms_rate) for o in asked] == [("original", 0.2), ("match_rms_adamw", 0.5), ("none", 0.2)]
    sizes = [np.linalg.norm(walked(o)[0] - walked(adapter.Muon(0.0))[0]) for o in asked]
    assert len(set(sizes)) == 3


def test_a_config_in_the_words_of_version_0_1() -> None:
    older = adapter.Muon(0.01).get_config() | {"epsilon": 1e-6, "adamw_epsilon": 1e-3, "adamw_beta_1": 0.7}
    older = {k: v for k, v in older.items() if k not in ("adam_beta_1", "ns_epsilon")}
    made = adapter.Muon.from_config(older)
    assert (made.ns_epsilon, made.epsilon, made.adam_beta_1) == (1e-6, 1e-3, 0.7)


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"exclude_layers": "dense"}, TypeError, "exclude_layers.*tuple of regular expressions"),
        ({"exclude_layers": ["("]}, ValueError, "exclude_layers.*tuple of regular expressions"),
        ({"rms_rate": -1.0}, ValueError, "rms_rate"),
        ({"adam_lr_ratio": 0.0, "match": "keras"}, ValueError, "adam_lr_ratio.*above 0"),
    ],
    ids=str,
)
def test_wrong_values_are_refused(kwargs: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        adapter.Muon(**kwargs)


def test_files_of_keras_muon_go_on(tmp_path: Path) -> None:
    """Layers left to AdamW have other memory, so that a file must be read with the same arguments."""
    rng, arguments = np.random.default_rng(0), {"exclude_layers": ["last"], "rms_rate": 0.3, "match": "keras"}
    x, y = rng.standard_normal((4, 6)), rng.standard_normal((4, 2))

    def model(optimizer: keras.Optimizer) -> keras.Model:
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(5, name="first"), keras.layers.Dense(2, name="last")]
        made = keras.Sequential([keras.Input((6,)), *layers])
        made.compile(optimizer, loss="mse", jit_compile=False)
        made.optimizer.build(made.trainable_variables)
        return made

    theirs = model(keras.optimizers.Muon(0.01, exclude_layers=["last"], rms_rate=0.3))
    theirs.fit(x, y, epochs=2, shuffle=False, verbose=0)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    ours = model(adapter.Muon(0.01, **arguments))
    ours.load_weights(tmp_path / "theirs.weights.h5")
    for m in (ours, theirs):
        m.fit(x, y, epochs=2, shuffle=False, verbose=0)
    ours.save_weights(tmp_path / "ours.weights.h5")
    again = model(adapter.Muon(0.01, **arguments))
    again.load_weights(tmp_path / "ours.weights.h5")
    for one, two, three in zip(ours.get_weights(), theirs.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=2e-6)
        np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize("kwargs", [{}, {"nesterov": False}, {"momentum": 0.8, "weight_decay": 0.1}])
def test_muons_trajectory_is_keras(kwargs: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    shapes = {"wide": (5, 8), "tall": (8, 5), "bias": (7,)}
    draw = lambda: {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()}  # noqa: E731
    ours = draw()
    theirs = {k: keras.Variable(x, name=k) for k, x in ours.items()}
    optimizer, host = keras.optimizers.Muon(1e-2, **kwargs), HostOptimizer(Muon(1e-2, match="keras", **kwargs), ours)
    for _ in range(5):
        grads = draw()
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in grads.values()], list(theirs.values()))
        host.step(grads)
    for k, x in ours.items():
        np.testing.assert_allclose(x, np.asarray(theirs[k]), rtol=0, atol=2e-6)


def classifier() -> keras.Model:
    """A model and layers whose containers are called as heads are, with kernels of all kinds."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(3, 3, name="conv"),
            keras.layers.DepthwiseConv2D(2, name="depthwise"),
            keras.layers.Reshape((9, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(4, name="hidden"),
            keras.layers.Dense(2, name="logits"),
        ],
        name="digit_classifier",
    )
    model.compile(optimizer=adapter.Muon(0.02), loss="mse")
    return model


def test_a_model_called_classifier_is_stepped_by_muon_and_a_loaded_one_goes_on(tmp_path: Path) -> None:
    rng, model = np.random.default_rng(0), classifier()
    x, y = rng.standard_normal((4, 6, 6, 2)), rng.standard_normal((4, 2))
    fit = lambda m: m.fit(x, y, epochs=2, shuffle=False, verbose=0)  # noqa: E731
    fit(model)
    said = model.optimizer.explain().splitlines()
    by_muon = [line for line in said if "): muon" in line]
    assert [line.partition(" ")[0].rpartition("/")[0].split("/")[-1] for line in by_muon] == [
        "conv",
        "depthwise",
        "hidden",
    ]
    assert any("logits/kernel" in line and "adamw, embedding or head" in line for line in said)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations) == 2
    fit(model)
    fit(loaded)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)

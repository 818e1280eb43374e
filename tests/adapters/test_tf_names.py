"""Files of our Keras optimizers go by name, and what does not fit is refused before anything changes.

On whatever backend Keras has; `test_tf_backends` runs this file on torch as well.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import ops

import scirs2_adapters as s2
from scirs2_adapters import tf as adapter

from .tf_file_support import GRADS, STEPS, held, model_of, walk
from .tf_support import KERAS_READS, NAMES, RATE, keras_class

pytestmark = KERAS_READS

MATCHING = [n for n in NAMES if "keras" in s2.get(n).matches]


def refused(model: keras.Model, path: Path, words: str) -> None:
    """Raise unless the file is refused in these words and the optimizer is what it was."""
    before = held(model.optimizer)
    with pytest.raises(ValueError, match=words):
        model.load_weights(path)
    for a, b in zip(held(model.optimizer), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each optimizer of ours, and of each that Keras has too."""
    folder = tmp_path_factory.mktemp("files")
    for name in NAMES:
        made = [(name, keras_class(name))]
        if name in MATCHING:
            made.append((f"keras_{name}", getattr(keras.optimizers, keras_class(name).__name__)))
        for file, cls in made:
            model = model_of(cls(learning_rate=RATE))
            walk(model, 0, 1)
            model.save_weights(folder / f"{file}.weights.h5")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_the_memory_of_another_optimizer_is_refused(name: str, files: Path) -> None:
    model, rule = model_of(keras_class(name)(learning_rate=RATE)), s2.get(name)
    walk(model, 0, 2)
    for other in NAMES:
        if other != name:
            refused(model, files / f"{other}.weights.h5", f"holds the memory of `{other}")
        theirs = s2.get(other)
        if other in MATCHING and not (issubclass(theirs, rule) or issubclass(rule, theirs)):
            refused(model, files / f"keras_{other}.weights.h5", f"was written by .*, and this is `{name}`")


def test_a_file_goes_by_the_names_of_layers(tmp_path: Path) -> None:
    model = model_of(adapter.AdamW(RATE))
    walk(model)
    model.optimizer.save_own_variables(store := {})
    xs = model.trainable_variables
    turned = adapter.AdamW(RATE)
    turned.build(xs[2:] + xs[:2])
    with pytest.warns(UserWarning, match="layers in another order. Memory goes by their names"):
        turned.load_own_variables(store)
    slots = dict(zip([x.path for x in xs], model.optimizer.slots.entries, strict=True))
    for x, member in zip(xs[2:] + xs[:2], turned.slots.entries, strict=True):
        for slot, variable in member.slots.items():
            expected = ops.convert_to_numpy(slots[x.path].slots[slot])
            np.testing.assert_array_equal(ops.convert_to_numpy(variable), expected)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [x.path for x in loaded.trainable_variables] != [x.path for x in xs]  # Keras drops the model's name
    for a, b in zip(held(loaded.optimizer), held(model.optimizer), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("counted", ["dense_{}", "dense"], ids=["numbered", "as-they-come"])
def test_layers_that_keras_has_numbered_anew_go_by_position(counted: str, tmp_path: Path) -> None:
    model = model_of(adapter.AdamW(RATE), tuple(counted.format(i) + "_" * (counted == "dense") * i for i in (1, 2)))
    walk(model)
    model.save_weights(tmp_path / "a.weights.h5")
    other = model_of(adapter.AdamW(RATE), ("dense_7", "dense_8") if "{" in counted else ("x", "y"))
    other.load_weights(tmp_path / "a.weights.h5")
    for a, b in zip(held(other.optimizer), held(model.optimizer), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_missing_unknown_or_of_another_shape_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.weights.h5"
    model_of(adapter.AdamW(RATE)).save_weights(path)
    refused(
        model_of(adapter.AdamW(RATE), ("one", "three")), path, r"missing: digits/three/kernel.*not known.*two/kernel"
    )
    refused(model_of(adapter.AdamW(RATE, amsgrad=True)), path, "missing: max_exp_avg_sq of digits/one/kernel")
    refused(model_of(adapter.AdamW(RATE, use_ema=True)), path, "missing: average of digits/one/kernel")
    model = adapter.AdamW(RATE)
    model.build([keras.Variable(np.ones((3, 3)), name="a"), keras.Variable(np.ones(3), name="b")])
    model.save_own_variables(store := {})
    other = adapter.AdamW(RATE)
    other.build([keras.Variable(np.ones((3, 4)), name="a"), keras.Variable(np.ones(3), name="b")])
    before = held(other)
    with pytest.raises(ValueError, match=r"exp_avg of a is of shape \(3, 3\) there, \(3, 4\) here"):
        other.load_own_variables(store)
    for a, b in zip(held(other), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_memory_of_what_is_no_longer_trained_is_left_with_a_warning(tmp_path: Path) -> None:
    model = model_of(adapter.AdamW(RATE))
    walk(model)
    model.save_weights(tmp_path / "a.weights.h5")
    other = model_of(adapter.AdamW(RATE), build=False)
    other.layers[0].trainable = False
    other.optimizer.build(other.trainable_variables)
    with pytest.warns(UserWarning, match=r"also holds memory of digits/one/kernel"):
        other.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(held(other.optimizer)[2], held(model.optimizer)[6])


def test_an_optimizer_without_memory_is_left_alone_with_keras_warning(tmp_path: Path) -> None:
    model_of(adapter.AdamW(RATE)).save_weights(tmp_path / "a.weights.h5")
    other = model_of(adapter.AdamW(RATE), build=False)
    with pytest.warns(UserWarning, match=r"not been called/built yet"):
        other.load_weights(tmp_path / "a.weights.h5")


def test_a_file_from_before_names_goes_by_position(tmp_path: Path) -> None:
    path = tmp_path / "a.weights.h5"
    model = model_of(adapter.RAdam(RATE))
    walk(model)
    model.save_weights(path)
    with h5py.File(path, "a") as file:
        del file["optimizer/vars"].attrs["scirs2_0"]
    other = model_of(adapter.RAdam(RATE / 2))
    other.load_weights(path)
    for a, b in zip(held(other.optimizer), held(model.optimizer), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_from_before_names_is_ours_by_its_config(tmp_path: Path) -> None:
    model = model_of(adapter.SGD(RATE, momentum=0.9))
    walk(model)
    keras.optimizers.Optimizer.save_own_variables(model.optimizer, store := {})
    config = model.optimizer.get_config()
    again = adapter.SGD.from_config({k: v for k, v in config.items() if k != "skip_nonfinite"})
    again.build(model.trainable_variables)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key, value in store.items():
            file[key] = value
        file.attrs["name"] = again.name
        again.load_own_variables(Group(file))
    np.testing.assert_array_equal(held(again)[2], held(model.optimizer)[2])


class Group:
    """As Keras hands a group of an open file over."""

    def __init__(self, group: h5py.Group) -> None:
        self._h5_entry_group = group
        self.keys = group.keys

    def __contains__(self, key: str) -> bool:
        return key in self._h5_entry_group

    def __getitem__(self, key: str) -> np.ndarray:
        return np.array(self._h5_entry_group[key])


def test_a_file_of_a_newer_format_is_refused() -> None:
    model = model_of(adapter.AdamW(RATE))
    model.optimizer.save_own_variables(store := {})
    text = store["scirs2"].tobytes().replace(b'"version": 1', b'"version": 9')
    with pytest.raises(ValueError, match="newer version"):
        model.optimizer.load_own_variables(store | {"scirs2": np.frombuffer(text, np.uint8)})


def test_names_of_many_variables_are_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 takes 64 KB in one attribute."""
    monkeypatch.setattr("scirs2_adapters.adapters.tf.state.files.LONGEST", 100)
    xs = [keras.Variable(np.ones(1), name=f"x{i}") for i in range(9)]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = adapter.SGD(RATE, momentum=0.9, match="torch")
        made.build(xs)
        made.save_own_variables(Writer(file))
        assert len(file.attrs) > 1
        made.load_own_variables(Writer(file))
        adam = adapter.Adam(RATE)
        adam.build(xs)
        with pytest.raises(ValueError, match="memory of `sgd`"):
            adam.load_own_variables(Writer(file))


class Writer(Group):
    def __setitem__(self, key: str, value: np.ndarray) -> None:
        self._h5_entry_group[key] = value


def test_files_in_several_shards_are_read(tmp_path: Path) -> None:
    model = model_of(adapter.AdamW(RATE))
    walk(model)
    path = tmp_path / "a.weights.json"
    model.save_weights(path, max_shard_size=1e-6)
    other = model_of(adapter.AdamW(RATE / 2))
    other.load_weights(path)
    for a, b in zip(held(other.optimizer), held(model.optimizer), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("theirs", [False, True], ids=["ours", "keras"])
def test_a_loss_scale_around_it_is_no_obstacle(theirs: bool, tmp_path: Path) -> None:
    cls = keras.optimizers.SGD if theirs else adapter.SGD
    more = {} if theirs else {"match": "keras"}
    inner = cls(RATE, momentum=0.9, **more)
    first = model_of(keras.optimizers.LossScaleOptimizer(inner, initial_scale=1.0))
    for gs in GRADS[:STEPS]:
        inner.apply([ops.convert_to_tensor(g) for g in gs], first.trainable_variables)
    first.save_weights(tmp_path / "a.weights.h5")
    again = adapter.SGD(RATE, momentum=0.9, match="keras")
    second = model_of(keras.optimizers.LossScaleOptimizer(again, initial_scale=1.0))
    second.load_weights(tmp_path / "a.weights.h5")
    sign = -1 if theirs else 1
    np.testing.assert_allclose(held(again)[2], sign * held(inner)[2], rtol=1e-6)


def test_a_changed_number_of_accumulated_gradients_keeps_the_count_of_steps() -> None:
    model = model_of(adapter.AdamW(RATE, gradient_accumulation_steps=2))
    walk(model)
    model.optimizer.save_own_variables(store := {})
    other = model_of(adapter.AdamW(RATE, gradient_accumulation_steps=4))
    other.optimizer.load_own_variables(store)
    assert int(ops.convert_to_numpy(other.optimizer._iterations)) == 2 * STEPS
    walk(model, STEPS, 1)
    model.optimizer.save_own_variables(store := {})
    with pytest.raises(ValueError, match="between two steps"):
        other.optimizer.load_own_variables(store)


def test_weights_of_another_number_or_shape_are_not_set() -> None:
    model = model_of(adapter.AdamW(RATE))
    before = held(model.optimizer)
    for wrong in (before[:-1], [*before[:-1], before[-1][:1]]):
        with pytest.raises(ValueError, match=r"must be of the shapes"):
            model.optimizer.set_weights([x + 1 for x in wrong])
    for a, b in zip(held(model.optimizer), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", [lambda o: pickle.loads(pickle.dumps(o)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_a_copy_of_a_built_optimizer_goes_on(name: str, way: Callable[..., keras.Optimizer]) -> None:
    model = model_of(keras_class(name)(learning_rate=RATE, skip_nonfinite=True))
    walk(model)
    model.optimizer.learning_rate = RATE / 4
    again = way(model.optimizer)
    assert int(ops.convert_to_numpy(again.iterations)) == STEPS
    assert float(ops.convert_to_numpy(again.learning_rate)) == RATE / 4
    again.build(model.trainable_variables)
    for a, b in zip(held(again), held(model.optimizer), strict=True):
        np.testing.assert_array_equal(a, b)


def test_layers_that_are_only_numbered_otherwise_go_by_position(tmp_path: Path) -> None:
    """As `load_weights` gives them weights: code that makes the same layers in another order numbers them anew."""

    def made(turned: bool) -> keras.Model:
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(6), keras.layers.Dense(6)]
        first, second = layers[::-1] if turned else layers
        model = keras.Sequential([keras.Input((6,)), first, second, keras.layers.Dense(1)])
        model.compile(adapter.Adam(RATE), "mse")
        model.optimizer.build(model.trainable_variables)
        return model

    x, y = np.random.default_rng(0).normal(size=(8, 6)), np.ones((8, 1))
    donor = made(False)
    donor.fit(x, y, epochs=3, verbose=0)
    donor.save_weights(tmp_path / "w.weights.h5")
    heir = made(True)
    heir.load_weights(tmp_path / "w.weights.h5")
    for model in (donor, heir):
        model.fit(x, y, epochs=1, verbose=0, shuffle=False)
    for a, b in zip(donor.get_weights(), heir.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)

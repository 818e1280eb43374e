"""The same tests on Keras' other backends, each in a process of its own because Keras settles its backend once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.boundaries.support import ROOT, fresh
from tests.sampling import samples, turn

HERE = Path(__file__).parent
FILES = (
    "test_tf_evaluation.py",
    "test_tf_rules.py",
    "test_tf_features.py",
    "test_tf_skip.py",
    "test_tf_settings.py",
    "test_tf_formats.py",
    "test_tf_formats_files.py",
    "test_tf_keras_suite.py",
    "test_tf_lost.py",
    "test_tf_monitor.py",
)
#: JAX takes minutes for these, which save and load values that are numpy's by then.
ALSO = {
    "jax": ("test_tf_jax_host.py",),
    "torch": (
        "test_tf_files.py",
        "test_tf_names.py",
        "test_tf_pickles.py",
        "test_tf_portable.py",
        "test_tf_torch_host.py",
        "test_tf_torch_paths.py",
    ),
}
OTHERS = ("jax", "torch")
#: Keras' suite, and what the backend's step is made of, which no other test sees.
EACH_WEEK = ("test_tf_keras_suite.py", "test_tf_jax_host.py", "test_tf_torch_host.py")


@pytest.mark.slow
@pytest.mark.parametrize("backend", OTHERS)
def test_the_adapter_behaves_alike_on(backend: str, request: pytest.FixtureRequest) -> None:
    """A sampled run takes half of the files, others each week, and for each backend others."""
    files = [*FILES, *ALSO.get(backend, ())]
    if samples(request.config):
        files = [name for name in files if name in EACH_WEEK or turn(f"{backend} {name}", 2) == 0]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "not slow",
        "--adapters",
        "tf",
        *(["--sample"] if samples(request.config) else []),
        *(str(HERE / name) for name in files),
    ]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout[-5000:]


MODEL = """
import json, warnings
warnings.simplefilter("ignore")
import keras, numpy as np
import scirs2_adapters.tf as adapter
x = np.random.default_rng(2).normal(size=(64, 6)).astype("float32")
y = x[:, :1] * 2 - x[:, 1:2]
def walk(name, path):
    if {first!r}:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)])
        model.compile(getattr(adapter, name)(), loss="mse", jit_compile=False)
        model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
        model.save(path)
    model = keras.models.load_model(path)
    assert type(model.optimizer) is getattr(adapter, name)
    model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    return [w.ravel().tolist() for w in model.get_weights()]
print(json.dumps([walk(name, f"{folder}/{{name}}.keras") for name in ("AdamW", "Prodigy", "Muon")]))
"""

FORMATS = """
import json, warnings
warnings.simplefilter("ignore")
import keras, numpy as np
import scirs2_adapters.tf as adapter
x = np.random.default_rng(2).normal(size=(64, 64)).astype("float32")
def walk(rounding, path):
    if {first!r}:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, dtype="bfloat16")])
        model.compile(adapter.AdamW(1e-2, state_dtype="int8", rounding=rounding), loss="mse", jit_compile=False)
        model.fit(x, -x, batch_size=16, shuffle=False, verbose=0)
        model.save(path)
    model = keras.models.load_model(path)
    loaded = [np.array(keras.ops.convert_to_numpy(v), "float64").ravel().tolist() for v in model.optimizer.variables]
    losses = model.fit(x, -x, batch_size=16, shuffle=False, verbose=0).history["loss"]
    return [loaded, losses]
print(json.dumps([walk(rounding, f"{folder}/{{rounding}}.keras") for rounding in ("compensated", "stochastic")]))
"""


@pytest.mark.slow
def test_codes_and_rounding_go_from_one_backend_to_the_others(tmp_path: Path) -> None:
    first, *others = [
        json.loads(fresh(FORMATS.format(folder=tmp_path, first=b == "torch"), KERAS_BACKEND=b).stdout.splitlines()[-1])
        for b in ("torch", "tensorflow", "jax")
    ]
    for other in others:
        for (loaded, losses), (again, then) in zip(first, other, strict=True):
            assert loaded == again
            np.testing.assert_allclose(losses, then, rtol=0.01)


DISTRIBUTED = """
import keras, numpy as np
from keras import distribution
import scirs2_adapters.tf as adapter
x = np.random.default_rng(0).normal(size=(64, 64)).astype("float32")
def walk(rounding, spread):
    if spread:
        mesh = distribution.DeviceMesh((1, 2), ["batch", "model"], distribution.list_devices())
        layouts = distribution.LayoutMap(mesh)
        layouts[".*wide.*kernel"] = (None, "model")
        distribution.set_distribution(distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch"))
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(66, "tanh", dtype="bfloat16", name="wide"), keras.layers.Dense(1, dtype="bfloat16")]
    model = keras.Sequential([keras.Input((64,)), *layers])
    model.compile(adapter.AdamW(1e-2, state_dtype="int8", rounding=rounding), loss="mse")
    model.fit(x, x[:, :1] * 2, batch_size=16, shuffle=False, verbose=0)
    codes = model.optimizer.slots.entries[0].slots["exp_avg"].value
    assert len({shard.data.shape for shard in codes.addressable_shards} & {(64, 33)}) == spread
    distribution.set_distribution(None)
    return [np.array(v.value, "float64") for v in (*model.trainable_variables, *model.optimizer.variables)]
for rounding in ("compensated", "stochastic"):
    for one, other in zip(walk(rounding, False), walk(rounding, True)):
        np.testing.assert_array_equal(one, other)
"""


@pytest.mark.slow
def test_a_model_that_is_divided_over_devices_is_stepped_as_one_that_is_not() -> None:
    fresh(DISTRIBUTED, KERAS_BACKEND="jax", XLA_FLAGS="--xla_force_host_platform_device_count=2")


@pytest.mark.slow
def test_a_model_saved_on_one_backend_goes_on_upon_the_others(tmp_path: Path) -> None:
    ends = []
    for backend in ("torch", "tensorflow", "jax"):
        code = MODEL.format(folder=tmp_path, first=backend == "torch")
        models = json.loads(fresh(code, KERAS_BACKEND=backend).stdout.splitlines()[-1])
        ends.append(np.concatenate([np.array(w) for weights in models for w in weights]))
    for other in ends[1:]:
        assert np.linalg.norm(other - ends[0]) <= 2e-4 * np.linalg.norm(ends[0])


WALK = """
import json
import keras, numpy as np
from sklearn.datasets import load_digits
from scirs2_adapters import tf as adapter
images, digits = load_digits(return_X_y=True)
x = (images / 16).astype("float32")
def losses(optimizer):
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32, "tanh"), keras.layers.Dense(10)])
    model.set_weights([rng.normal(0, 0.1, w.shape).astype("float32") for w in model.get_weights()])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile={jit})
    return model.fit(x, digits, batch_size=100, epochs=3, shuffle=False, verbose=0).history["loss"]
print(json.dumps([losses(o) for o in (adapter.AdamW(5e-3), adapter.SGD(0.1, momentum=0.9), adapter.Lamb(2e-2))]))
"""


@pytest.mark.slow
def test_training_takes_the_same_way_on_every_backend() -> None:
    """The digits, from the same weights, in the same batches: the loss of each epoch, to 1e-4 of it."""
    ways = (("tensorflow", False), ("jax", True), ("torch", False))
    walks = [json.loads(fresh(WALK.format(jit=jit), KERAS_BACKEND=b).stdout.splitlines()[-1]) for b, jit in ways]
    first = np.array(walks[0])
    assert np.all(first[:, -1] < 0.7 * first[:, 0])
    for other in walks[1:]:
        np.testing.assert_allclose(other, first, rtol=1e-4)

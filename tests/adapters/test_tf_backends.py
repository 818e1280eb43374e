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

HERE = Path(__file__).parent
FILES = (
    "test_tf_rules.py",
    "test_tf_features.py",
    "test_tf_skip.py",
    "test_tf_settings.py",
    "test_tf_formats.py",
    "test_tf_formats_files.py",
)
#: JAX takes minutes for these, which save and load values that are numpy's by then.
ALSO = {"torch": ("test_tf_files.py", "test_tf_names.py")}
OTHERS = ("jax", "torch")


@pytest.mark.slow
@pytest.mark.parametrize("backend", OTHERS)
def test_the_adapter_behaves_alike_on(backend: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "not slow",
        "--adapters",
        "tf",
        *(str(HERE / name) for name in (*FILES, *ALSO.get(backend, ()))),
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


@pytest.mark.slow
def test_a_model_saved_on_one_backend_goes_on_upon_the_others(tmp_path: Path) -> None:
    found = []
    for backend in ("torch", "tensorflow", "jax"):
        code = MODEL.format(folder=tmp_path, first=backend == "torch")
        models = json.loads(fresh(code, KERAS_BACKEND=backend).stdout.splitlines()[-1])
        found.append(np.concatenate([np.array(w) for weights in models for w in weights]))
    for other in found[1:]:
        assert np.linalg.norm(other - found[0]) <= 2e-4 * np.linalg.norm(found[0])

"""The examples of 8-bit state and of Keras run without a warning, in processes of their own, and learn."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.boundaries.support import ROOT

#: Keras reads TensorFlow's variables in a way that numpy 2 deprecates.
KERAS_READS = "ignore:__array__ implementation:DeprecationWarning"
#: Runs one example after another in one process: to import a framework takes longer than they do.
ALL = """
import runpy, sys
for sys.argv in {!r}:
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(example: str, **environment: str) -> str:
    """What an example prints."""
    return printed(str(ROOT / "examples" / example), **environment)


def run_keras(backend: str, *examples: str) -> list[list[float]]:
    """The numbers that each example prints, given as it is typed, all in one process."""
    typed = [[str(ROOT / "examples" / name), *more] for name, *more in map(str.split, examples)]
    lines = printed("-W", KERAS_READS, "-c", ALL.format(typed), KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3")
    return [[float(n) for n in re.findall(r"\d+\.\d+", line)] for line in lines.splitlines()]


def printed(*arguments: str, **environment: str) -> str:
    """What a process prints that takes warnings for errors."""
    command = [sys.executable, "-W", "error", *arguments]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torch() -> None:
    pytest.importorskip("torch")
    printed = run("int8_torch.py").split()
    assert float(printed[-1]) > 0.85
    assert float(printed[-3]) < 3.1, "bytes a parameter"


def test_the_trainer() -> None:
    pytest.importorskip("transformers")
    first, _, last = run("int8_hf_trainer.py").splitlines()[-1].split()[1:]
    assert float(last) < 0.75 * float(first)


@pytest.mark.slow
def test_the_trainers_of_hugging_face() -> None:
    pytest.importorskip("transformers")
    names = ("hf_gpt2", "hf_bert", "hf_yaml", "hf_resume", "hf_accelerate")
    typed = [[str(ROOT / "examples" / f"{name}.py")] for name in names]
    lines = printed("-c", ALL.format(typed), HF_HUB_OFFLINE="1").splitlines()
    found = {name: [line.split() for line in lines if line.startswith(f"{name}:")] for name in names}
    for name in ("hf_gpt2", "hf_yaml"):
        first, _, last = found[name][0][2:]
        assert float(last) < 0.8 * float(first)
    assert float(found["hf_bert"][0][-1]) > 0.7
    assert found["hf_resume"][0][1] == found["hf_accelerate"][0][5] == "0"
    assert float(found["hf_accelerate"][0][4].strip(",")) < 0.8 * float(found["hf_accelerate"][0][2])
    assert [line for line in lines if line.startswith("  wte wpe ") and line.endswith("kernel")]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_keras(backend: str) -> None:
    pytest.importorskip("keras")
    pytest.importorskip(backend)
    printed = run("int8_keras.py", KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3")
    assert float(printed.split()[-1]) > 0.85
    assert "corrections" in printed


@pytest.fixture(scope="module")
def on_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[float]], Path]:
    """What the examples of Keras print, and the file that one of them leaves."""
    pytest.importorskip("tensorflow")
    path = tmp_path_factory.mktemp("examples") / "digits.keras"
    # The devices of the first one are settled before TensorFlow does anything.
    names = ("keras_replicas", "keras_fit", "keras_loop", "keras_gan", "keras_embedding", "keras_two_backends")
    given = {"keras_embedding": " 20000", "keras_two_backends": f" begin {path}"}
    found = run_keras("tensorflow", *(f"{n}.py{given.get(n, '')}" for n in names))
    return dict(zip(names, found, strict=True)), path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["keras_replicas", "keras_fit", "keras_loop", "keras_gan", "keras_embedding"])
def test_keras_examples_get_closer(name: str, on_tensorflow: tuple[dict[str, list[float]], Path]) -> None:
    first, last, *more = on_tensorflow[0][name]
    assert last < 0.5 * first
    assert name != "keras_fit" or more[0] > 0.85, "accuracy"


@pytest.mark.slow
def test_two_workers_train_one_model() -> None:
    """The example itself holds their weights to be equal."""
    pytest.importorskip("tensorflow")
    ((first, last),) = run_keras("tensorflow", "keras_workers.py")
    assert last < 0.5 * first


@pytest.mark.slow
def test_training_goes_on_under_another_backend(on_tensorflow: tuple[dict[str, list[float]], Path]) -> None:
    pytest.importorskip("jax")
    found, path = on_tensorflow
    resumed = run_keras("jax", f"keras_two_backends.py continue {path}")
    np.testing.assert_allclose(resumed, [found["keras_two_backends"]], rtol=1e-4)


@pytest.mark.parametrize(("name", "share"), [("sklearn_out_of_core", 4), ("sklearn_dask", 2)])
def test_scikit_learn_learns_out_of_core(name: str, share: int) -> None:
    pytest.importorskip("sklearn")
    if name == "sklearn_dask":
        pytest.importorskip("dask.array", reason="its blocks are the data")
    accuracy, size, memory = (float(n) for n in re.findall(r"\d+\.\d+", run(f"{name}.py")))
    assert accuracy > 0.9
    assert memory < size / share

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
from tests.xla import flags

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


def run_keras(backend: str, *examples: str) -> list[str]:
    """The lines that examples print, given as they are typed, all in one process."""
    typed = [[str(ROOT / "examples" / name), *more] for name, *more in map(str.split, examples)]
    quick = {"XLA_FLAGS": flags()} if backend == "jax" else {}
    code = ALL.format(typed)
    return printed("-W", KERAS_READS, "-c", code, KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3", **quick).splitlines()


def numbers(line: str) -> list[float]:
    return [float(n) for n in re.findall(r"\d+\.\d+", line)]


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


#: The examples of Hugging Face; the last one's lines have no name in front.
TRAINERS = ("hf_gpt2", "hf_bert", "hf_yaml", "hf_resume", "hf_accelerate", "int8_hf_trainer")


@pytest.fixture(scope="module")
def of_trainers() -> list[str]:
    """What the examples of Hugging Face print."""
    pytest.importorskip("transformers")
    typed = [[str(ROOT / "examples" / f"{name}.py")] for name in TRAINERS]
    return printed("-c", ALL.format(typed), HF_HUB_OFFLINE="1").splitlines()


@pytest.mark.slow
def test_the_trainer(of_trainers: list[str]) -> None:
    first, _, last = of_trainers[-1].split()[1:]
    assert float(last) < 0.75 * float(first)


@pytest.mark.slow
def test_the_trainers_of_hugging_face(of_trainers: list[str]) -> None:
    words = {name: [line.split() for line in of_trainers if line.startswith(f"{name}:")] for name in TRAINERS}
    for name in ("hf_gpt2", "hf_yaml"):
        first, _, last = words[name][0][2:]
        assert float(last) < 0.8 * float(first)
    assert float(words["hf_bert"][0][-1]) > 0.7
    assert words["hf_resume"][0][1] == words["hf_accelerate"][0][5] == "0"
    assert float(words["hf_accelerate"][0][4].strip(",")) < 0.8 * float(words["hf_accelerate"][0][2])
    assert [line for line in of_trainers if line.startswith("  wte wpe ") and line.endswith("kernel")]


KERAS = ("keras_replicas", "keras_fit", "keras_loop", "keras_gan", "keras_embedding", "keras_two_backends")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the example of two backends leaves under the first one."""
    return tmp_path_factory.mktemp("examples") / "digits.keras"


@pytest.fixture(scope="module")
def on_tensorflow(saved: Path) -> list[str]:
    """What the examples of Keras print. The devices of the first are settled before TensorFlow does anything; the last
    sets the policy of dtypes.
    """
    pytest.importorskip("tensorflow")
    arguments = {"keras_embedding": " 20000", "keras_two_backends": f" begin {saved}"}
    return run_keras("tensorflow", *(f"{n}.py{arguments.get(n, '')}" for n in KERAS), "int8_keras.py")


@pytest.fixture(scope="module")
def on_jax(saved: Path, on_tensorflow: list[str]) -> list[str]:
    pytest.importorskip("jax")
    return run_keras("jax", f"keras_two_backends.py continue {saved}", "int8_keras.py")


@pytest.fixture(scope="module")
def on_torch() -> list[str]:
    pytest.importorskip("keras")
    pytest.importorskip("torch")
    return run_keras("torch", "int8_keras.py")


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "others"), [("tensorflow", len(KERAS)), ("jax", 1), ("torch", 0)])
def test_keras(backend: str, others: int, request: pytest.FixtureRequest) -> None:
    lines = request.getfixturevalue(f"on_{backend}")[others:]
    assert numbers(lines[-1])[0] > 0.85
    assert "corrections" in "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("name", KERAS[:-1])
def test_keras_examples_get_closer(name: str, on_tensorflow: list[str]) -> None:
    first, last, *more = numbers(on_tensorflow[KERAS.index(name)])
    assert last < 0.5 * first
    assert name != "keras_fit" or more[0] > 0.85, "accuracy"


@pytest.mark.slow
def test_two_workers_train_one_model() -> None:
    """The example itself holds their weights to be equal."""
    pytest.importorskip("tensorflow")
    (line,) = run_keras("tensorflow", "keras_workers.py")
    first, last = numbers(line)
    assert last < 0.5 * first


@pytest.mark.slow
def test_training_goes_on_under_another_backend(on_tensorflow: list[str], on_jax: list[str]) -> None:
    wanted = on_tensorflow[KERAS.index("keras_two_backends")]
    np.testing.assert_allclose(numbers(on_jax[0]), numbers(wanted), rtol=1e-4)


@pytest.mark.parametrize(("name", "share"), [("sklearn_out_of_core", 4), ("sklearn_dask", 2)])
def test_scikit_learn_learns_out_of_core(name: str, share: int) -> None:
    pytest.importorskip("sklearn")
    if name == "sklearn_dask":
        pytest.importorskip("dask.array", reason="its blocks are the data")
    accuracy, size, memory = (float(n) for n in re.findall(r"\d+\.\d+", run(f"{name}.py")))
    assert accuracy > 0.9
    assert memory < size / share

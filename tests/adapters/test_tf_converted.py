"""Keras' files become portable files: models of Keras' own optimizers and of ours, and weights with ours."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from scirs2_adapters import state
from scirs2_adapters import tf as adapter
from scirs2_adapters.commands.app import app
from scirs2_adapters.core import HostOptimizer, get
from scirs2_adapters.core.portable.convert import differences
from scirs2_adapters.core.portable.state import loaded

from .tf_support import KERAS_READS

pytestmark = KERAS_READS
X = np.sin(np.arange(80.0)).reshape(20, 4).astype("float32")


def trained(optimizer: keras.optimizers.Optimizer, **options: object) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="one", **options)])
    model.compile(optimizer, loss="mse")
    for _ in range(3):
        model.train_on_batch(X, X[:, :3])
    return model


def short(path: str) -> str:
    """The names of a layer and its variable: a model that was loaded has lost its own."""
    return "/".join(path.split("/")[-2:])


def convert(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["state", "convert", *map(str, words)])
    return done.exit_code, done.output


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
@pytest.mark.parametrize("options", [{}, {"state_dtype": "bfloat16"}], ids=str)
def test_a_file_of_ours_becomes_what_would_have_been_saved(
    ending: str, options: dict[str, str], tmp_path: Path
) -> None:
    model, path = trained(adapter.AdamW(**options)), tmp_path / f"model{ending}"
    (model.save if ending == ".keras" else model.save_weights)(path)
    state.save(model.optimizer, tmp_path / "saved")
    assert convert(path, tmp_path / "made", "--to", "keras") == (0, "")
    with loaded("test", tmp_path / "saved") as one, loaded("test", tmp_path / "made") as other:
        one, other = (replace(s, parameters={short(n): p for n, p in s.parameters.items()}) for s in (one, other))
        assert [d for d in differences(one, other) if "/exp" in d.place or "step" in d.place] == []
        assert {*one.parameters} == {*other.parameters}
        assert one.layout == other.layout


@pytest.mark.parametrize("name", ["Adam", "SGD", "RMSprop"])
def test_a_model_of_keras_goes_on_in_numpy(name: str, tmp_path: Path) -> None:
    options = {"SGD": {"momentum": 0.9}}.get(name, {})
    model = trained(getattr(keras.optimizers, name)(learning_rate=1e-2, **options))
    model.save(tmp_path / "model.keras")
    names = tmp_path / "names.json"
    names.write_text(json.dumps({short(v.path): v.path.rpartition("/")[2] for v in model.trainable_variables}))
    assert convert(tmp_path / "model.keras", tmp_path / "made", "--to", "keras", "--names", names) == (0, "")
    params = {v.path.rpartition("/")[2]: np.array(v.numpy()) for v in model.trainable_variables}
    rule = get(name.lower())(match="keras", learning_rate=1e-2, **options)
    host = HostOptimizer(rule, params)
    assert not state.load(tmp_path / "made", host).converted
    grads = {n: np.sin(np.arange(p.size, dtype=np.float32)).reshape(p.shape) for n, p in params.items()}
    model.optimizer.apply([keras.ops.convert_to_tensor(grads[n]) for n in params], model.trainable_variables)
    host.step(grads)
    for n, v in zip(params, model.trainable_variables, strict=True):
        np.testing.assert_allclose(params[n], v.numpy(), rtol=1e-5, atol=1e-6)


UNNAMED = {
    "adam": keras.optimizers.Adam,
    "amsgrad": lambda: keras.optimizers.Adam(amsgrad=True),
    "schedule": lambda: keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(1e-2, 10)),
    **{name: getattr(keras.optimizers, name) for name in ("RMSprop", "Nadam", "Lion", "Adagrad", "Adamax", "Lamb")},
}


@pytest.mark.parametrize("name", UNNAMED)
def test_weights_with_an_optimizer_of_keras_become_what_the_whole_model_becomes(name: str, tmp_path: Path) -> None:
    """By number, to which the map gives names."""
    model = trained(UNNAMED[name]())
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    names = tmp_path / "names.json"
    names.write_text(json.dumps({str(i): short(v.path) for i, v in enumerate(model.trainable_variables)}))
    assert convert(tmp_path / "model.keras", tmp_path / "one", "--to", "torch") == (0, "")
    assert convert(tmp_path / "model.weights.h5", tmp_path / "other", "--to", "torch", "--names", names) == (0, "")
    with loaded("test", tmp_path / "one") as one, loaded("test", tmp_path / "other") as other:
        one = replace(one, parameters={short(n): p for n, p in one.parameters.items()})
        assert [d for d in differences(one, other) if d.place not in one.config] == []
        assert [*one.parameters] == [*other.parameters]
        assert other.config.items() <= one.config.items()


def test_embeddings_are_known_by_the_names_that_are_given(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Embedding(5, 3), keras.layers.Dense(2)])
    model.compile("adam", loss="mse")
    model.train_on_batch(np.ones((4, 2)), np.ones((4, 2, 2)))
    model.save_weights(tmp_path / "model.weights.h5")
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"0": "embedding.weight", "1": "linear.weight", "2": "linear.bias"}))
    assert convert(tmp_path / "model.weights.h5", tmp_path / "made", "--to", "torch", "--names", names) == (0, "")
    parameters = state.describe(tmp_path / "made").parameters
    assert {n: p.slots["exp_avg"].shape for n, p in parameters.items()} == {
        "embedding.weight": (5, 3), "linear.weight": (2, 3), "linear.bias": (2,),
    }  # fmt: skip


#: Keras' optimizers whose weights do not say what is what.
AMBIGUOUS = {
    "rows weights": keras.optimizers.Adafactor,
    "momentum weights": lambda: keras.optimizers.SGD(momentum=0.9),
    "average weights": lambda: keras.optimizers.Adam(use_ema=True),
    "nothing weights": keras.optimizers.SGD,
    "named weights": lambda: keras.optimizers.Adam(name="mine"),
}


def bad(kind: str, folder: Path) -> Path:
    """A file of Keras' that has no state for us."""
    path = folder / ("model.weights.h5" if "weights" in kind else "model.keras")
    if kind == "lambda":
        model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: 2 * x)])
        model.compile(adapter.SGD(), loss="mse")
    elif kind == "alone weights":
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    else:
        model = trained(keras.optimizers.Adam() if kind not in AMBIGUOUS else AMBIGUOUS[kind]())
    (model.save_weights if "weights" in kind else model.save)(path)
    if kind.startswith("cut"):
        path.write_bytes(path.read_bytes()[:-200])
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cut", ""), ("cut weights", "not whole"), ("lambda", "Keras cannot load"),
        ("alone weights", "weights alone"), ("rule", "and not of lion"), ("rows weights", "depends on the variable"),
        ("momentum weights", "fit Keras' SGD with gradient_accumulation_steps or momentum or use_ema"),
        ("average weights", "fit Keras' Adam with gradient_accumulation_steps or use_ema"),
        ("nothing weights", "fit Keras' SGD with no arguments"), ("named weights", "is called 'mine'"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused(kind: str, words: str, tmp_path: Path) -> None:
    rule = ("--rule", "lion") if kind == "rule" else ()
    code, text = convert(bad(kind, tmp_path), tmp_path / "made", "--to", "keras", *rule)
    assert (code, words in text) == (2, True), text
    assert "must hold the state of an optimizer" in text or kind == "named weights"
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["text.keras", "text.weights.h5", "absent.keras"])
def test_what_is_no_file_of_keras_is_refused(name: str, tmp_path: Path) -> None:
    if name.startswith("text"):
        (tmp_path / name).write_text("no state")
    done = CliRunner().invoke(app, ["state", "show", str(tmp_path / name)])
    assert done.exit_code == 2
    assert ("no file of Keras'" if name.startswith("text") else "There is no file") in done.output


def test_the_optimizer_inside_of_a_scaled_loss_is_read(tmp_path: Path) -> None:
    """As Keras makes one for models of mixed_float16."""
    plain, scaled = keras.optimizers.Adam(1e-2), keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-2))
    for name, optimizer in (("plain", plain), ("scaled", scaled)):
        trained(optimizer).save(tmp_path / f"{name}.keras")
        assert convert(tmp_path / f"{name}.keras", tmp_path / name, "--to", "numpy") == (0, "")
    with loaded("test", tmp_path / "plain") as one, loaded("test", tmp_path / "scaled") as other:
        assert [d for d in differences(one, other) if d.what or d.largest > 1e-6] == []
    ours = trained(keras.optimizers.LossScaleOptimizer(adapter.Adam(1e-2))).optimizer
    state.save(ours, tmp_path / "ours")
    assert not state.load(tmp_path / "ours", ours).converted  # type: ignore[union-attr]


def test_memory_that_means_something_else_in_torch_becomes_no_state_dict(tmp_path: Path) -> None:
    """Keras' SGD has the learning rate in its buffer."""
    trained(keras.optimizers.SGD(1e-2, momentum=0.9)).save(tmp_path / "sgd.keras")
    code, text = convert(tmp_path / "sgd.keras", tmp_path / "made.pt", "--to", "torch")
    assert (code, "means something else in torch.optim" in " ".join(text.split())) == (2, True)
    assert not (tmp_path / "made.pt").exists()
    assert convert(tmp_path / "sgd.keras", tmp_path / "made", "--to", "torch") == (0, "")

"""What all adapters of the demo start from, as numpy arrays: two problems, first weights, batches, hyperparameters.

A gap between two trajectories means something only if everything but the framework is equal. So initial weights and
the order of batches are drawn once, here, and the loss is the same function everywhere: cross entropy, averaged over
the batch. The activation is tanh. With ReLU, about once in a run, rounding puts an input near zero on different sides
of the kink in two frameworks, and from there on the trajectories differ with any optimizer.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from scirs2_adapters.core.argument_names import ArgumentNames
from scirs2_adapters.core.errors import require
from scirs2_adapters.core.fields import Value
from scirs2_adapters.core.registry import get

#: The optimizers of the demo by the core's names. Each adapter spells them in its framework's words.
HYPER: Final = {
    "adamw": {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 1e-2},
    "lion": {"learning_rate": 3e-4, "beta1": 0.9, "beta2": 0.99, "weight_decay": 1e-2},
}
#: The module of each adapter, in the order of the table.
MODULES: Final = {
    "torch": "torch_digits", "tf": "keras_digits", "jax": "jax_digits", "sklearn": "sklearn_digits", "hf": "hf_text",
}  # fmt: skip
SIZES: Final = (64, 64, 32, 10)
BATCH: Final = 64
#: Of the source of the standard library; whichever of them an interpreter ships.
SOURCES: Final = ("argparse", "ast", "dataclasses", "difflib", "enum", "inspect", "pathlib", "subprocess", "typing")
WINDOW: Final = 64


@dataclass(frozen=True)
class Settings:
    """How long to train, and where everything is written."""

    output: str
    steps: int = 450
    text_steps: int = 150
    rounds: int = 60
    seed: int = 0
    #: The optimizers with their hyperparameters; beside the framework's own if `peers`.
    hyper: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: HYPER)
    peers: bool = True
    snapshots: int = 30

    def of(self, adapter: str) -> int:
        """The steps of this adapter's problem."""
        return self.text_steps if adapter == "hf" else self.steps

    def words(self, optimizer: str, names: ArgumentNames) -> dict[str, Value]:
        """The hyperparameters of an optimizer in a framework's words."""
        return names.to_framework(self.hyper[optimizer], get(optimizer).fields_with())


@dataclass(frozen=True)
class Digits:
    """scikit-learn's digits in batches, and first weights of a perceptron: kernel (in, out) and bias by layer."""

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    initial: list[np.ndarray]

    def score(self, parameters: Sequence[np.ndarray]) -> tuple[float, float]:
        """Loss over all batches and accuracy on held-out digits, by numpy: one judge for all adapters."""
        logits = _forward(self.x.reshape(-1, SIZES[0]), parameters)
        shifted = logits - logits.max(axis=1, keepdims=True)
        likelihood = shifted[np.arange(len(shifted)), self.y.ravel()] - np.log(np.exp(shifted).sum(axis=1))
        hits = _forward(self.test_x, parameters).argmax(axis=1) == self.test_y
        return float(-likelihood.mean()), float(hits.mean())


def _forward(x: np.ndarray, parameters: Sequence[np.ndarray]) -> np.ndarray:
    for i in range(0, len(parameters), 2):
        x = (np.tanh(x) if i else x) @ parameters[i].astype(np.float64) + parameters[i + 1]
    return x


def write_digits(settings: Settings) -> None:
    """Draw weights and batches, and leave them where all adapters find them: only scikit-learn can load the digits."""
    require("sklearn", {"sklearn": ("scikit-learn", "1.6")})
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(settings.seed)
    x, y = load_digits(return_X_y=True)
    shuffled = rng.permutation(len(x))
    train, test = shuffled[: len(x) * 4 // 5], shuffled[len(x) * 4 // 5 :]
    epochs = settings.steps * BATCH // len(train) + 1
    order = np.concatenate([rng.permutation(train) for _ in range(epochs)])[: settings.steps * BATCH]
    order = order.reshape(settings.steps, BATCH)
    x = (x / 16).astype(np.float32)
    weights: dict[str, Any] = {}
    for i, (fan_in, fan_out) in enumerate(pairwise(SIZES)):
        bound = np.sqrt(6 / (fan_in + fan_out))
        weights[f"p{2 * i}"] = rng.uniform(-bound, bound, (fan_in, fan_out)).astype(np.float32)
        weights[f"p{2 * i + 1}"] = np.zeros(fan_out, dtype=np.float32)
    np.savez(Path(settings.output) / "digits.npz", x=x[order], y=y[order], test_x=x[test], test_y=y[test], **weights)


def read_digits(settings: Settings) -> Digits:
    """The digits as the parent process has written them."""
    with np.load(Path(settings.output) / "digits.npz") as file:
        initial = [file[f"p{i}"] for i in range(2 * (len(SIZES) - 1))]
        return Digits(file["x"], file["y"], file["test_x"], file["test_y"], initial)


@dataclass(frozen=True)
class Text:
    """Windows of characters as numbers, for training and held out, and how many characters there are."""

    train: np.ndarray
    test: np.ndarray
    vocabulary: int


def read_text(settings: Settings) -> Text:
    """The source of the standard library, character by character; no tokenizer, no download."""
    files = [Path(sysconfig.get_path("stdlib")) / f"{name}.py" for name in SOURCES]
    text = "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
    characters, numbers = np.unique(list(text), return_inverse=True)
    windows = numbers[: len(numbers) // WINDOW * WINDOW].reshape(-1, WINDOW)
    windows = windows[np.random.default_rng(settings.seed).permutation(len(windows))]
    return Text(windows[256:], windows[:256], len(characters))

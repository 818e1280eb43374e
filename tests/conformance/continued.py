"""A perceptron, a convolutional network and a transformer, each in torch, JAX and Keras with the layers and layouts of
the framework.

Weights go from one to the next as torch lays them, as by the conversion of a model's weights; memory goes by files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scirs2_adapters import get, state
from scirs2_adapters.core.matrix import INPUTS_FIRST, OUTPUTS_FIRST
from scirs2_adapters.core.portable.layouts import turned_to

Weights = dict[str, np.ndarray]
WIDTH, WORDS, LENGTH = 6, 7, 5
#: By torch's name: the shape as torch lays it, and the rest of its name in Keras and JAX.
MLP = {
    "up.weight": ((8, 3), "kernel"), "up.bias": ((8,), "bias"),
    "out.weight": ((3, 8), "kernel"), "out.bias": ((3,), "bias"),
}  # fmt: skip
CNN = {
    "conv.weight": ((4, 2, 3, 3), "kernel"), "conv.bias": ((4,), "bias"),
    "deep.weight": ((4, 4, 3, 3), "kernel"), "deep.bias": ((4,), "bias"),
    "out.weight": ((3, 4), "kernel"), "out.bias": ((3,), "bias"),
}  # fmt: skip
#: Without a bias of keys, whose gradient is nothing but rounding, of which formulas by element make whole steps.
TRANSFORMER = {
    "embed.weight": ((WORDS, WIDTH), "embeddings"),
    "qkv.weight": ((3 * WIDTH, WIDTH), "kernel"),
    "proj.weight": ((WIDTH, WIDTH), "kernel"), "proj.bias": ((WIDTH,), "bias"),
    "norm.weight": ((WIDTH,), "gamma"), "norm.bias": ((WIDTH,), "beta"),
    "up.weight": ((4 * WIDTH, WIDTH), "kernel"), "up.bias": ((4 * WIDTH,), "bias"),
    "down.weight": ((WIDTH, 4 * WIDTH), "kernel"), "down.bias": ((WIDTH,), "bias"),
}  # fmt: skip
MODELS = {"mlp": MLP, "cnn": CNN, "transformer": TRANSFORMER}


def first_weights(kind: str) -> Weights:
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, (shape, _) in MODELS[kind].items()}


def batch(kind: str, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, channels last, and targets."""
    rng = np.random.default_rng(step)
    if kind == "mlp":
        return rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
    if kind == "cnn":
        return rng.normal(size=(4, 6, 6, 2)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
    return rng.integers(0, WORDS, (4, LENGTH)), rng.normal(size=(4, LENGTH, WIDTH)).astype(np.float32)


def renamed(kind: str, framework: str) -> dict[str, str]:
    """What a framework calls each of torch's names."""
    joint = {"torch": "", "jax": ".", "tf": "/"}[framework]
    names = {name: f"{name.split('.')[0]}{joint}{last}" for name, (_, last) in MODELS[kind].items()}
    return {name: name for name in names} if framework == "torch" else names


def turned(weights: Weights, layout: str) -> Weights:
    """Weights in another layout than that which they have."""
    axes = {n: turned_to(layout, n, x.ndim) for n, x in weights.items()}
    return {n: x if axes[n] is None else x.transpose(axes[n]) for n, x in weights.items()}


class Torch:
    """torch's modules."""

    def __init__(self, kind: str, weights: Weights, rule: str, rate: float) -> None:
        import torch

        from scirs2_adapters import torch as adapter

        self.kind, self.model = kind, _torch_model(kind)
        self.model.load_state_dict({n: torch.tensor(x) for n, x in weights.items()})
        self.optimizer = getattr(adapter, get(rule).__name__)(self.model.named_parameters(), lr=rate)

    def step(self, step: int) -> None:
        import torch

        x, y = map(torch.from_numpy, batch(self.kind, step))
        self.optimizer.zero_grad()
        torch.nn.functional.mse_loss(self.model(x), y).backward()
        self.optimizer.step()

    def weights(self) -> Weights:
        return {n: p.detach().numpy().copy() for n, p in self.model.named_parameters()}

    def save(self, path: Path) -> None:
        state.save(self.optimizer, path)

    def load(self, path: Path, rename: dict[str, str]) -> None:
        state.load(path, self.optimizer, rename=rename)


def _torch_model(kind: str) -> Any:
    from torch import nn
    from torch.nn import functional as f

    class Mlp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.out = nn.Linear(3, 8), nn.Linear(8, 3)

        def forward(self, x: Any) -> Any:
            return self.out(f.silu(self.up(x)))

    class Cnn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.deep = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3)
            self.out = nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            x = f.silu(self.deep(f.silu(self.conv(x.permute(0, 3, 1, 2)))))
            return self.out(x.mean((2, 3)))

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.qkv = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, 3 * WIDTH, bias=False)
            self.proj, self.norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, words: Any) -> Any:
            x = self.embed(words)
            x = x + self.proj(f.scaled_dot_product_attention(*self.qkv(x).chunk(3, dim=-1)))
            return x + self.down(f.silu(self.up(self.norm(x))))

    return {"mlp": Mlp, "cnn": Cnn, "transformer": Transformer}[kind]()


class Jax:
    """Functions of a tree of parameters, with kernels as flax has them."""

    def __init__(self, kind: str, weights: Weights, rule: str, rate: float) -> None:
        import jax

        from scirs2_adapters import jax as adapter

        self.kind, self.tx = kind, getattr(adapter, rule)(rate)
        self.params: dict[str, dict[str, Any]] = {}
        for name, x in turned(weights, INPUTS_FIRST).items():
            layer, last = renamed(kind, "jax")[name].split(".")
            self.params.setdefault(layer, {})[last] = jax.numpy.array(x)
        self.memory = self.tx.init(self.params)

        @jax.jit
        def step(params: Any, memory: Any, x: Any, y: Any) -> Any:
            grads = jax.grad(lambda p: ((_jax_model(kind, p, x) - y) ** 2).mean())(params)
            return adapter.step(self.tx, grads, memory, params)

        self.stepped = step

    def step(self, step: int) -> None:
        self.params, self.memory = self.stepped(self.params, self.memory, *batch(self.kind, step))

    def weights(self) -> Weights:
        names = {n: name.split(".") for n, name in renamed(self.kind, "jax").items()}
        return turned({n: np.array(self.params[layer][last]) for n, (layer, last) in names.items()}, OUTPUTS_FIRST)

    def save(self, path: Path) -> None:
        state.save((self.tx, self.memory), path)

    def load(self, path: Path, rename: dict[str, str]) -> None:
        self.memory, _ = state.load(path, (self.tx, self.memory), rename=rename)  # type: ignore[misc]


def _jax_model(kind: str, params: Any, x: Any) -> Any:
    import jax
    from jax import nn

    def dense(name: str, x: Any) -> Any:
        return x @ params[name]["kernel"] + params[name]["bias"]

    def conv(name: str, x: Any) -> Any:
        forms = ("NHWC", "HWIO", "NHWC")
        kernel = params[name]["kernel"]
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=forms) + params[name]["bias"]

    if kind == "mlp":
        return dense("out", nn.silu(dense("up", x)))
    if kind == "cnn":
        return dense("out", nn.silu(conv("deep", nn.silu(conv("conv", x)))).mean((1, 2)))
    x = params["embed"]["embeddings"][x]
    q, k, v = jax.numpy.split(x @ params["qkv"]["kernel"], 3, axis=-1)
    x = x + dense("proj", nn.softmax(q @ k.swapaxes(-1, -2) / WIDTH**0.5, axis=-1) @ v)
    norm = params["norm"]
    even = nn.standardize(x, axis=-1, epsilon=1e-5) * norm["gamma"] + norm["beta"]
    return x + dense("down", nn.silu(dense("up", even)))


class Keras:
    """Keras' layers, on any backend."""

    def __init__(self, kind: str, weights: Weights, rule: str, rate: float) -> None:
        from scirs2_adapters import tf as adapter

        self.kind, self.model = kind, _keras_model(kind)
        self.variables = {"/".join(v.path.split("/")[-2:]): v for v in self.model.trainable_variables}
        for name, x in turned(weights, INPUTS_FIRST).items():
            self.variables[renamed(kind, "tf")[name]].assign(x)
        self.optimizer = getattr(adapter, get(rule).__name__)(learning_rate=rate)
        self.optimizer.build(self.model.trainable_variables)
        self.model.compile(self.optimizer, loss="mse")

    def step(self, step: int) -> None:
        self.model.train_on_batch(*batch(self.kind, step))

    def weights(self) -> Weights:
        names = renamed(self.kind, "tf")
        return turned({n: np.array(self.variables[name].numpy()) for n, name in names.items()}, OUTPUTS_FIRST)

    def save(self, path: Path) -> None:
        state.save(self.optimizer, path)

    def load(self, path: Path, rename: dict[str, str]) -> None:
        state.load(path, self.optimizer, rename={there: self.variables[here].path for there, here in rename.items()})


def _keras_model(kind: str) -> Any:
    import keras
    from keras import layers, ops

    if kind == "mlp":
        inputs = keras.Input((3,))
        return keras.Model(inputs, layers.Dense(3, name="out")(layers.Dense(8, activation="silu", name="up")(inputs)))
    if kind == "cnn":
        x = inputs = keras.Input((6, 6, 2))
        for name in ("conv", "deep"):
            x = layers.Conv2D(4, 3, activation="silu", name=name)(x)
        return keras.Model(inputs, layers.Dense(3, name="out")(ops.mean(x, axis=(1, 2))))
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = layers.Embedding(WORDS, WIDTH, name="embed")(inputs)
    q, k, v = ops.split(layers.Dense(3 * WIDTH, use_bias=False, name="qkv")(x), 3, axis=-1)
    weights = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1))) / WIDTH**0.5, axis=-1)
    x = x + layers.Dense(WIDTH, name="proj")(ops.matmul(weights, v))
    even = layers.LayerNormalization(epsilon=1e-5, name="norm")(x)
    up = layers.Dense(4 * WIDTH, activation="silu", name="up")(even)
    return keras.Model(inputs, x + layers.Dense(WIDTH, name="down")(up))


RUNS = {"torch": Torch, "jax": Jax, "tf": Keras}

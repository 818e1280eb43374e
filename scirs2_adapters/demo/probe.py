"""Which paths run in an adapter on this machine: each is tried with one step. `python -m scirs2_adapters.demo.probe
ADAPTER` prints the answer as JSON.

An answer deduced from versions could differ from what the adapters decide.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Final

from scirs2_adapters.adapters import adapters


def path_taken(adapter: str) -> str:
    """The path of an ordinary AdamW on float32 in this process: "host" where the kernel runs, else "traced"."""
    return "traced" if kernel_obstacle(adapter, "host") else "host"


def kernel_obstacle(adapter: str, kernel: str) -> str | None:
    """Why `kernel` cannot step this adapter's AdamW in this process, or None when it has done so."""
    try:
        _STEPS[adapter](kernel)
    except Exception as error:  # of any kind: it is the answer
        return " ".join(str(error).split()) or type(error).__name__
    return None


def _torch(kernel: str) -> None:
    import torch

    from scirs2_adapters.torch import AdamW

    p = torch.nn.Parameter(torch.ones(8))
    p.grad = torch.ones(8)
    AdamW([p], kernel=kernel).step()


def _tf(kernel: str) -> None:
    import keras
    import numpy as np

    from scirs2_adapters.tf import AdamW

    variable = keras.Variable(np.ones(8, "float32"))
    AdamW(kernel=kernel).apply([keras.ops.ones(8)], [variable])


def _jax(kernel: str) -> None:
    import jax
    import jax.numpy as jnp

    from scirs2_adapters.jax import adamw, step

    tx, p = adamw(1e-3, kernel=kernel), jnp.ones(8)
    jax.jit(lambda g, s, p: step(tx, g, s, p))(p, tx.init(p), p)[0].block_until_ready()


def _hf(kernel: str) -> None:
    import tempfile

    import torch
    from transformers import TrainingArguments

    from scirs2_adapters.hf import optim

    with tempfile.TemporaryDirectory() as folder:
        cls, words = optim("adamw", TrainingArguments(folder, use_cpu=True, report_to=[]), kernel=kernel)
    p = torch.nn.Parameter(torch.ones(8))
    p.grad = torch.ones(8)
    cls([p], **words).step()


def _sklearn(kernel: str) -> None:
    import numpy as np

    from scirs2_adapters.core import HostOptimizer
    from scirs2_adapters.sklearn import AdamW, LinearRegressor

    x = np.ones((4, 2), np.float32)
    HostOptimizer(AdamW(), [x.copy()], kernel=kernel).step([x])  # the estimators have no such argument: they are "auto"
    LinearRegressor(optimizer=AdamW()).partial_fit(x, x[:, 0])


_STEPS: Final[dict[str, Callable[[str], None]]] = {
    "torch": _torch, "tf": _tf, "jax": _jax, "hf": _hf, "sklearn": _sklearn,
}  # fmt: skip


def main() -> None:
    """Import the adapter and step once on each path."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what frameworks print is not part of the answer
    adapter = sys.argv[1]
    assert adapter in adapters()
    answer: dict[str, str | None] = {"missing": None}
    try:
        import_module(f"scirs2_adapters.{adapter}")
    except Exception as error:
        answer["missing"] = " ".join(str(error).split()) or type(error).__name__
    else:
        if adapter in _STEPS:
            answer |= {kernel: kernel_obstacle(adapter, kernel) for kernel in ("host", "traced")}
    json.dump(answer, out)
    out.close()


if __name__ == "__main__":
    main()

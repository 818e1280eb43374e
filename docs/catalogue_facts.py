"""What the package says of each optimizer, for docs/catalogue.md: where it runs, and which formats hold its memory.

Nothing is listed by hand. Adapters and paths come from the gaps of the conformance table, CUDA from the kernel's own
obstacle, formats from what happens when an optimizer is made with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
from stubs import NAMES

from benchmarks.catalogue import shapes
from scirs2_adapters.core import HostOptimizer, get
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Extent, Leaf
from scirs2_adapters.core.step.options import slot_dtype

#: Formats under the words of tables: the dtype of the parameters, and options of an optimizer.
FORMATS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "bfloat16 state": ("float32", {"state_dtype": "bfloat16"}),
    "int8 state": ("float32", {"state_dtype": "int8"}),
    "bfloat16 model": ("bfloat16", {}),
    "stochastic": ("bfloat16", {"rounding": "stochastic"}),
    "compensated": ("bfloat16", {"rounding": "compensated"}),
}
SHAPE = (320, 288)  # longer than the ranks that rules project onto
Refusals = dict[str, str]
#: Steps an optimizer of this name over one parameter of a dtype, and raises if it cannot be.
Attempt = Callable[[str, str, dict[str, Any]], object]


def core_attempt(name: str, dtype: str, options: dict[str, Any]) -> object:
    import ml_dtypes

    return HostOptimizer(name, {"w": np.zeros(SHAPE, getattr(ml_dtypes, dtype, dtype))}, **options)


def torch_attempt(name: str, dtype: str, options: dict[str, Any]) -> object:
    import torch

    p = torch.nn.Parameter(torch.zeros(SHAPE, dtype=getattr(torch, dtype)))
    p.grad = torch.zeros_like(p).to_sparse() if get(name).sparse == "rows" else torch.zeros_like(p)
    return getattr(import_module("scirs2_adapters.torch"), get(name).__name__)([p], kernel="traced", **options).step(
        lambda: torch.ones(())
    )


def tf_attempt(name: str, dtype: str, options: dict[str, Any]) -> object:
    import keras

    from scirs2_adapters.adapters.tf.argument_names import spelling

    made = getattr(import_module("scirs2_adapters.tf"), spelling(get(name)))(**options)
    return made.build([keras.Variable(np.zeros(SHAPE), dtype=dtype)])


def jax_attempt(name: str, dtype: str, options: dict[str, Any]) -> object:
    import jax
    import jax.numpy as jnp

    from scirs2_adapters.adapters.jax.argument_names import factory_name

    made = getattr(import_module("scirs2_adapters.jax"), factory_name(name))(**options)
    w = {"w": jnp.zeros(SHAPE, dtype)}
    return jax.eval_shape(lambda w: made.update(w, made.init(w), w, value=1.0), w)


#: The other two adapters drive optimizers of these: the Trainer torch's, and estimators the core's.
ATTEMPTS: Mapping[str, Attempt] = {
    "core": core_attempt,
    "torch": torch_attempt,
    "tf": tf_attempt,
    "jax": jax_attempt,
}


def refusals_of(adapter: str) -> dict[str, Refusals]:
    """By optimizer and format, why the adapter refuses it; empty where it takes it."""
    attempt = ATTEMPTS.get(adapter)
    return {name: _refused(attempt, name) for name in NAMES} if attempt else {}


def _refused(attempt: Attempt, name: str) -> Refusals:
    refusals = {}
    for words, (dtype, options) in FORMATS.items():
        try:
            attempt(name, dtype, options)
        except (ValueError, TypeError, RuntimeError) as error:
            refusals[words] = str(error)
    return refusals


def cuda() -> dict[str, dict[str, str]]:
    """Why no generated kernel steps a matrix and a vector on CUDA devices; empty where one does."""
    from scirs2_adapters.adapters.torch.executors.triton_layout import formula_obstacle

    leaves = {"matrix": Leaf(SHAPE, "float32", "weight"), "vector": Leaf(SHAPE[:1], "float32", "bias")}
    rules = {name: get(name)() for name in NAMES}
    return {
        name: {k: formula_obstacle(record(rule.route(leaf), leaf)) or "" for k, leaf in leaves.items()}
        for name, rule in rules.items()
    }


def state_bytes(name: str, state_dtype: str | None) -> float:
    """Bytes of state a parameter, for the tensors of the benchmark."""
    from scirs2_adapters.core.memory import expected

    rule, total, numbers = get(name)(), 0, 0
    for key, shape in shapes().items():
        leaf = Leaf(shape, "float32", key)
        total += sum(stored.bytes for stored in expected(rule.route(leaf), leaf, state_dtype))
        numbers += int(np.prod(shape))
    return total / numbers


def wide_slots(name: str) -> dict[str, str]:
    """The slots like the parameter that 8 bits do not hold, with the reason."""
    leaf = Leaf(SHAPE, "float32", "weight")
    rule = get(name)().route(leaf)
    reasons = {}
    for slot in rule.slots(leaf):
        if slot.extent is Extent.FULL and slot_dtype(slot, leaf, "int8") == "float32":
            copy = slot.initial == "parameter" and not slot.accurate
            reasons[slot.name] = "copy" if copy else "average" if slot.accurate else "lossy"
    return reasons

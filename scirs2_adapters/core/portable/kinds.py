"""Which adapter knows an optimizer: by classes of modules that are loaded already, so that none is imported for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from ..errors import bad_type

_KNOWN: dict[str, Callable[[ModuleType], tuple[type, ...]]] = {
    "torch": lambda m: (m.optim.Optimizer,),
    "keras": lambda m: (m.optimizers.Optimizer,),
    "sklearn.base": lambda m: (m.BaseEstimator,),
    "scirs2_adapters.core.numpy_optimizer": lambda m: (m.HostOptimizer,),
}
_PACKAGES = {
    "torch": "scirs2_adapters.adapters.torch",
    "keras": "scirs2_adapters.adapters.tf",
    "sklearn.base": "scirs2_adapters.adapters.sklearn",
}
_HOST = {"portable": "scirs2_adapters.core.portable.host", "recording": "scirs2_adapters.core.portable.host_recording"}


def adapter(call: str, optimizer: object, file: str) -> ModuleType:
    """The file of this name of the adapter that knows this kind of optimizer."""
    for name, classes in _KNOWN.items():
        module = sys.modules.get(name)
        if module is not None and isinstance(optimizer, classes(module)):
            return import_module(f"{_PACKAGES[name]}.{file}" if name in _PACKAGES else _HOST[file])
    if "jax" in sys.modules and isinstance(optimizer, tuple):
        return import_module(f"scirs2_adapters.adapters.jax.{file}")
    pair = "`(tx, state)`" if file == "portable" else "transformation"
    worded = f"must be an optimizer for torch or Keras, a fitted estimator, a HostOptimizer, or JAX's {pair}"
    raise bad_type(call, "optimizer", worded, optimizer)

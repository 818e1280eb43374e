"""The arrays to evaluate, where an optimizer trains other ones."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from .cpu import storage
from .formats import companion
from .numpy_arrays import carried
from .numpy_optimizer import HostOptimizer
from .numpy_state import Slots
from .ops import HOST_SCALARS
from .step.reference import NUMPY


def evaluation_params(optimizer: HostOptimizer) -> dict[Hashable, np.ndarray]:
    """New arrays by name or position, to be evaluated: averages, of a schedule-free optimizer; else copies of those
    that are trained, which stay as they are.

    >>> import numpy as np
    >>> from scirs2_adapters.core import HostOptimizer, evaluation_params
    >>> optimizer = HostOptimizer("schedulefreeadamw", {"w": np.ones(3)})
    >>> optimizer.step({"w": np.ones(3)})
    >>> evaluation_params(optimizer)["w"]
    array([0.9975, 0.9975, 0.9975])
    """
    return {key: _averaged(optimizer, key) for key in optimizer.params}


def _averaged(optimizer: HostOptimizer, key: Hashable) -> np.ndarray:
    p, slots, rule = optimizer.params[key], optimizer.state.get(key), optimizer.rule_of(key)
    if rule.evaluation is None or slots is None:
        return p.copy()
    numbers = {s.name: _numbers(s.name, slots) for s in rule.roles("evaluation")[0]}
    scalars = rule.scalars(HOST_SCALARS, max(1, optimizer.steps[key]))
    x: np.ndarray = rule.evaluated(NUMPY, storage.load(carried(p), p.dtype.name), numbers, scalars)
    return x.astype(p.dtype)


def _numbers(name: str, slots: Slots) -> np.ndarray:
    """A slot in the dtype of the arithmetic; bfloat16 is carried as uint16."""
    x = slots[name]
    dtype = x.dtype.name.replace("uint16", "bfloat16")
    return storage.load(x, dtype, slots.get(companion(name, dtype) or ""))

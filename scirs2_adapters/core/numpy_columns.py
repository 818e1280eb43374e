"""A step of some columns of an array, where the others have a gradient of zero: at the cost of those columns alone.

That is the same as a step of the whole array for a formula that leaves an element without a gradient as it is, such as
gradient descent without momentum and Adagrad. Weight decay would move every element.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from .numpy_executors import NumpyExecutor
from .numpy_optimizer import HostOptimizer
from .ops import HOST_SCALARS
from .program.recorded import record
from .program.zero_gradient import zero_gradient_is_noop
from .routing import without_decay
from .rule import Rule
from .slots import Leaf


def can_step_columns(rule: Rule, leaf: Leaf) -> bool:
    """Whether a step of this parameter leaves alone what has no gradient."""
    routed = rule.route(leaf)
    return not without_decay(routed) and zero_gradient_is_noop(record(routed, leaf))


def step_columns(optimizer: HostOptimizer, key: Hashable, columns: np.ndarray, gradient: np.ndarray) -> None:
    """Step these columns of one array in place by their gradient; no column may be named twice. The rule must allow it.

    >>> import numpy as np
    >>> from scirs2_adapters.core import SGD, HostOptimizer
    >>> params = {"w": np.ones((2, 4))}
    >>> step_columns(HostOptimizer(SGD(learning_rate=0.5), params), "w", np.array([3]), np.ones((2, 1)))
    >>> params["w"]
    array([[1. , 1. , 1. , 0.5],
           [1. , 1. , 1. , 0.5]])
    """
    entry, step = optimizer._entries[key], optimizer.steps[key] + 1
    if key not in optimizer.state:
        optimizer.state[key] = optimizer.fresh(key)
    whole = [optimizer.params[key], *optimizer.state[key].values()]
    p, *slots = (x[..., columns] for x in whole)
    scalars = {**entry.rule.scalars(HOST_SCALARS, step), **entry.rule.leaf_coefficients(entry.leaf)}
    dtypes = optimizer._dtypes(key, gradient.dtype.name)
    NumpyExecutor([(entry.program, p.shape, dtypes)]).run([[p, gradient, *slots]], [scalars], [0], {}, None)
    for x, stepped in zip(whole, [p, *slots], strict=True):
        x[..., columns] = stepped
    optimizer.steps[key] = step

"""Slow twins: each optimizer's published formula once more, in plain float64 NumPy, from the paper, not from ours.

A fast formula can only be wrong in ways its own tests repeat; a twin read from the paper repeats nothing. Therefore
these files import numpy, math and each other, never the package under test, and `tests/peers` checks the twins
themselves against installed libraries.

How to write one: `tests/reference/foo.py`, found by its name, so no list has to be edited. It holds
* a head that names the paper and the lines transcribed, and each place where the twin follows a published
  implementation instead;
* `step(t, x, g, slots, *, <hyperparameters with their documented defaults>) -> (x, slots)`: the formula for one
  leaf, in the paper's letters, counting t from 1, changing nothing in place. `slots` is empty at t = 1, so a buffer
  starts with `slots.get("exp_avg", 0.0)`;
* `trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is)`, which hands `step` to `walk`. An optimizer
  whose leaves depend on each other writes its own loop (see prodigy.py).
`params` is a list of arrays, `grads` one such list per step, `hyper` a dict of core field names; a name the formula
does not know is a TypeError, because a twin that ignores a hyperparameter is no twin. `maximize` is understood by
all. Returned are, for every step, the list of parameters and {"leaves": [{slot: array}, ...], "model": {scalar:
array}}. `matrix_dtype` is the type of matrix iterations (Muon).

`store(role, x)` returns what memory would keep of x: the test passes a rounding to float32 or bfloat16 and so
learns the error that no implementation can avoid. It is called once for each parameter at each step, leaf after
leaf, with role "param"; with ("slot", name) for slots, and ("model", name) for scalars of the whole model. Within a
step nothing is rounded. Wrappers rely on that order (`_around.py`).

The twin of an optimizer whose step depends on the loss takes the losses, one for each step, as `values`.

Optimizers that evaluate the model (lbfgs.py, sam.py) have no list of gradients: their `trajectory` takes a function
instead, and is compared in tests/unit/test_closures.py.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from ._around import with_modes


def reference(name: str) -> Callable:
    """The `trajectory` of the twin in `tests/reference/<name>.py`."""
    try:
        return with_modes(importlib.import_module(f"{__name__}.{name}").trajectory)
    except ModuleNotFoundError as error:
        raise LookupError(f"{name!r} has no slow twin: write tests/reference/{name}.py.") from error

"""The state of an optimizer in one file that every framework reads: `save`, `load` and `describe`.

A file is in the safetensors format: an array for each parameter and slot, and beside them what the optimizer was, with
a checksum over all of it. It is written whole or not at all, and one that was altered or cut short is refused. Nothing
in a file is ever run.

An optimizer is one of ours from any adapter, one of torch's own, or optax's memory; the framework is known by it, and
no other is imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from scirs2_adapters.core.portable import state as portable
from scirs2_adapters.core.portable.fit import Asked, Report
from scirs2_adapters.core.portable.kinds import adapter
from scirs2_adapters.core.portable.state import State

__all__ = ["Report", "State", "describe", "load", "save"]


def save(optimizer: object, path: str | os.PathLike[str], **options: object) -> None:
    """Write the state of an optimizer to a file.

    Arguments:
      optimizer: an optimizer of ours for torch or Keras, a fitted estimator, a `HostOptimizer`, an optimizer of
        torch's own, or for JAX the pair `(tx, state)`, or a state alone with `rule="adamw"`.
      path: where to write; a file that is there is replaced once the new one is complete.
      names: for torch, what parameters are called, where the optimizer was not made of `named_parameters()`: the
        model, tensors by name, or a list.
      rule: for JAX, the optimizer's name or a rule, where `tx` is not ours.

    Raises where an optimizer keeps what cannot be named, as L-BFGS does; no file is written then.

    >>> import numpy as np
    >>> from scirs2_adapters import state
    >>> from scirs2_adapters.core import HostOptimizer
    >>> optimizer = HostOptimizer("adam", {"w": np.ones(3)})
    >>> optimizer.step({"w": np.ones(3)})
    >>> state.save(optimizer, "state.safetensors")
    >>> state.describe("state.safetensors").parameters["w"].steps
    1
    """
    portable.save(adapter("state.save", optimizer, "portable").read(optimizer, **options), Path(path))


def load(
    path: str | os.PathLike[str],
    optimizer: object,
    *,
    strict: bool = True,
    rename: Mapping[str, str] | None = None,
    layout: str | None = None,
    **options: object,
) -> Report | tuple[object, Report]:
    """Put the state in a file into an optimizer, and report what became of it.

    Memory goes by names of parameters and slots, into the dtypes that this optimizer keeps. Hyperparameters stay those
    of the optimizer. JAX's states cannot be changed: there the result is the new state and the report.

    Arguments:
      path: a file that `save` wrote.
      optimizer: as `save` takes it; one that has not stepped yet, or one whose state is to be replaced.
      strict: whether a parameter or slot that only one side has is an error; if not, what is missing stays as it is.
      rename: names of parameters here by their names in the file.
      layout: how kernels lie in the file, "torch" (outputs first) or "keras" (inputs first), where it cannot be seen.
      names, rule: as `save` takes them.

    Raises before anything is changed: a file that is damaged, of another kind, of another optimizer, or that does not
    fit.
    """
    with portable.loaded("state.load", Path(path)) as saved:
        asked = Asked("state.load", strict, rename or {}, layout)
        result: Report | tuple[object, Report] = adapter("state.load", optimizer, "portable").load(
            optimizer, saved, asked, **options
        )
        return result


def describe(path: str | os.PathLike[str]) -> State:
    """What is in a file, without its numbers: the optimizer, its hyperparameters, and each parameter's slots by shape
    and dtype; printed, it is a line for each. The file is checked as a whole.
    """
    with portable.loaded("state.describe", Path(path)) as saved:
        return saved

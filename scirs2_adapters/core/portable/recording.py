"""A run written down step by step: the gradients of each step, and the parameters and state after it.

A recording is a folder with one file for each step and parameter group, in the format of portable states. The file of
step 0 is the start. Arrays of many numbers are sampled: every axis keeps some of its positions, the same ones in every
run, so that a sample is turned as its array is; the norm of the whole stands beside it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..cpu import storage
from ..errors import bad_type, bad_value
from ..formats import BLOCK_DTYPES
from ..kinds import adapter
from .file import Array, held
from .state import OPTIONAL, ParameterState, State, numbers_in, save

#: What stands beside the slots of a parameter.
PARAM, GRAD, NORM = "param", "grad", "_norm"
#: The variable of the environment that says where to write.
FOLDER = "SCIRS2_RECORD"
T = TypeVar("T")


def record(
    optimizer: T,
    path: str | os.PathLike[str] | None = None,
    *,
    steps: int | None = None,
    largest: int = 65_536,
    **options: object,
) -> T:
    """Write every step of an optimizer into a folder, which `scirs2 drift` compares with another one. Returns the
    optimizer; for JAX, the transformation to use in its place.

    A step's file has the gradients of the step, and the parameters, slots, count and hyperparameters after it.
    Nothing is kept in memory but the array that is being written.

    Arguments:
      optimizer: one of ours or any other for torch or Keras, an estimator whose fit has begun, a `HostOptimizer`, or an
        optax transformation. Keras must run eagerly: `model.compile(..., run_eagerly=True)`.
      path: a folder that is empty or that can be made; without one, the environment's `SCIRS2_RECORD`.
      steps: how many steps to write; all if None.
      largest: how many numbers of an array are written, at least 64; of larger ones a sample, and the norm of all.
      names: for torch, what parameters are called, where the optimizer was not made of `named_parameters()`.
      rule: for JAX, the optimizer's name, where `optimizer` is not one of ours: its slots are then written, too.

    Raises before the first step for what cannot be recorded, such as a folder with files in it.

    >>> import numpy as np
    >>> import scirs2_adapters as s2
    >>> from scirs2_adapters.core import HostOptimizer
    >>> optimizer = s2.record(HostOptimizer("adam", {"w": np.ones(3)}), "recording")
    >>> optimizer.step({"w": np.ones(3)})
    """
    folder = os.environ.get(FOLDER) if path is None else path
    if folder is None:
        raise bad_value("record", "path", f"must be a folder, or {FOLDER} must be one in the environment", path)
    for name, value, least in (("steps", steps, 1), ("largest", largest, 64)):
        if value is not None and (type(value) is not int or value < least):
            raise bad_type("record", name, f"must be a whole number >= {least}", value)
    module = adapter("record", optimizer, "recording")
    recorder = Recorder(Path(folder), steps, largest)
    same: T = module.recorded(optimizer, recorder, **options)
    return same


class Recorder:
    """Writes the steps of one optimizer."""

    def __init__(self, folder: Path, steps: int | None, largest: int) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise bad_value("record", "path", f"must be a folder that can be made ({error})", str(folder)) from None
        if any(folder.iterdir()):
            raise bad_value("record", "path", "must be a folder without files", str(folder), "Name a new one.")
        self.folder, self.steps, self.largest, self.written = folder, steps, largest, 0

    @property
    def started(self) -> bool:
        """Whether the start was written."""
        return self.written > 0

    @property
    def over(self) -> bool:
        """Whether all was written that was asked for."""
        return self.steps is not None and self.written > self.steps

    def write(self, states: Sequence[State]) -> None:
        """The states of the groups after the next step; those before the first one come first."""
        if self.over:
            return
        for group, state in enumerate(states):
            few = {name: _sampled(p, self.largest) for name, p in state.parameters.items()}
            path = self.folder / f"{self.written:08d}.{group:03d}.safetensors"
            save(replace(state, parameters=few), path, durable=False)
        self.written += 1


def with_arrays(
    p: ParameterState, param: Array | None, grad: Array | None, dtype: str = "", shape: tuple[int, ...] | None = None
) -> ParameterState:
    """What is remembered of a parameter, with the parameter itself and its gradient."""
    arrays = {name: x for name, x in ((PARAM, param), (GRAD, grad)) if x is not None}
    return replace(p, slots={**p.slots, **arrays}, dtype=dtype or p.dtype, shape=p.shape if shape is None else shape)


def unknown(
    rule: str, config: Mapping[str, object], parameters: Mapping[str, ParameterState], **facts: object
) -> State:
    """The state of an optimizer that we do not have: numbers and words of its settings, as it calls them."""
    plain = {k: x for k, x in config.items() if x is None or isinstance(x, (bool, int, float, str))}
    return State(rule, None, plain, parameters, **facts)  # type: ignore[arg-type]


def positions(length: int, most: int) -> np.ndarray:
    """Which places of an axis a sample has, evenly spread."""
    return np.arange(length) if length <= most else np.linspace(0, length - 1, most).round().astype(np.int64)


def _sampled(p: ParameterState, largest: int) -> ParameterState:
    """The arrays of a parameter, sampled where they have more numbers than this; codes as the numbers that they are."""
    slots: dict[str, Array] = {}
    for slot, x in p.slots.items():
        of = p.slots.get(slot.removesuffix("_scale"), x)
        if math.prod(of.shape) <= largest:
            slots[slot] = x
        elif of is x:
            slots |= _sample(p, slot, largest)
    return replace(p, slots=slots)


def _sample(p: ParameterState, slot: str, largest: int) -> dict[str, Array]:
    x = p.slots[slot]
    coded = x.dtype in BLOCK_DTYPES and slot not in OPTIONAL
    numbers = storage.store(numbers_in(p, slot), "float32") if coded else x.read()
    dtype = "float32" if coded else x.dtype
    most = max(2, int(largest ** (1 / len(x.shape)) + 1e-9))
    few = numbers[np.ix_(*(positions(n, most) for n in x.shape))]
    whole = storage.load(numbers, dtype) if dtype in storage.STORAGES else numbers
    norm = np.linalg.norm(whole.reshape(-1).astype(np.float64))
    return {slot: held(np.ascontiguousarray(few), dtype), slot + NORM: held(np.asarray(norm), "float64")}

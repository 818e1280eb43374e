"""The step by compiled kernels in a program of XLA."""

from __future__ import annotations

import ctypes
import functools
import itertools
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from scirs2_adapters.core.cpu import xla_calls as ffi
from scirs2_adapters.core.cpu.batch import Batch
from scirs2_adapters.core.cpu.compile import compiler_obstacle
from scirs2_adapters.core.cpu.kernel import kernel_obstacle
from scirs2_adapters.core.cpu.traced_step import TracedStep, number_slots
from scirs2_adapters.core.step.levels import run_levels

from .groups import LeafGroup, Operands, Results
from .ops import OPS, Array, Arrays, Model, Row

TARGET = "scirs2_step"
#: So many tensors are one foreign call: XLA's work on the results of a call grows with the square of their number.
TENSORS = 32
log = logging.getLogger("scirs2")
_lock = threading.Lock()


def loading_obstacle(dtypes: Mapping[str, str]) -> str | None:
    """Why no kernel for these dtypes can be loaded and called by XLA in this process, or None."""
    with _lock:  # threads that step for the first time at once load one compiler and register one handler
        return kernel_obstacle(dtypes) or _register()


@functools.cache
def _register() -> str | None:
    """Makes the handler known to XLA, once; returns why it cannot be used, or None."""
    if reason := compiler_obstacle():
        return reason
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(ctypes.c_void_p(ffi.handler())), platform="cpu")
    if ffi.frame_bytes() >= ffi.FRAME_BYTES:
        return None
    log.warning("scirs2: this jaxlib's foreign calls have another layout than is known; steps are traced")
    return "this jaxlib's foreign calls have another layout than is known"


class Vectors:
    """Short vectors in `jax.numpy`."""

    @staticmethod
    def stack(numbers: Sequence[Array], dtype: str) -> Array:
        return jnp.stack([jnp.asarray(x, dtype) for x in numbers])

    @staticmethod
    def take(x: Array, places: Sequence[int]) -> Array:
        return x[np.array(places)]

    @staticmethod
    def columns(vectors: Sequence[Array], height: int, dtype: str) -> Array:
        columns = [jnp.broadcast_to(x, (height,)) for x in vectors]
        return (jnp.stack(columns, axis=1) if columns else jnp.zeros((1, 1))).astype(dtype)

    @staticmethod
    def cast(x: Array, dtype: str) -> Array:
        return jnp.asarray(x, dtype)


class KernelStep(TracedStep):
    """The passes of one group's kernel. Results are `stored`, by name: those of a pass when it has run."""

    def __init__(self, group: LeafGroup, arrays: Arrays, rows: Sequence[Row], model: Model) -> None:
        self.group, self.stored = group, dict[str, Sequence[Array]]()
        self._sums: Array | None = None
        self._arrays, self._written = arrays, "p" if group.emit == "p" else "u"
        batch = Batch(
            group.program, group.shapes, {**group.dtypes, self._written: group.dtype(group.emit)}, self._written
        )
        numbers = {n: arrays[n] for n in number_slots(batch)}
        super().__init__(batch, OPS, Vectors, rows, group.index, model, numbers)

    def call(self, level: int, coefficients: Array) -> Array:
        parts, shapes = self.batch.kernel.passes[level].parts, self.group.shapes
        read, stored = ffi.operands(self.batch, level), ffi.results(self.batch, level)
        results = list(itertools.chain.from_iterable(map(self._types, stored)))
        if parts.sums:
            results = [jax.ShapeDtypeStruct((len(shapes), len(parts.sums)), self.group.compute)]
        name = np.int64(ffi.publish(self.batch, level, self.rows))
        arrays = itertools.chain.from_iterable(self._arrays[n] for n in read)
        if self._sums is not None:  # adds nothing, but no pass may write before the sums of what was there are made
            coefficients += jnp.where(self._sums[0, 0] > 0, 0.0, -0.0).astype(coefficients.dtype)
        call = jax.ffi.ffi_call(TARGET, results, input_output_aliases=_aliases(read, stored, len(shapes)))
        out = call(coefficients, *arrays, plan=name)
        for place, written in enumerate(stored):
            column = out[place * len(shapes) : (place + 1) * len(shapes)]
            self.stored[self.group.emit if written == self._written else written] = column
        self._sums = out[0]
        return out[0]

    def _types(self, name: str) -> list[jax.ShapeDtypeStruct]:
        """Shapes and dtypes of a result."""
        like, changed = self._arrays["g" if name == "u" else name], self.group.dtype(self.group.emit)
        return [jax.ShapeDtypeStruct(x.shape, changed if name == "u" else x.dtype) for x in like]

    def store_numbers(self) -> None:
        """Stores the slots that are one number for each tensor."""
        for n, value in self.new_numbers().items():
            self.stored[n] = list(jnp.broadcast_to(value, (self.width,)).astype(self.group.dtype(n)))


def _aliases(read: Sequence[str], stored: Sequence[str], tensors: int) -> dict[int, int]:
    """Which result may lie in the buffer of which operand; the coefficients are the first operands."""
    pairs = [(read.index(n), place) for place, n in enumerate(stored) if n in read]
    return {1 + k * tensors + t: place * tensors + t for k, place in pairs for t in range(tensors)}


def host(groups: Sequence[LeafGroup], operands: Operands) -> Results:
    """The step by compiled kernels: as `traced`, which it stands for."""
    model = operands.model
    steps = [
        [KernelStep(part, x, rows, model) for part, x in pieces(group, arrays)]
        for group, arrays, rows in zip(groups, operands.arrays, operands.rows, strict=True)
    ]
    every_step = [step for parts in steps for step in parts]
    run_levels(every_step, lambda shares: OPS.total([jnp.sum(x) for x in shares]))
    for step in every_step:
        step.store_numbers()
    new = {n: x.astype(model[n].dtype) for n, x in every_step[0].values.model_numbers().items()}
    return [_joined(parts, g.results) for parts, g in zip(steps, groups, strict=True)], {**model, **new}


def _joined(parts: Sequence[KernelStep], names: Sequence[str]) -> dict[str, list[Array]]:
    """The results of a group whose parts were stepped apart."""
    return {n: [x for part in parts for x in part.stored[n]] for n in names}


def pieces(group: LeafGroup, arrays: Arrays) -> Iterator[tuple[LeafGroup, Arrays]]:
    """The group in parts of a size that XLA compiles well."""
    for start in range(0, len(group.shapes), TENSORS):
        part = slice(start, start + TENSORS)
        group_part = replace(group, shapes=group.shapes[part], index=group.index[part])
        yield group_part, {n: x[part] for n, x in arrays.items()}

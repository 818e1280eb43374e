"""The step by compiled kernels, pass by pass, in a program of XLA.

Between two passes of a rule with norms or sums, what is smaller than a tensor is computed by `jax.numpy` in the same
program.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from scirs2_adapters.core.cpu import xla_calls as ffi
from scirs2_adapters.core.cpu.batch import Batch
from scirs2_adapters.core.formats import DITHER
from scirs2_adapters.core.slots import Extent
from scirs2_adapters.core.step.levels import LevelValues, run_levels

from .dispatch.plan import LeafGroup, Operands, Results
from .ops import OPS, Array, Arrays, Model, Row

TARGET = "scirs2_step"
#: So many tensors are one foreign call: XLA's work on the results of a call grows with the square of their number.
TENSORS = 32


class KernelStep:
    """The passes of one group's kernel. Results are `stored`, by name: those of a pass when it has run."""

    def __init__(self, group: LeafGroup, arrays: Arrays, rows: Sequence[Row], model: Model) -> None:
        self.group, self.stored = group, dict[str, Sequence[Array]]()
        self._arrays, self._written = arrays, "p" if group.emit == "p" else "u"
        dtypes = {**group.dtypes, self._written: group.dtype(group.emit)}
        self._batch = Batch(group.program, group.shapes, dtypes, self._written)
        self._numbers = [s.name for s in group.program.slots if s.extent is Extent.TENSOR]
        # Values are arrays with a number for each tensor, or for each row of coefficients.
        per_tensor = bool(group.program.levels or self._numbers)
        self._rows = list(range(len(group.index))) if per_tensor else group.index
        self._width = len(group.index) if per_tensor else len(rows)
        compute = group.compute
        names = [n for n in (*group.program.scalars, DITHER) if n in rows[0]]
        scalars = {n: jnp.stack([jnp.asarray(r[n], compute) for r in rows]) for n in names}
        if per_tensor:
            scalars = {n: x[np.array(group.index)] for n, x in scalars.items()}
        self._dither = scalars.get(DITHER)
        leaf = {n: jnp.asarray(x, compute) for n, x in model.items()}
        leaf |= {n: jnp.stack([x.astype(compute) for x in arrays[n]]) for n in self._numbers}
        sizes = np.array([max(1, math.prod(s)) for s in group.shapes], compute)
        self.values = LevelValues(group.program, OPS, [leaf], [scalars], sizes, lambda total: total.astype(compute))

    def run_pass(self, level: int) -> None:
        """Calls one kernel, and takes its sums or its results."""
        parts, shapes = self._batch.kernel.passes[level].parts, self.group.shapes
        read, stored = ffi.operands(self._batch, level), ffi.results(self._batch, level)
        results = list(itertools.chain.from_iterable(map(self._types, stored)))
        if parts.sums:
            results = [jax.ShapeDtypeStruct((len(shapes), len(parts.sums)), self.group.compute)]
        name = np.int64(ffi.publish(self._batch, level, self._rows))
        arrays = itertools.chain.from_iterable(self._arrays[n] for n in read)
        call = jax.ffi.ffi_call(TARGET, results, input_output_aliases=_aliases(read, stored, len(shapes)))
        out = call(self._coefficients(level), *arrays, plan=name)
        for place, written in enumerate(stored):
            column = out[place * len(shapes) : (place + 1) * len(shapes)]
            self.stored[self.group.emit if written == self._written else written] = column
        for k, i in enumerate(parts.sums):
            self.values.take_sums(i, out[0][:, k])

    def _types(self, name: str) -> list[jax.ShapeDtypeStruct]:
        """Shapes and dtypes of a result."""
        like, changed = self._arrays["g" if name == "u" else name], self.group.dtype(self.group.emit)
        return [jax.ShapeDtypeStruct(x.shape, changed if name == "u" else x.dtype) for x in like]

    def _coefficients(self, level: int) -> Array:
        """The rows of coefficients of a pass."""
        this = self._batch.kernel.passes[level]
        columns = [self.values[i][0] for i in this.parts.coefficients] + [self._dither] * this.dithered
        columns = [jnp.broadcast_to(x, (self._width,)) for x in columns]
        coefficients = jnp.stack(columns, axis=1) if columns else jnp.zeros((1, 1))
        return coefficients.astype(self.group.compute)

    def store_numbers(self) -> None:
        """Stores the slots that are one number for each tensor."""
        for n in self._numbers:
            values = jnp.broadcast_to(self.values[self.group.program.outputs[n]][0], (self._width,))
            self.stored[n] = list(values.astype(self.group.dtype(n)))


def _aliases(read: Sequence[str], stored: Sequence[str], tensors: int) -> dict[int, int]:
    """Which result may lie in the buffer of which operand, of which the first are the coefficients."""
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

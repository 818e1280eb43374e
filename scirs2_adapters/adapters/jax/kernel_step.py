"""The step by compiled kernels, pass by pass, in a program of XLA.

Between two passes of a rule with norms or sums, what is smaller than a tensor is computed by `jax.numpy` in the same
program.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from scirs2_adapters.core.cpu import xla_calls as ffi
from scirs2_adapters.core.cpu.batch import Batch
from scirs2_adapters.core.slots import Extent
from scirs2_adapters.core.step.levels import LevelValues, run_levels

from .dispatch.plan import LeafGroup, Operands, Results
from .ops import OPS, Array, Arrays, Model, Row

TARGET = "scirs2_step"
#: So many tensors are one foreign call: XLA's work on the results of a call grows with the square of their number.
TENSORS = 32


class KernelStep:
    """The passes of one group's kernel. Results are `stored`, by name: those of a pass when it has run."""

    def __init__(self, group: LeafGroup, emit: str, arrays: Arrays, rows: Sequence[Row], model: Model) -> None:
        self.group, self.stored = group, dict[str, Sequence[Array]]()
        self._arrays, self._emit, self._written = arrays, emit, "p" if emit == "p" else "u"
        dtypes = {**group.dtypes, self._written: group.dtype(emit)}
        self._batch = Batch(group.program, group.shapes, dtypes, self._written)
        self._numbers = [s.name for s in group.program.slots if s.extent is Extent.TENSOR]
        # Values are arrays with a number for each tensor, or for each row of coefficients.
        per_tensor = bool(group.program.levels or self._numbers)
        self._rows = list(range(len(group.index))) if per_tensor else group.index
        self._width = len(group.index) if per_tensor else len(rows)
        compute = group.compute
        scalars = {n: jnp.stack([jnp.asarray(r[n], compute) for r in rows]) for n in group.program.scalars}
        if per_tensor:
            scalars = {n: x[np.array(group.index)] for n, x in scalars.items()}
        leaf = {n: jnp.asarray(x, compute) for n, x in model.items()}
        leaf |= {n: jnp.stack([x.astype(compute) for x in arrays[n]]) for n in self._numbers}
        sizes = np.array([max(1, math.prod(s)) for s in group.shapes], compute)
        self.values = LevelValues(group.program, OPS, [leaf], [scalars], sizes, lambda total: total.astype(compute))

    def run_pass(self, level: int) -> None:
        """Calls one kernel, and takes its sums or its results."""
        parts, shapes = self._batch.kernel.passes[level].parts, self.group.shapes
        operands, aliases = self._operands(level)
        dtypes = [self._batch.kernel.dtypes[parts.arrays[k].name] for k in parts.stores]
        results = [jax.ShapeDtypeStruct(shape, dtype) for dtype in dtypes for shape in shapes]
        if parts.sums:
            results = [jax.ShapeDtypeStruct((len(shapes), len(parts.sums)), self.group.compute)]
        name = np.int64(ffi.publish(self._batch, level, self._rows))
        out = jax.ffi.ffi_call(TARGET, results, input_output_aliases=aliases)(*operands, plan=name)
        for place, k in enumerate(parts.stores):
            written = parts.arrays[k].name
            column = out[place * len(shapes) : (place + 1) * len(shapes)]
            self.stored[self._emit if written == self._written else written] = column
        for k, i in enumerate(parts.sums):
            self.values.take_sums(i, out[0][:, k])

    def _operands(self, level: int) -> tuple[list[Array], dict[int, int]]:
        """The coefficients and the arrays of a pass, and which result may lie in the buffer of which operand."""
        parts, tensors = self._batch.kernel.passes[level].parts, len(self.group.shapes)
        columns = [jnp.broadcast_to(self.values[i][0], (self._width,)) for i in parts.coefficients]
        coefficients = jnp.stack(columns, axis=1) if columns else jnp.zeros((1, 1))
        operands, aliases = [coefficients.astype(self.group.compute)], dict[int, int]()
        places = {k: place for place, k in enumerate(parts.stores)}
        for k, a in enumerate(parts.arrays):
            if a.node >= 0:
                if k in places:
                    aliases |= {len(operands) + t: places[k] * tensors + t for t in range(tensors)}
                operands += self._arrays[a.name]
        return operands, aliases

    def store_numbers(self) -> None:
        """Stores the slots that are one number for each tensor."""
        for n in self._numbers:
            values = jnp.broadcast_to(self.values[self.group.program.outputs[n]][0], (self._width,))
            self.stored[n] = list(values.astype(self.group.dtype(n)))


def host(groups: Sequence[LeafGroup], emit: str, operands: Operands) -> Results:
    """The step by compiled kernels: as `traced`, which it stands for."""
    model = operands.model
    steps = [
        [KernelStep(part, emit, x, rows, model) for part, x in pieces(group, arrays)]
        for group, arrays, rows in zip(groups, operands.arrays, operands.rows, strict=True)
    ]
    every_step = [step for parts in steps for step in parts]
    run_levels(every_step, lambda shares: OPS.total([jnp.sum(x) for x in shares]))
    for step in every_step:
        step.store_numbers()
    new = {n: x.astype(model[n].dtype) for n, x in every_step[0].values.model_numbers().items()}
    return [_joined(parts, g.stored(emit)) for parts, g in zip(steps, groups, strict=True)], {**model, **new}


def _joined(parts: Sequence[KernelStep], names: Sequence[str]) -> dict[str, list[Array]]:
    """The results of a group whose parts were stepped apart."""
    return {n: [x for part in parts for x in part.stored[n]] for n in names}


def pieces(group: LeafGroup, arrays: Arrays) -> Iterator[tuple[LeafGroup, Arrays]]:
    """The group in parts of a size that XLA compiles well."""
    for start in range(0, len(group.shapes), TENSORS):
        part = slice(start, start + TENSORS)
        group_part = replace(group, shapes=group.shapes[part], index=group.index[part])
        yield group_part, {n: x[part] for n, x in arrays.items()}

"""The step by compiled kernels, pass by pass, in a program of XLA.

Between two passes of a rule with norms or sums, what is smaller than a tensor is computed by `jax.numpy` in the same
program.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scirs2_adapters.core.cpu import xla_calls as ffi
from scirs2_adapters.core.cpu.engine import Batch
from scirs2_adapters.core.program.interpret import evaluate
from scirs2_adapters.core.program.recorder import Node
from scirs2_adapters.core.slots import Extent

from .ops import OPS, Arrays, LeafGroup

TARGET = "scirs2_step"
#: So many tensors are one foreign call: XLA's work on the results of a call grows with the square of their number.
TENSORS = 32


def _is_sum(nodes: Sequence[Node], index: int) -> bool:
    return nodes[index].reduces and nodes[nodes[index].args[0]].extent is Extent.FULL


class Passes:
    """The passes of one group's kernel, and the small values between them."""

    def __init__(self, group: LeafGroup, emit: str, arrays: Arrays, rows: Any, model: Mapping[str, Any]) -> None:
        own = "p" if emit == "p" else "u"
        dtypes = {**group.dtypes, own: group.dtype(emit)}
        self.batch = Batch(group.program, group.shapes, dtypes, own)
        self.group, self.arrays, self.own, self.emit = group, arrays, own, emit
        self.made: dict[str, Sequence[Any]] = {}
        compute = group.compute
        index = np.array(group.index)
        table = {n: jnp.stack([jnp.asarray(r[n], compute) for r in rows]) for n in group.program.scalars}
        self.small = [s.name for s in group.program.slots if s.extent is Extent.TENSOR]
        # Numbers for each tensor, or for each different row of coefficients.
        self.many = bool(group.program.levels or self.small)
        self.rows = list(range(len(index))) if self.many else group.index
        self.width = len(index) if self.many else len(rows)
        self.scalars = {n: x[index] if self.many else x for n, x in table.items()}
        self.model = {n: jnp.asarray(x, compute) for n, x in model.items()}
        self.model |= {n: jnp.stack([x.astype(compute) for x in arrays[n]]) for n in self.small}
        self.needed = group.program.order(list(group.program.outputs.values()))
        self.values: dict[int, list[Any]] = {}
        self.evaluate(0)

    def evaluate(self, level: int) -> None:
        """Everything of this level that is smaller than a tensor."""
        nodes = self.group.program.nodes
        for i in self.needed:
            node = nodes[i]
            if (
                node.level == level
                and node.extent is not Extent.FULL
                and i not in self.values
                and not _is_sum(nodes, i)
            ):
                self.values[i] = evaluate(node, OPS, [self.model], [self.scalars], [self.values[a] for a in node.args])

    def call(self, level: int) -> None:
        """Runs a pass, and takes its sums or its results."""
        parts, shapes = self.batch.kernel.passes[level].parts, self.group.shapes
        columns = [jnp.broadcast_to(self.values[i][0], (self.width,)) for i in parts.coefficients]
        coefficients = jnp.stack(columns, axis=1) if columns else jnp.zeros((1, 1))
        operands, results = [coefficients.astype(self.group.compute)], []
        aliases: dict[int, int] = {}
        places = {k: place for place, k in enumerate(parts.stores)}
        for k, a in enumerate(parts.arrays):
            if a.node >= 0:
                if k in places:
                    aliases |= {len(operands) + t: places[k] * len(shapes) + t for t in range(len(shapes))}
                operands += self.arrays[a.name]
        for k in parts.stores:
            dtype = self.batch.kernel.dtypes[parts.arrays[k].name]
            results += [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
        if parts.sums:
            results = [jax.ShapeDtypeStruct((len(shapes), len(parts.sums)), self.group.compute)]
        name = np.int64(ffi.publish(self.batch, level, self.rows))
        out = jax.ffi.ffi_call(TARGET, results, input_output_aliases=aliases)(*operands, plan=name)
        for place, k in enumerate(parts.stores):
            stored = parts.arrays[k].name
            self.made[self.emit if stored == self.own else stored] = out[
                place * len(shapes) : (place + 1) * len(shapes)
            ]
        for k, i in enumerate(parts.sums):
            self.take(i, out[0][:, k])

    def keep(self) -> None:
        """Takes what is remembered as one number for each tensor."""
        for n in self.small:
            values = jnp.broadcast_to(self.values[self.group.program.outputs[n]][0], (self.width,))
            self.made[n] = list(values.astype(self.group.dtype(n)))

    def take(self, index: int, sums: Any) -> None:
        """The sums of every tensor, of which a mean is a part."""
        if self.group.program.nodes[index].op == "mean":
            sums = sums / np.array([max(1, int(np.prod(s))) for s in self.group.shapes], self.group.compute)
        self.values[index] = [sums]


def host(groups: Sequence[LeafGroup], emit: str, arrays: Sequence[Arrays], rows: Any, model: Mapping[str, Any]) -> Any:
    """The step by compiled kernels: as `traced`, which it stands for."""
    parts = [
        [Passes(p, emit, a, r, model) for p, a in pieces(g, x)] for g, x, r in zip(groups, arrays, rows, strict=True)
    ]
    every = [p for part in parts for p in part]
    for level in range(max(p.group.program.levels for p in every) + 1):
        now = [p for p in every if p.group.program.levels >= level]
        for p in now:
            p.call(level)
        _share(now, level)
        for p in now:
            p.evaluate(level + 1)
    for p in every:
        p.keep()
    outputs, new = every[0].group.program.outputs, dict(model)
    new |= {n: every[0].values[outputs[n]][0].reshape(-1)[0].astype(x.dtype) for n, x in model.items()}
    names = (g.stored(emit) for g in groups)
    return [{n: [x for p in part for x in p.made[n]] for n in ns} for part, ns in zip(parts, names, strict=True)], new


def pieces(group: LeafGroup, arrays: Arrays) -> Iterator[tuple[LeafGroup, Arrays]]:
    """The group in parts of a size that XLA compiles well."""
    for start in range(0, len(group.shapes), TENSORS):
        part = slice(start, start + TENSORS)
        yield (
            replace(group, shapes=group.shapes[part], index=group.index[part]),
            {n: x[part] for n, x in arrays.items()},
        )


def _share(every: Sequence[Passes], level: int) -> None:
    """Adds up what is a sum over the whole model."""
    first = every[0].group.program.nodes
    for i, node in enumerate(first):
        if node.op == "total" and node.level == level + 1 and _is_sum(first, i):
            whole = functools.reduce(operator.add, (jnp.sum(p.values[i][0]) for p in every))
            for p in every:
                p.values[i] = [whole.astype(p.group.compute)]

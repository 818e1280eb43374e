"""The values of a step that are smaller than a tensor, and the order in which passes and values are computed.

A rule with norms or sums needs several passes over its tensors. Each pass yields sums; everything that is smaller than
a tensor and follows from them is computed before the next pass (`program/passes.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..ops import Array, Ops, Scalars
from ..program.interpret import evaluate
from ..program.node import Node
from ..program.recorded import Program
from ..slots import Extent

#: What is a matrix of each tensor, and no vector of all.
APART = (Extent.SIDE, Extent.LOW)


class Lines(Protocol):
    """The rows and columns of all tensors as vectors."""

    def spread(self, x: Array, extent: Extent, over: Extent) -> Array:
        """A number for each of a greater extent."""

    def sums(self, x: Array, extent: Extent, over: Extent, mean: bool) -> Array:
        """The sums, or the means, of vectors of an extent over all that is in one number of a smaller one."""


@dataclass(eq=False)
class LevelValues:
    """The small values of one batch of tensors, by node of their program.

    A value is an array with a number for each tensor, so that hundreds of norms are one operation; one with a number
    for each row, column or matrix of all tensors where there are such `lines`; or, of squares and projections, a list
    with an array for each tensor. `leaf` and `scalars` have the same form. `sizes` are the numbers of elements, by
    which sums become means; `number` converts a sum over the model.
    """

    program: Program
    ops: Ops
    leaf: Mapping[str, Array]
    scalars: Scalars
    sizes: Array
    number: Callable[[Array], Array]
    lines: Lines | None = None

    def __post_init__(self) -> None:
        self._small = _small_nodes(self.program)
        self._values: dict[int, Array] = {}
        self._last_use = _last_uses(self.program)
        self.evaluate(0)

    def __getitem__(self, node: int) -> Array:
        return self._values[node]

    def __setitem__(self, node: int, value: Array) -> None:
        self._values[node] = value

    def evaluate(self, level: int) -> None:
        """Computes every value of this level that no pass computes."""
        for i in self._small:
            node = self.program.nodes[i]
            if node.level == level and i not in self._values:
                self._values[i] = self._value(node)
                for a in node.args:
                    if self._last_use.get(a) == i:
                        self._values.pop(a, None)

    def _value(self, node: Node) -> Array:
        args, extents = [self._values[a] for a in node.args], [self.program.nodes[a].extent for a in node.args]
        if any(extent in APART for extent in extents):
            values = [self._one(node, [apart(x, t) for x in args]) for t in range(len(self.sizes))]
            return values if node.extent in APART else np.array(values)
        if self.lines is None or not node.args:
            return self._one(node, args)
        if node.op in ("sum", "mean") and extents[0] > Extent.TENSOR:
            return self.lines.sums(args[0], extents[0], node.extent, node.op == "mean")
        spread = [self.lines.spread(x, extent, node.extent) for x, extent in zip(args, extents, strict=True)]
        return self._one(node, spread)

    def _one(self, node: Node, args: list[Array]) -> Array:
        return evaluate(node, self.ops, [self.leaf], [self.scalars], [[x] for x in args])[0]

    def take_sums(self, node: int, sums: Array) -> None:
        """Takes a sum over each tensor, as an array with a number for each."""
        self._values[node] = sums / self.sizes if self.program.nodes[node].op == "mean" else sums

    def totals(self, level: int) -> list[int]:
        """The nodes that are sums over the model and follow from the pass of this level."""
        nodes = enumerate(self.program.nodes)
        return [i for i, node in nodes if node.op == "total" and node.level == level + 1 and _is_sum(self.program, i)]

    def take_total(self, node: int, total: Array) -> None:
        """Takes a sum over the model."""
        self._values[node] = self.number(total)

    def model_numbers(self) -> dict[str, Array]:
        """The new numbers of the model, by slot."""
        names = [s.name for s in self.program.slots if s.extent is Extent.MODEL]
        values = {name: self._values[self.program.outputs[name]] for name in names}
        return {name: self.ops.reshape(value, (-1,))[0] for name, value in values.items()}


def apart(x: Array, tensor: int) -> Array:
    """What a value is of one tensor."""
    return x[tensor] if isinstance(x, list) or np.ndim(x) else x


def _is_sum(program: Program, index: int) -> bool:
    """Whether a pass computes it, from the elements of a tensor, or a function of matrices."""
    node = program.nodes[index]
    return node.op == "matrix" or (node.reduces and program.nodes[node.args[0]].extent is Extent.FULL)


@functools.lru_cache(maxsize=256)
def _last_uses(program: Program) -> Mapping[int, int]:
    """After which node each projection, which is large, may go; outputs and what functions of matrices take stay."""
    nodes, outputs = program.nodes, list(program.outputs.values())
    order = sorted(program.order(outputs), key=lambda i: nodes[i].level)
    last = {a: i for i in order for a in nodes[i].args if nodes[a].extent is Extent.LOW}
    kept = {*outputs, *(a for i in order if nodes[i].op == "matrix" for a in nodes[i].args)}
    return {a: i for a, i in last.items() if a not in kept}


@functools.lru_cache(maxsize=256)
def _small_nodes(program: Program) -> list[int]:
    """The nodes that are smaller than a tensor and that no pass computes, in order."""
    order = program.order(list(program.outputs.values()))
    return [i for i in order if program.nodes[i].extent is not Extent.FULL and not _is_sum(program, i)]


class BatchStep(Protocol):
    """One batch during one step: its small values, and what runs a pass over its tensors and takes the sums."""

    values: LevelValues

    def run_pass(self, level: int) -> None:
        """Runs one pass."""


def run_levels(batches: Sequence[BatchStep], add: Callable[[list[Array]], Array]) -> None:
    """All passes of all batches, level by level. `add` adds up the entries of a sum over the model."""
    for level in range(max((b.values.program.levels for b in batches), default=-1) + 1):
        present = [b for b in batches if b.values.program.levels >= level]
        for batch in present:
            batch.run_pass(level)
        _share_totals([b.values for b in present], level, add)
        for batch in present:
            batch.values.evaluate(level + 1)


def _share_totals(batches: Sequence[LevelValues], level: int, add: Callable[[list[Array]], Array]) -> None:
    """Adds up what is a sum over the model, whose tensors are in several batches."""
    for nodes in zip(*(values.totals(level) for values in batches), strict=True):
        shares = [values[node] for values, node in zip(batches, nodes, strict=True)]
        total = add(shares)
        for values, node in zip(batches, nodes, strict=True):
            values.take_total(node, total)

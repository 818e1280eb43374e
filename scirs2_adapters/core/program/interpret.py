"""Runs a recorded program with any framework's arrays: the traced path of every adapter, and with numpy the oracle.

Operation by operation over all parameters, because a sum over the model needs every parameter's share before it has a
value. A value is dropped after its last use.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence

from ..ops import ELEMENTWISE, OPERATORS, Array, Ops, Scalars
from ..slots import Extent
from .folded import specialized
from .node import Node
from .recorded import Program

_OPERATORS = {op: getattr(operator, "truediv" if op == "div" else op) for op in OPERATORS}


def run(
    program: Program, ops: Ops, leaves: Sequence[Mapping[str, Array]], scalars: Sequence[Scalars], wanted: Sequence[str]
) -> list[dict[str, Array]]:
    """The outputs `wanted` for each leaf, from its arrays (`p`, `g`, slots) and the scalars of its step."""
    program = specialized(program, scalars)
    order = program.order([program.outputs[name] for name in wanted])
    last = {arg: i for i in order for arg in program.nodes[i].args}
    keep = {program.outputs[name] for name in wanted}
    values: dict[int, list[Array]] = {}
    for index in order:
        node = program.nodes[index]
        values[index] = evaluate(node, ops, leaves, scalars, [values[a] for a in node.args])
        for arg in set(node.args):
            if last[arg] == index and arg not in keep:
                del values[arg]
    return [{name: values[program.outputs[name]][i] for name in wanted} for i in range(len(leaves))]


def evaluate(
    node: Node, ops: Ops, leaves: Sequence[Mapping[str, Array]], scalars: Sequence[Scalars], args: list[list[Array]]
) -> list[Array]:
    """The value of one node for every leaf, from those of its arguments."""
    if node.op == "input":
        return [leaf[node.name] for leaf in leaves]
    if node.op == "scalar":
        return [s[node.name] for s in scalars]
    if node.op == "total":
        return [ops.total([ops.sum(x, None) for x in args[0]])] * len(leaves)
    if node.extent is Extent.MODEL and node.level and args[0]:  # the same for every leaf: computed once
        return [_one(node, ops, [a[0] for a in args])] * len(leaves)
    return [_one(node, ops, list(entry)) for entry in zip(*args, strict=True)]


def _one(node: Node, ops: Ops, args: list[Array]) -> Array:
    if node.op in _OPERATORS:
        return _OPERATORS[node.op](*args)
    if node.op in ELEMENTWISE or node.op == "square":
        return getattr(ops, node.op)(*args)
    if node.op == "matrix":
        function, options = node.static
        return ops.matrix(function, ops, args, dict(options))
    if isinstance(node.static, tuple):  # the mean over axes is that of means over each
        return functools.reduce(getattr(ops, node.op), node.static, *args)
    return getattr(ops, node.op)(*args, node.static)

"""A program for coefficients of which some are known: zero or one.

What they leave of it is what all that trace or interpret a formula run. A compiler may not do it for them: 0 * p is NaN
where p is infinite, and so reads p.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..slots import Extent
from .node import Node
from .recorded import Program

#: In place of a node: the numbers zero and one.
_ZERO, _ONE = -2, -1

#: What is zero where there is no weight decay.
DECAY = ("l2", "decay")


def specialized(program: Program, rows: Sequence[Mapping[str, object]]) -> Program:
    """The program without a weight decay that is the number 0 in all these rows of coefficients, and without products
    with coefficients that are the number 1. The rows must be those of all parameters over which its sums go.
    """
    zeros = tuple(name for name in DECAY if all(_equals(row.get(name), 0) for row in rows))
    ones = tuple(name for name in program.scalars if all(_equals(row.get(name), 1) for row in rows))
    return _specialized(program, zeros, ones)


def _equals(x: object, number: int) -> bool:
    return isinstance(x, (int, float)) and x == number


@functools.cache
def _specialized(program: Program, zeros: tuple[str, ...], ones: tuple[str, ...]) -> Program:
    """The program in which these are zero and one; unchanged if a result would then be the gradient array itself."""
    if not set(zeros + ones) & set(program.scalars):
        return program
    rest = folded(program, zeros, ones)
    inputs = {name for name, i in rest.outputs.items() if rest.nodes[i].op == "input"}
    return program if inputs - program.kept else rest


def folded(program: Program, zeros: tuple[str, ...], ones: tuple[str, ...] = ()) -> Program:
    """The program in which these inputs and coefficients are zero, and these coefficients one. Its first nodes are the
    numbers zero and one.
    """
    alike, nodes = list[int](), [Node("scalar", (), Extent.TENSOR, 0, name) for name in ("zero", "one")]
    for i, node in enumerate(program.nodes):
        args = [alike[a] for a in node.args]
        alike.append(_folded(i, node, args, zeros, ones))
        places = tuple(a + 2 for a in args)
        extents = [nodes[a].extent for a in places]
        node = replace(node, args=places)
        if extents and not node.reduces:
            node = replace(node, extent=functools.reduce(Extent.join, extents))
        nodes.append(replace(node, op="neg", args=places[1:]) if node.op == "sub" and args[0] == _ZERO else node)
    outputs = {name: alike[i] + 2 for name, i in program.outputs.items()}
    return replace(program, nodes=tuple(nodes), outputs=outputs)


def _folded(index: int, node: Node, args: list[int], zeros: tuple[str, ...], ones: tuple[str, ...]) -> int:
    """The node that this one equals where these are zero and one."""
    match node.op:
        case "input" | "scalar" if node.name in zeros:
            return _ZERO
        case "scalar" if node.name in ones:
            return _ONE
        case "mul" if _ZERO in args:
            return _ZERO
        case "mul" if _ONE in args:
            return max(args)
        case "div" if args[1] == _ONE:
            return args[0]
        case "div" | "neg" | "abs" | "sign" | "sqrt" if args[0] == _ZERO:
            return _ZERO
        case "add" if _ZERO in args:
            return max(args)
        case "sub" if args[1] == _ZERO:
            return args[0]
        case "where" if args[1] == args[2]:
            return args[1]
    return index

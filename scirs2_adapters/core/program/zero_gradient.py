"""Whether a step may leave out the elements whose gradient is zero: what lets a sparse gradient be applied to its rows.

Read from the recorded formula, by following zeros through it, and not declared: it depends on fields such as momentum.
"""

from __future__ import annotations

import functools

from ..slots import Extent
from .node import Node
from .recorded import Program

#: In place of a node: the number zero.
_ZERO = -1


@functools.cache
def kept_by_zero_gradient(program: Program) -> frozenset[str]:
    """Which of the parameter, "p", and the slots keep their value in an element whose gradient is zero, weight decay
    aside, whatever becomes of the others.
    """
    nodes, alike = program.nodes, list[int]()
    for i, node in enumerate(nodes):
        alike.append(_folded(i, node, [alike[a] for a in node.args]))
    results = {name: alike[i] for name, i in program.outputs.items() if name != "delta" and alike[i] != _ZERO}
    return frozenset(name for name, i in results.items() if (nodes[i].op, nodes[i].name) == ("input", name))


def zero_gradient_is_noop(program: Program) -> bool:
    """Whether an element whose gradient is zero keeps its value and memory, and needs nothing of the other elements."""
    unchanged = kept_by_zero_gradient(program) == {"p", *(s.name for s in program.slots)}
    return unchanged and program.levels == 0 and all(s.extent is Extent.FULL for s in program.slots)


def _folded(index: int, node: Node, args: list[int]) -> int:
    """The node that this one equals where the gradient and weight decay are zero."""
    match node.op:
        case "input" | "scalar" if node.name in ("g", "l2", "decay"):
            return _ZERO
        case "mul" if _ZERO in args:
            return _ZERO
        case "div" | "neg" | "abs" | "sign" | "sqrt" if args[0] == _ZERO:
            return _ZERO
        case "add" if _ZERO in args:
            return max(args)
        case "sub" if args[1] == _ZERO:
            return args[0]
        case "where" if args[1] == args[2]:
            return args[1]
    return index

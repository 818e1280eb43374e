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
def zero_gradient_is_noop(program: Program) -> bool:
    """Whether an element whose gradient is zero keeps its value and memory, weight decay aside, whatever becomes of the
    others.
    """
    nodes, alike = program.nodes, list[int]()
    for i, node in enumerate(nodes):
        alike.append(_folded(i, node, [alike[a] for a in node.args]))
    results = {name: alike[i] for name, i in program.outputs.items() if name != "delta"}
    unchanged = all(i != _ZERO and (nodes[i].op, nodes[i].name) == ("input", name) for name, i in results.items())
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

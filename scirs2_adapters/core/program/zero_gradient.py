"""What a step does to the elements whose gradient is zero: what lets a sparse gradient be applied to its rows.

Read from the recorded formula, by following zeros through it, and not declared: it depends on fields such as momentum.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace

from ..slots import Extent
from .node import Node
from .recorded import Program

#: In place of a node: the number zero.
_ZERO = -1


#: What is zero as well where weight decay is none.
DECAY = ("l2", "decay")


@functools.cache
def kept_by_zero_gradient(program: Program) -> frozenset[str]:
    """Which of the parameter, "p", and the slots keep their value in an element whose gradient is zero, weight decay
    aside, whatever becomes of the others.
    """
    return _with_zeros(program, ("g", *DECAY)).kept


def zero_gradient_is_noop(program: Program) -> bool:
    """Whether an element whose gradient is zero keeps its value and memory, and needs nothing of the other elements."""
    return kept_by_zero_gradient(program) == {"p", *(s.name for s in program.slots)} and _by_element(program)


def _by_element(program: Program) -> bool:
    return not any(n.reduces for n in program.nodes) and all(s.extent is Extent.FULL for s in program.slots)


@functools.cache
def without_gradient(program: Program, decays: bool) -> Program | None:
    """What becomes of an element whose gradient is zero, with the operations that this leaves; None where it depends on
    other elements. `decays` says whether there is weight decay.
    """
    rest = _with_zeros(program, ("g",) if decays else ("g", *DECAY))
    ends = {name: rest.nodes[i] for name, i in rest.outputs.items() if name != "delta"}
    if not _by_element(program) or any(node.extent is not Extent.FULL for node in ends.values()):
        return None
    return _with_step(rest)


def _with_step(program: Program) -> Program:
    """The same with the output "step" where the parameter becomes itself less something: this."""
    last = program.nodes[program.outputs["p"]]
    less = last.op == "sub" and program.nodes[last.args[0]].name == "p"
    return replace(program, outputs=program.outputs | {"step": last.args[1]}) if less else program


@functools.cache
def multiple_of_gradient(program: Program) -> Program | None:
    """The program without weight decay, if all that it does is to subtract a multiple of the gradient, its "step"."""
    rest, degrees = _with_step(_with_zeros(program, DECAY)), list[float]()
    for node in rest.nodes:
        degrees.append(_degree(node, [degrees[a] for a in node.args]))
    multiple = "step" in rest.outputs and degrees[rest.outputs["step"]] == 1
    return rest if multiple and not program.slots else None


def _degree(node: Node, args: list[float]) -> float:
    """1 of a multiple of the gradient, 0 of a coefficient, NaN of anything else."""
    match node.op:
        case "scalar":
            return 0
        case "input" if node.name == "g":
            return 1
        case "neg":
            return args[0]
        case "add" | "sub" if args[0] == args[1]:
            return args[0]
        case "mul":
            return sum(args)
        case "div" if args[1] == 0:
            return args[0]
    return math.nan


def _with_zeros(program: Program, zeros: tuple[str, ...]) -> Program:
    """The program in which these inputs and coefficients are zero. Its first node is the number zero."""
    alike, nodes = list[int](), [Node("scalar", (), Extent.TENSOR, 0, "zero")]
    for i, node in enumerate(program.nodes):
        args = [alike[a] for a in node.args]
        alike.append(_folded(i, node, args, zeros))
        places = tuple(a + 1 for a in args)
        extents = [nodes[a].extent for a in places]
        node = replace(node, args=places)
        if extents and not node.reduces:
            node = replace(node, extent=functools.reduce(Extent.join, extents))
        nodes.append(replace(node, op="neg", args=places[1:]) if node.op == "sub" and args[0] == _ZERO else node)
    outputs = {name: alike[i] + 1 for name, i in program.outputs.items()}
    return replace(program, nodes=tuple(nodes), outputs=outputs)


def _folded(index: int, node: Node, args: list[int], zeros: tuple[str, ...]) -> int:
    """The node that this one equals where these are zero."""
    match node.op:
        case "input" | "scalar" if node.name in zeros:
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

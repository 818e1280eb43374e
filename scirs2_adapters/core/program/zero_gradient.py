"""What a step does to the elements whose gradient is zero: what lets a sparse gradient be applied to its rows.

Read from the recorded formula, by following zeros through it, and not declared: it depends on fields such as momentum.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace

from ..slots import Extent
from .folded import DECAY, folded
from .node import Node
from .recorded import Program


@functools.cache
def kept_by_zero_gradient(program: Program) -> frozenset[str]:
    """Which of the parameter, "p", and the slots keep their value in an element whose gradient is zero, weight decay
    aside, whatever becomes of the others.
    """
    return folded(program, ("g", *DECAY)).kept


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
    rest = folded(program, ("g",) if decays else ("g", *DECAY))
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
    rest, degrees = _with_step(folded(program, DECAY)), list[float]()
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

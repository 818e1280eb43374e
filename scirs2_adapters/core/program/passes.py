"""Cuts a program into passes over whole tensors.

Each level of the program is one pass that reads parameters, gradients and slots and computes the sums of the next
level; nothing is stored but those sums. Only the last pass writes. So no pass sees what an earlier one has rounded,
there is no temporary of the model's size, and an error between two passes leaves everything as it was. What a pass
needs of smaller extent than the tensor (norms, row means, the model's numbers) reaches it as coefficients or short
vectors, which are computed between the passes (`step/levels.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..slots import Extent
from .node import Node
from .recorded import Program


@dataclass(frozen=True)
class Operand:
    """An array that a pass reads or writes: a parameter, gradient or slot by name, or a value computed between passes
    by node.
    """

    name: str
    extent: Extent
    node: int

    @property
    def computed(self) -> bool:
        """Whether it lives only for this step."""
        return self.name.startswith("%")


@dataclass(frozen=True)
class Pass:
    """One loop over all tensors: what it reads, the body in order, the sums it makes or the arrays it stores."""

    level: int
    arrays: tuple[Operand, ...]
    coefficients: tuple[int, ...]  # nodes: scalars of the step, and numbers computed between passes
    body: tuple[int, ...]
    sums: tuple[int, ...]  # nodes with one number for each tensor: reductions, or what a pass over numbers makes
    columns: tuple[int, ...]  # with one number for each column
    rows: dict[int, int]  # with one number for each row: position of the array they go to
    stores: dict[int, int]  # position of an array -> node

    @property
    def idle(self) -> bool:
        """Whether only functions of matrices run at its level, on arrays that exist already."""
        return not (self.sums or self.columns or self.rows or self.stores)

    @property
    def by_rows(self) -> bool:
        """Whether work items must be whole rows."""
        return bool(self.columns or self.rows) or any(a.extent is not Extent.FULL for a in self.arrays)


def _boundary(program: Program, level: int) -> set[int]:
    """Nodes that a pass does not compute: inputs, scalars, finished matrices, and the results of earlier passes.

    Arithmetic on scalars alone stays in the pass, where the compiler moves it out of the loop; so do comparisons,
    which no coefficient holds.
    """
    return {i for i, n in enumerate(program.nodes) if _ready(n, level)}


def _ready(node: Node, level: int) -> bool:
    if node.op in ("input", "scalar"):
        return True
    if node.extent is Extent.FULL:
        return node.op == "matrix" and node.level <= level
    return node.extent not in (Extent.TENSOR, Extent.MODEL) or (
        node.level > 0 and node.op not in ("gt", "ge", "lt", "le")
    )


def split_passes(program: Program, emit: str) -> list[Pass]:
    """All passes of a step that writes the parameter (emit="p") or its change, in another array (emit="u")."""
    return [_pass(program, level, emit) for level in range(program.levels + 1)]


def numbers(program: Program, following: Pass) -> Pass | None:
    """The pass that makes the coefficients of a rule's only pass where they depend on slots of one number, and stores
    the new values of those; None where there are none. A tensor is one element to it.
    """
    slots = [s.name for s in program.slots if s.extent is Extent.TENSOR]
    if program.levels or not slots:
        return None
    new = {name: program.outputs[name] for name in slots}
    body = program.order([*new.values(), *following.coefficients], _boundary(program, 0))
    names = {program.nodes[i].name: i for i in body if program.nodes[i].op == "input"}
    arrays = tuple(Operand(name, Extent.FULL, names.get(name, -1)) for name in slots)
    scalars = tuple(i for i in body if program.nodes[i].op == "scalar")
    inner = tuple(i for i in body if program.nodes[i].op not in ("input", "scalar"))
    stores = {k: new[name] for k, name in enumerate(slots) if name not in program.kept}
    return Pass(0, arrays, scalars, inner, following.coefficients, (), {}, stores)


def _pass(program: Program, level: int, emit: str) -> Pass:
    nodes = program.nodes
    stores = _stores(program, emit) if level == program.levels else {}
    ends = [i for i, n in enumerate(nodes) if n.reduces and n.level == level + 1]
    reductions = [i for i in ends if nodes[i].op != "matrix" and nodes[nodes[i].args[0]].extent is Extent.FULL]
    whole = _of_matrices(nodes, [i for i in ends if nodes[i].op == "matrix"])
    targets = [*stores.values(), *(nodes[i].args[0] for i in reductions), *whole]
    body = program.order(targets, _boundary(program, level))
    ready = [i for i in body if _ready(nodes[i], level)]
    small = tuple(i for i in ready if nodes[i].extent in (Extent.TENSOR, Extent.MODEL))
    arrays = [_operand(nodes, i) for i in ready if i not in small]
    outputs = {_position(arrays, Operand(name, Extent.FULL, -1)): i for name, i in stores.items()}
    # arguments of functions of matrices, and row means, are stored in separate arrays
    outputs |= {_position(arrays, Operand(f"%{i}", Extent.FULL, -1)): i for i in whole}
    of_rows = [i for i in reductions if nodes[i].extent is Extent.ROW]
    rows = {i: _position(arrays, Operand(f"%{i}", Extent.ROW, i)) for i in of_rows}
    sums = tuple(i for i in reductions if nodes[i].extent in (Extent.TENSOR, Extent.MODEL))
    columns = tuple(i for i in reductions if nodes[i].extent is Extent.COLUMN)
    inner = tuple(i for i in body if i not in ready)
    return Pass(level, tuple(arrays), small, inner, sums, columns, rows, outputs)


def _of_matrices(nodes: tuple[Node, ...], matrices: list[int]) -> list[int]:
    """The arrays like the parameter that these functions take, but for those that are results of others, and the
    gradient, which they read where it is.
    """
    arguments = dict.fromkeys(arg for i in matrices for arg in nodes[i].args)
    return [i for i in arguments if nodes[i].extent is Extent.FULL and nodes[i].op != "matrix" and nodes[i].name != "g"]


def _stores(program: Program, emit: str) -> dict[str, int]:
    """What the last pass writes, by the name of the array; a slot that does not change is not written."""
    full = {s.name: program.outputs[s.name] for s in program.slots if s.extent is Extent.FULL}
    written = {emit: program.outputs["p" if emit == "p" else "delta"]} | full
    return {name: i for name, i in written.items() if name not in program.kept}


def _position(arrays: list[Operand], wanted: Operand) -> int:
    """Where an array stands in the list, at whose end it is put if it is not there."""
    names = [a.name for a in arrays]
    if wanted.name not in names:
        arrays.append(wanted)
        return len(names)
    return names.index(wanted.name)


def _operand(nodes: tuple[Node, ...], index: int) -> Operand:
    node = nodes[index]
    return Operand(node.name if node.op == "input" else f"%{index}", node.extent, index)

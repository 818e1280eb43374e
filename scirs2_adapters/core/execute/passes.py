"""Cuts a program into passes over whole tensors.

Each level of the program is one pass that reads parameters, gradients and slots and computes the sums of the next level; nothing is
stored but those sums. Only the last pass writes. So no pass sees what an earlier one has rounded, no whole-model temporary exists, and
an error between two passes leaves everything as it was. What a pass needs of smaller extent than the tensor (norms, row means, the model's
numbers) reaches it as coefficients or short vectors, computed between the passes by the interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..program import Node, Program
from ..slots import Kind


@dataclass(frozen=True)
class Operand:
    """An array that a pass reads or writes: a parameter, gradient or slot by name, or a value computed between passes by node."""

    name: str
    kind: Kind
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
    sums: tuple[int, ...]  # reduction nodes with one number for each tensor
    columns: tuple[int, ...]  # with one number for each column
    rows: dict[int, int]  # with one number for each row: position of the array they go to
    stores: dict[int, int]  # position of an array -> node

    @property
    def by_rows(self) -> bool:
        """Whether work items must be whole rows."""
        return bool(self.columns or self.rows) or any(a.kind is not Kind.FULL for a in self.arrays)


def _boundary(program: Program, level: int) -> set[int]:
    """Nodes a pass takes ready-made: inputs, scalars, finished matrices, and what earlier passes have led to.

    Arithmetic on scalars alone stays in the pass, where the compiler moves it out of the loop; so do comparisons, which no coefficient holds.
    """
    return {i for i, n in enumerate(program.nodes) if _ready(n, level)}


def _ready(node: Node, level: int) -> bool:
    if node.op in ("input", "scalar"):
        return True
    if node.kind is Kind.FULL:
        return node.op == "matrix" and node.level <= level
    return node.kind not in (Kind.TENSOR, Kind.MODEL) or (node.level > 0 and node.op not in ("gt", "ge", "lt", "le"))


def cut(program: Program, emit: str) -> list[Pass]:
    """All passes of a step that writes the parameter (emit="p") or, in the gradient's place, its change (emit="delta")."""
    return [_pass(program, level, emit) for level in range(program.levels + 1)]


def _pass(program: Program, level: int, emit: str) -> Pass:
    nodes, final = program.nodes, level == program.levels
    boundary = _boundary(program, level)
    if final:
        full = [s.name for s in program.slots if s.kind is Kind.FULL]
        stores = {"p" if emit == "p" else "g": program.outputs[emit]} | {name: program.outputs[name] for name in full}
        stores = {name: i for name, i in stores.items() if nodes[i].op != "input"}
        reductions: list[int] = []
        targets = list(stores.values())
    else:
        stores = {}
        reductions = [i for i, n in enumerate(nodes) if n.reduces and n.level == level + 1 and _over_full(program, n)]
        targets = [nodes[i].args[0] for i in reductions]
    body = program.order(targets, boundary)
    arrays = [_operand(nodes, i) for i in body if i in boundary and nodes[i].kind not in (Kind.TENSOR, Kind.MODEL)]
    positions = {a.name: k for k, a in enumerate(arrays)}
    sums, columns, rows = [], [], {}
    for name, node in stores.items():
        if name not in positions:
            positions[name] = len(arrays)
            arrays.append(Operand(name, Kind.FULL, -1))
    outputs = {positions[name]: i for name, i in stores.items()}
    for i in reductions:
        if nodes[i].kind in (Kind.TENSOR, Kind.MODEL):
            sums.append(i)
        elif nodes[i].kind is Kind.COLUMN:
            columns.append(i)
        else:  # rows and matrices go to an array of their own
            rows[i] = len(arrays)
            arrays.append(Operand(f"%{i}", Kind.ROW if nodes[i].op == "mean" else Kind.FULL, i))
            if nodes[i].op == "matrix":
                outputs[rows.pop(i)] = nodes[i].args[0]
    coefficients = tuple(i for i in body if i in boundary and nodes[i].kind in (Kind.TENSOR, Kind.MODEL))
    inner = tuple(i for i in body if i not in boundary)
    return Pass(level, tuple(arrays), coefficients, inner, tuple(sums), tuple(columns), rows, outputs)


def _over_full(program: Program, node: Node) -> bool:
    return node.op == "matrix" or program.nodes[node.args[0]].kind is Kind.FULL


def _operand(nodes: tuple[Node, ...], index: int) -> Operand:
    node = nodes[index]
    return Operand(node.name if node.op == "input" else f"%{index}", node.kind, index)

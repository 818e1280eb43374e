"""Writes the source of a pass as a python function for numba: two nested loops around the formula, one line
an operation.

`kernel(arrays, item, coefficients, out)` gets addresses: of the tensor's array addresses, of its work item
(`layout.Item`), of its row of coefficients, and of the place for its sums. Sums are in float64 whatever the arithmetic;
only passes that store nothing may reorder additions, so that what is written does not depend on where in a vector an
element lies.
"""

from __future__ import annotations

from ..program.passes import Pass
from ..program.recorded import Program
from ..slots import Extent
from .layout import Item

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def source(program: Program, this: Pass) -> str:
    """The text of the pass."""
    return "\n".join([*_head(this), *_row_head(this), *_body(program, this), *_tail(this)]) + "\n"


def _head(this: Pass) -> list[str]:
    lines = ["def kernel(arrays, item, coefficients, out):"]
    lines += [f"    offset, rows, columns = {_words(Item.OFFSET, Item.ROWS, Item.COLUMNS)}"]
    if this.by_rows:
        lines += [f"    row, batch = {_words(Item.ROW, Item.BATCH)}"]
    lines += [f"    a{k} = load_i64(arrays, {k})" for k in range(len(this.arrays))]
    lines += [f"    x{i} = coefficient(coefficients, {k})" for k, i in enumerate(this.coefficients)]
    lines += [f"    s{i} = nothing" for i in this.sums]
    lines += (
        [f"    for j in range({len(this.columns)} * columns):", "        set_sum(out, j, nothing)"]
        if this.columns
        else []
    )
    return lines


def _words(*words: Item) -> str:
    return ", ".join(f"load_i64(item, {int(word)})" for word in words)


def _row_head(this: Pass) -> list[str]:
    lines = ["    for r in range(rows):", "        start = offset + r * columns"]
    for k, a in enumerate(this.arrays):
        if a.extent is Extent.ROW and a.node not in this.rows:
            lines += [f"        x{a.node} = load{k}(a{k}, row + r)"]
        elif a.extent is Extent.BATCH:
            lines += [f"        x{a.node} = load{k}(a{k}, batch)"]
    return lines + [f"        r{i} = nothing" for i in this.rows]


def _body(program: Program, this: Pass) -> list[str]:
    lines = ["        for j in range(columns):", "            i = start + j"]
    for k, a in enumerate(this.arrays):
        if a.node >= 0 and not (k in this.stores and a.computed):
            if a.extent is Extent.FULL:
                lines += [f"            x{a.node} = load{k}(a{k}, i)"]
            elif a.extent is Extent.COLUMN:
                lines += [f"            x{a.node} = load{k}(a{k}, batch * columns + j)"]
    lines += [f"            x{i} = {operation(program, i)}" for i in this.body]
    lines += [f"            store{k}(a{k}, i, x{i})" for k, i in this.stores.items()]
    for i in (*this.sums, *this.rows):
        name = f"s{i}" if i in this.sums else f"r{i}"
        summed = program.nodes[i].args[0] if program.nodes[i].reduces else i
        lines += [f"            {name} += wide(x{summed})"]
    for q, i in enumerate(this.columns):
        place = f"{q} * columns + j"
        lines += [f"            set_sum(out, {place}, get_sum(out, {place}) + wide(x{program.nodes[i].args[0]}))"]
    return lines


def _tail(this: Pass) -> list[str]:
    lines = [f"        store{k}(a{k}, row + r, narrow(r{i} / columns))" for i, k in this.rows.items()]
    base = f"{len(this.columns)} * columns + " if this.columns else ""
    return lines + [f"    set_sum(out, {base}{k}, s{i})" for k, i in enumerate(this.sums)]


def operation(program: Program, index: int) -> str:
    """One node as an expression of the names before it."""
    node = program.nodes[index]
    args = [f"x{a}" for a in node.args]
    if node.op in _INFIX:
        return f"{args[0]} {_INFIX[node.op]} {args[1]}"
    match node.op:
        case "neg":
            return f"-{args[0]}"
        case "where":
            return f"select({', '.join(args)})"
        case "maximum" | "minimum":  # NaN in either operand passes through
            a, b = args
            return f"select(({a} {'>' if node.op == 'maximum' else '<'} {b}) | ({a} != {a}), {a}, {b})"
        case "sign":
            (a,) = args
            return f"select({a} > zero, one, select({a} < zero, -one, {a}))"
        case _:
            return f"{node.op}_({args[0]})"

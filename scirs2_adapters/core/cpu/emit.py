"""Writes the source of a pass as a python function for numba: two nested loops around the formula, one line
an operation. Arrays in blocks make a third between them, over stretches of a row that end where blocks end.

`kernel(arrays, item, coefficients, out)` gets addresses: of the tensor's array addresses, of its work item
(`layout.Item`), of its row of coefficients, and of the place for its sums. Sums are in float64 whatever the arithmetic;
only passes that store nothing may reorder additions, so that what is written does not depend on where in a vector an
element lies.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..formats import BLOCK, BLOCK_DTYPES
from ..program.passes import Pass
from ..program.recorded import Program
from ..rounding import STOCHASTIC
from ..slots import Extent
from .layout import Item

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def source(program: Program, this: Pass, storages: Sequence[str]) -> str:
    """The text of the pass, whose arrays are stored so."""
    text = _Text(program, this, storages)
    return "\n".join([*text.head(), *text.row_head(), *text.body(), *text.tail()]) + "\n"


def dithered(this: Pass, storages: Sequence[str]) -> bool:
    """Whether the pass stores unsigned codes, or rounds at random, and so takes one coefficient more, the step's
    `dither`.
    """
    return any(storages[k] == "uint8" or storages[k].endswith(STOCHASTIC) for k in this.stores)


def _words(*words: Item) -> str:
    return ", ".join(f"load_i64(item, {int(word)})" for word in words)


class _Text:
    """The lines of one pass. `a3` is the address of array 3 and `z3` that of its companion; `d3` and `b3` are the scale
    and the buffer of its present block; `x5`, `s5` and `r5` are node 5, its sum over the item and over the row.
    """

    def __init__(self, program: Program, this: Pass, storages: Sequence[str]) -> None:
        self.program, self.parts = program, this
        self.companions = [k for k, dtype in enumerate(storages) if dtype in BLOCK_DTYPES or "+" in dtype]
        self.blocks = [k for k, dtype in enumerate(storages) if dtype in BLOCK_DTYPES]
        self.encoded = [k for k in self.blocks if k in this.stores]
        self.stochastic = [k for k, dtype in enumerate(storages) if dtype.endswith(STOCHASTIC)]
        self.dithered = dithered(this, storages)

    def head(self) -> list[str]:
        """Before all loops."""
        this = self.parts
        lines = ["def kernel(arrays, item, coefficients, out):"]
        lines += [f"    offset, rows, columns = {_words(Item.OFFSET, Item.ROWS, Item.COLUMNS)}"]
        if this.by_rows:
            lines += [f"    row, batch = {_words(Item.ROW, Item.BATCH)}"]
        lines += [f"    a{k} = load_i64(arrays, {k})" for k in range(len(this.arrays))]
        lines += [f"    z{k} = load_i64(arrays, {len(this.arrays) + n})" for n, k in enumerate(self.companions)]
        lines += [f"    t{k} = scratch()" for k in self.encoded]
        lines += [f"    x{i} = coefficient(coefficients, {k})" for k, i in enumerate(this.coefficients)]
        number = f"coefficient(coefficients, {len(this.coefficients)})" if self.dithered else "one"
        lines += [f"    dither = {number}"] if self.encoded or self.dithered else []
        lines += [f"    s{i} = nothing" for i in this.sums]
        if this.columns:
            lines += [f"    for j in range({len(this.columns)} * columns):", "        set_sum(out, j, nothing)"]
        return lines

    def row_head(self) -> list[str]:
        """Before the elements of a row."""
        this = self.parts
        lines = ["    for r in range(rows):", "        start = offset + r * columns"]
        for k, a in enumerate(this.arrays):
            if a.extent is Extent.ROW and a.node not in this.rows:
                lines += [f"        x{a.node} = load{k}(a{k}, row + r)"]
            elif a.extent is Extent.BATCH:
                lines += [f"        x{a.node} = load{k}(a{k}, batch)"]
        return lines + [f"        r{i} = nothing" for i in this.rows]

    def body(self) -> list[str]:
        """The elements of a row, at once or in stretches that end where blocks end."""
        if not self.blocks:
            return ["        for j in range(columns):", *self._element()]
        lines = [
            "        first = 0",
            "        while first < columns:",
            f"            block, within = (start + first) // {BLOCK}, (start + first) % {BLOCK}",
            f"            last = min(columns, first + {BLOCK} - within)",
            *(f"            d{k} = scale{k}(z{k}, block)" for k in self.blocks),
            *(f"            b{k} = t{k} + (within - first) * 4" for k in self.encoded),
            "            for j in range(first, last):",
            *("    " + line for line in self._element()),
        ]
        if self.encoded:
            lines += [f"            if (start + last) % {BLOCK} == 0 or (last == columns and r == rows - 1):"]
            count = f"start + last - block * {BLOCK}"
            lines += [f"                encode{k}(t{k}, a{k}, z{k}, block, {count}, dither)" for k in self.encoded]
        return [*lines, "            first = last"]

    def _element(self) -> list[str]:
        """The formula for one element."""
        program, this = self.program, self.parts
        lines = ["            i = start + j"]
        for k, a in enumerate(this.arrays):
            if a.node >= 0 and not (k in this.stores and a.computed):
                if a.extent is Extent.FULL:
                    lines += [f"            x{a.node} = load{k}({self._place(k)}, i)"]
                elif a.extent is Extent.COLUMN:
                    lines += [f"            x{a.node} = load{k}(a{k}, batch * columns + j)"]
        lines += [f"            x{i} = {operation(program, i)}" for i in this.body]
        for k, i in this.stores.items():
            target = f"b{k}, j" if k in self.encoded else f"{self._place(k)}, i"
            number = ", dither" if k in self.stochastic else ""
            lines += [f"            store{k}({target}, x{i}{number})"]
        for i in (*this.sums, *this.rows):
            name = f"s{i}" if i in this.sums else f"r{i}"
            summed = program.nodes[i].args[0] if program.nodes[i].reduces else i
            lines += [f"            {name} += wide(x{summed})"]
        for q, i in enumerate(this.columns):
            place = f"{q} * columns + j"
            lines += [f"            set_sum(out, {place}, get_sum(out, {place}) + wide(x{program.nodes[i].args[0]}))"]
        return lines

    def _place(self, k: int) -> str:
        """Where an array's elements are: its address, with its scale, its rounding errors or its seed."""
        return f"a{k}, d{k}" if k in self.blocks else f"a{k}, z{k}" if k in self.companions else f"a{k}"

    def tail(self) -> list[str]:
        """After the elements of a row, and after all rows."""
        this = self.parts
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
            return f"{node.op}_({', '.join(args)})"

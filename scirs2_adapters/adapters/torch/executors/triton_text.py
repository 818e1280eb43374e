"""The text of the kernels of one step, which Triton compiles for CUDA devices.

A step goes level by level, as on the host: a pass over all blocks of all tensors adds up a part of each sum, one small
program for each tensor finishes the sums and makes the numbers of that tensor, and the last pass stores. An elementwise
rule is one pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scirs2_adapters.core import formats
from scirs2_adapters.core.cpu.batch import in_blocks
from scirs2_adapters.core.cpu.emit import dithered, operation
from scirs2_adapters.core.cpu.storage import compute_dtype
from scirs2_adapters.core.formats import BLOCK_DTYPES, DITHER, companion
from scirs2_adapters.core.program.passes import Pass, split_passes
from scirs2_adapters.core.program.recorded import Program
from scirs2_adapters.core.rounding import STOCHASTIC
from scirs2_adapters.core.slots import Extent
from scirs2_adapters.core.step.plan import array_names

from .packed import ALIGNMENT
from .triton_formats import function_name, functions

#: Numbers of a tensor that one program of a pass steps; partial sums that are added at a time.
BLOCK, PARTIALS = 1024, 1024
#: The dtypes of companions whose storage does not say them: scales and seeds.
_OTHERS = {"": "float32", "stochastic": "int32"}


def formula_obstacle(program: Program) -> str | None:
    """Why no kernels of ours have this formula, or None."""
    if any(n.op == "matrix" for n in program.nodes):
        return "the formula has functions of matrices"
    if any(n.extent is Extent.MODEL for n in program.nodes):
        return "the formula has sums over the model"
    whole = all(n.extent in (Extent.FULL, Extent.TENSOR) for n in program.nodes)
    return None if whole else "the formula looks at rows or columns"


@dataclass(frozen=True)
class Text:
    """The text of one launch: its function `kernel` takes these arguments. A program is of an item or of a tensor."""

    source: str
    arguments: tuple[str, ...]
    by_items: bool


class Layout:
    """What the kernels of a program and these storages have in common: `columns` are the arrays in a row of the table,
    `scalars` what is in a row of coefficients, and `numbers` the nodes whose values one kernel leaves to the next for
    each tensor.
    """

    def __init__(self, program: Program, dtypes: Mapping[str, str]) -> None:
        self.program, self.dtypes = program, dtypes
        self.passes = split_passes(program, "p")
        self.columns = array_names(program.slots, dtypes)
        storages = [dtypes[a.name] for a in self.passes[-1].arrays]
        self.scalars = [*program.scalars, *[DITHER] * dithered(self.passes[-1], storages)]
        nodes = [i for this in self.passes for i in (*self.coefficients(this), *this.sums)]
        self.numbers = {i: k for k, i in enumerate(dict.fromkeys(nodes))}
        self.sums = max(len(this.sums) for this in self.passes)

    def coefficients(self, this: Pass) -> list[int]:
        """The coefficients of a pass that differ from tensor to tensor."""
        return [i for i in this.coefficients if self.program.nodes[i].op != "scalar"]

    def stored(self, level: int) -> dict[str, int]:
        """The slots of one number that are stored before this pass: all, before the last."""
        program = self.program
        slots = [s.name for s in program.slots if s.extent is Extent.TENSOR and s.name not in program.kept]
        return {name: program.outputs[name] for name in slots if level == program.levels}


def step_texts(program: Program, dtypes: Mapping[str, str], aligned: Sequence[bool], shared: bool) -> list[Text]:
    """The launches of a step, in order. `aligned` says of each column of the table whether all of its addresses are
    multiples of `ALIGNMENT`, and `shared` whether all tensors have one row of coefficients.
    """
    layout, texts = Layout(program, dtypes), list[Text]()
    for level, this in enumerate(layout.passes):
        if level or layout.coefficients(this) or layout.stored(level):
            texts.append(_NumbersText(layout, shared, level).text())
        texts.append(_PassText(layout, shared, this, aligned).text())
    return texts


def launches(program: Program) -> int:
    """How many launches step all parameters of one tuple of dtypes, if `formula_obstacle` has nothing against it."""
    dtypes = dict.fromkeys(("p", "g", *(s.name for s in program.slots)), "float32")
    return len(step_texts(program, dtypes, [True] * len(dtypes), True))


class _KernelText:
    """What both kinds of kernels have: `x5` is node 5, `tensor` the place of a tensor, and `row` its coefficients."""

    def __init__(self, layout: Layout, shared: bool) -> None:
        self.layout, self.program, self.shared = layout, layout.program, shared

    def scalar(self, name: str) -> str:
        """A coefficient, in float64 as it is sent."""
        return f"tl.load(row + {self.layout.scalars.index(name)})"

    def number(self, node: int) -> str:
        """Where the value of a node is kept for this tensor."""
        return f"numbers + tensor * {len(self.layout.numbers)} + {self.layout.numbers[node]}"

    def pointer(self, name: str, dtype: str) -> str:
        """Where this array of a tensor begins."""
        columns = self.layout.columns
        return f"tl.load(table + tensor * {len(columns)} + {columns.index(name)}).to(tl.pointer_type(tl.{dtype}))"

    def row(self) -> str:
        """The line that says which coefficients are this tensor's."""
        return "    row = coefficients" + f" + tl.load(rows + tensor) * {len(self.layout.scalars)}" * (not self.shared)

    def kernel(self, names: Sequence[str], before: Sequence[str], lines: Sequence[str], by_items: bool) -> Text:
        """The text of a function of these arguments."""
        text = "\n".join([*before, "", "@triton.jit", f"def kernel({', '.join(names)}):", *lines]) + "\n"
        return Text(text, tuple(names), by_items)


class _PassText(_KernelText):
    """One pass: `a3` points to array 3 of the block and `z3` to its companion, `s3` is its seed. `j` are the elements
    of the block, `b` its blocks of codes, and `places` the elements' in these: a tile has one of them in each row.
    """

    def __init__(self, layout: Layout, shared: bool, this: Pass, aligned: Sequence[bool]) -> None:
        super().__init__(layout, shared)
        self.parts, self.aligned = this, dict(zip(layout.columns, aligned, strict=True))
        self.wide = f"tl.{compute_dtype(layout.dtypes['p'])}"
        self.storages = [layout.dtypes[a.name] for a in this.arrays]
        self.dithered = dithered(this, self.storages)

    def text(self) -> Text:
        """A mask keeps loads from being wide; only the last block of a tensor needs one."""
        rows, layout = () if self.shared else ("rows",), self.layout
        numbers = ("numbers",) if layout.coefficients(self.parts) else ()
        names = ("items", "sizes", "table", *rows, "coefficients", *numbers, *("partials",) * bool(self.parts.sums))
        coded = dict.fromkeys(dtype for dtype in self.storages if companion("", dtype))
        before = [*_HELPERS[self.wide], *(text for dtype in coded for text in functions(dtype))]
        lines = [*self._head(), f"    if length == {BLOCK}:", *self._body(masked=False)]
        return self.kernel(names, before, [*lines, "    else:", *self._body(masked=True)], by_items=True)

    def _head(self) -> list[str]:
        this, nodes = self.parts, self.program.nodes
        lines = ["    item = items + tl.program_id(0).to(tl.int64) * 2"]
        lines += ["    tensor, block = tl.load(item), tl.load(item + 1).to(tl.int64)", f"    offset = block * {BLOCK}"]
        lines += [f"    length = tl.minimum(tl.load(sizes + tensor) - offset, {BLOCK}).to(tl.int32)", self.row()]
        for k, a in enumerate(this.arrays):
            stored, _, other = self.storages[k].partition("+")
            lines += [f"    a{k} = {self._aligned(a.name, stored)} + offset"]
            if name := companion(a.name, self.storages[k]):
                begin = "" if self._seeded(k) else f" + block * {self._others(k)}"
                lines += [f"    z{k} = {self._aligned(name, _OTHERS.get(other, other))}{begin}"]
            lines += [f"    s{k} = tl.load(z{k})"] * self._seeded(k)
        for i in this.coefficients:
            value = self.scalar(nodes[i].name) if nodes[i].op == "scalar" else f"tl.load({self.number(i)})"
            lines += [f"    x{i} = {value}.to({self.wide})"]
        lines += [f"    dither = {self.scalar(DITHER)}.to(tl.float32)"] if self.dithered else []
        if in_blocks(self.layout.dtypes):
            lines += [f"    places = tl.arange(0, {formats.BLOCK})[None, :]"]
            lines += [f"    b = tl.arange(0, {BLOCK // formats.BLOCK})[:, None]"]
            return [*lines, f"    first = b * {formats.BLOCK}", "    j = first + places"]
        return [*lines, f"    j = tl.arange(0, {BLOCK})"]

    def _others(self, k: int) -> int:
        """How many numbers the companion has for a block."""
        return BLOCK // formats.BLOCK if self.storages[k] in BLOCK_DTYPES else BLOCK

    def _seeded(self, k: int) -> bool:
        return self.storages[k].endswith(STOCHASTIC)

    def _aligned(self, name: str, dtype: str) -> str:
        pointer = self.pointer(name, dtype)
        return f"tl.multiple_of({pointer}, {ALIGNMENT})" if self.aligned[name] else pointer

    def _body(self, masked: bool) -> list[str]:
        """The formula for a block, one line an operation."""
        nodes, lines = self.program.nodes, list[str]()
        for k, a in enumerate(self.parts.arrays):
            lines += [f"    x{a.node} = {self._load(k, masked)}.to({self.wide})"] * (a.node >= 0)
        lines += [f"    x{i} = {_operation(self.program, i)}" for i in self.parts.body]
        for k, i in self.parts.stores.items():
            lines += self._store(k, f"x{i}", masked)
        for q, i in enumerate(self.parts.sums):
            x = f"x{nodes[i].args[0]}.to(tl.float64)"
            x = f"tl.where(j < length, {x}, 0.0)" if masked else x
            place = f"partials + tl.program_id(0).to(tl.int64) * {self.layout.sums} + {q}"
            lines += [f"    tl.store({place}, tl.sum({x}))"]
        return ["    " + line for line in lines]

    def _load(self, k: int, masked: bool) -> str:
        mask, dtype = ", j < length" if masked else "", self.storages[k]
        loaded = f"tl.load(a{k} + j{mask})"
        if not companion("", dtype):
            return loaded
        place, other_mask = self._place(k, masked)
        other = f"s{k}" if self._seeded(k) else f"tl.load({place}{other_mask})"
        return f"{function_name('load', dtype)}({loaded}, {other})"

    def _store(self, k: int, x: str, masked: bool) -> list[str]:
        mask, dtype = ", j < length" if masked else "", self.storages[k]
        if not companion("", dtype):
            return [f"    tl.store(a{k} + j, {x}{mask})"]
        # What lies behind the end of a tensor must not count in the scale.
        x = f"tl.where(j < length, {x}, 0.0)" if masked else x
        seed = f"s{k}" if self._seeded(k) else "0"
        places = "places" if dtype in BLOCK_DTYPES else "(offset + j).to(tl.int32)"
        number = "dither" if self.dithered else "0.5"
        call = f"{function_name('store', dtype)}({x}.to(tl.float32), {number}, {seed}, {places})"
        lines = [f"    y, z = {call}", f"    tl.store(a{k} + j, y{mask})"]
        place, other_mask = self._place(k, masked)
        return lines + [f"    tl.store({place}, z{other_mask})"] * (not self._seeded(k))

    def _place(self, k: int, masked: bool) -> tuple[str, str]:
        """Where the companion's numbers are, and its mask."""
        by_block = self.storages[k] in BLOCK_DTYPES
        mask = f", {'first' if by_block else 'j'} < length" if masked else ""
        return f"z{k} + {'b' if by_block else 'j'}", mask


class _NumbersText(_KernelText):
    """Before a pass, for each tensor: its sums out of the parts of all its blocks, always in the same order, then its
    coefficients and its slots of one number, in float64.
    """

    def __init__(self, layout: Layout, shared: bool, level: int) -> None:
        super().__init__(layout, shared)
        self.new = layout.passes[level - 1].sums if level else ()
        self.stored = layout.stored(level)
        self.coefficients = layout.coefficients(layout.passes[level])
        summed = {i for this in layout.passes for i in this.sums}
        self.summed, self.body = summed, self.program.order([*self.coefficients, *self.stored.values()], summed)

    def text(self) -> Text:
        rows = () if self.shared else ("rows",)
        names = ("firsts", "sizes", "table", *rows, "coefficients", "numbers", *("partials",) * bool(self.new))
        lines = ["    tensor = tl.program_id(0)", self.row(), *self._sums()]
        lines += [f"    x{i} = {self._value(i)}" for i in self.body if i not in self.new]
        kept = dict.fromkeys([*self.new, *self.coefficients])
        lines += [f"    tl.store({self.number(i)}, x{i})" for i in kept]
        for name, i in self.stored.items():
            dtype = self.layout.dtypes[name]
            wide = "float64" if dtype == "float64" else "float32"
            lines += [f"    tl.store({self.pointer(name, dtype)}, x{i}.to(tl.{wide}))"]
        return self.kernel(names, _HELPERS["tl.float64"], lines, by_items=False)

    def _sums(self) -> list[str]:
        if not self.new:
            return []
        lines = ["    end = tl.load(firsts + tensor + 1)"]
        lines += [f"    y{i} = tl.zeros([{PARTIALS}], tl.float64)" for i in self.new]
        lines += [f"    for first in range(tl.load(firsts + tensor), end, {PARTIALS}):"]
        lines += [f"        k = first + tl.arange(0, {PARTIALS})"]
        for q, i in enumerate(self.new):
            place = f"partials + k * {self.layout.sums} + {q}"
            lines += [f"        y{i} += tl.load({place}, mask=k < end, other=0.0)"]
        for i in self.new:
            size = " / tl.maximum(tl.load(sizes + tensor), 1).to(tl.float64)"
            lines += [f"    x{i} = tl.sum(y{i})" + size * (self.program.nodes[i].op == "mean")]
        return lines

    def _value(self, i: int) -> str:
        node = self.program.nodes[i]
        if i in self.summed:
            return f"tl.load({self.number(i)})"
        if node.op == "scalar":
            return self.scalar(node.name)
        if node.op == "input":
            return f"tl.load({self.pointer(node.name, self.layout.dtypes[node.name])}).to(tl.float64)"
        return _operation(self.program, i)


def _operation(program: Program, index: int) -> str:
    node = program.nodes[index]
    return "div_(x{}, x{})".format(*node.args) if node.op == "div" else operation(program, index)


def _helpers(root: str, quotient: str) -> list[str]:
    bodies = {"select(c, a, b)": "tl.where(c, a, b)", "sqrt_(x)": root, "abs_(x)": "tl.abs(x)", "div_(a, b)": quotient}
    of_zero = "tl.where(a < 0.0, float('inf'), tl.where(a == 0.0, 1.0, 0.0))"
    bodies["power_(x, a)"] = f"tl.where(x == 0.0, {of_zero}, tl.exp2(a * tl.log2(tl.where(x == 0.0, 1.0, x))))"
    functions = [f"@triton.jit\ndef {name}:\n    return {body}\n" for name, body in bodies.items()]
    return [*functions, "zero, one = tl.constexpr(0.0), tl.constexpr(1.0)"]


#: Roots and quotients rounded to nearest, for which Triton has other names in float32.
_HELPERS = {"tl.float32": _helpers("tl.sqrt_rn(x)", "tl.div_rn(a, b)"), "tl.float64": _helpers("tl.sqrt(x)", "a / b")}

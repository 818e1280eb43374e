"""The kernels that go over all numbers of all tensors: one pass of a step, block by block of memory."""

from __future__ import annotations

from collections.abc import Sequence

from scirs2_adapters.core import formats
from scirs2_adapters.core.cpu.batch import in_blocks
from scirs2_adapters.core.cpu.emit import dithered
from scirs2_adapters.core.cpu.storage import compute_dtype
from scirs2_adapters.core.formats import BLOCK_DTYPES, DITHER, companion
from scirs2_adapters.core.program.passes import Pass
from scirs2_adapters.core.rounding import STOCHASTIC
from scirs2_adapters.core.slots import Extent

from .packed import ALIGNMENT
from .triton_formats import function_name, functions
from .triton_kernel import HELPERS, KernelText, Text, operation_text
from .triton_layout import LINES, Layout

#: Numbers of a tensor that one program of a pass steps.
BLOCK = 1024
#: Tensors of as many numbers, or more, have rows and columns that quotients of 32 bits do not find.
LONGEST = 2**31 - BLOCK
#: The dtypes of companions whose storage does not say them: scales and seeds.
_OTHERS = {"": "float32", "stochastic": "int32"}


class PassText(KernelText):
    """One pass: `a3` points to array 3 of the block and `z3` to its companion, `s3` is its seed. `j` are the elements
    of the block, `b` its blocks of codes, and `places` the elements' in these: a tile has one of them in each row.
    `at_row`, `at_column` and `at_batch` are the lines of an element.
    """

    def __init__(self, layout: Layout, shared: bool, this: Pass, aligned: Sequence[bool]) -> None:
        super().__init__(layout, shared)
        self.parts, self.aligned = this, dict(zip(layout.columns, aligned, strict=True))
        self.wide = f"tl.{compute_dtype(layout.dtypes['p'])}"
        self.whole = [k for k, a in enumerate(this.arrays) if a.extent is Extent.FULL]
        self.storages = {k: layout.dtypes[this.arrays[k].name] for k in self.whole}
        self.dithered = dithered(this, [self.storages.get(k, "") for k in range(len(this.arrays))])
        self.lines = [a for a in this.arrays if a.extent in LINES and a.node not in this.rows]

    def text(self) -> Text:
        """A mask keeps loads from being wide; only the last block of a tensor needs one."""
        lines = [*self._block(), *self._head(" + offset"), *self._tile(), *self._along()]
        lines += [f"    if length == {BLOCK}:", *self._body(masked=False)]
        return self.kernel(self._before(), [*lines, "    else:", *self._body(masked=True)], by="items")

    def _before(self) -> list[str]:
        coded = dict.fromkeys(dtype for dtype in self.storages.values() if companion("", dtype))
        return [*HELPERS[self.wide], *(text for dtype in coded for text in functions(dtype))]

    def _block(self) -> list[str]:
        lines = [f"    item = {self.use('items')} + tl.program_id(0).to(tl.int64) * 2"]
        lines += ["    tensor, block = tl.load(item), tl.load(item + 1).to(tl.int64)", f"    offset = block * {BLOCK}"]
        return [
            *lines,
            f"    length = tl.minimum(tl.load({self.use('sizes')} + tensor) - offset, {BLOCK}).to(tl.int32)",
        ]

    def _head(self, offset: str) -> list[str]:
        """Where the arrays are, from this offset on, and the coefficients."""
        nodes, lines = self.program.nodes, [self.row()]
        for k in self.whole:
            stored, _, other = self.storages[k].partition("+")
            lines += [f"    a{k} = {self._aligned(self.parts.arrays[k].name, stored)}{offset}"]
            if name := companion(self.parts.arrays[k].name, self.storages[k]):
                begin = "" if self._seeded(k) or not offset else f" + block * {self._others(k)}"
                lines += [f"    z{k} = {self._aligned(name, _OTHERS.get(other, other))}{begin}"]
            lines += [f"    s{k} = tl.load(z{k})"] * self._seeded(k)
        for i in self.parts.coefficients:
            direct = self.layout.direct(i, self.parts.level) and nodes[i].op == "input"
            lines += [f"    x{i} = {self.small(i, new=direct)}.to({self.wide})"]
        return [*lines, f"    dither = {self.scalar(DITHER)}.to(tl.float32)"] if self.dithered else lines

    def _tile(self) -> list[str]:
        if in_blocks(self.layout.dtypes):
            lines = [f"    places = tl.arange(0, {formats.BLOCK})[None, :]"]
            lines += [f"    b = tl.arange(0, {BLOCK // formats.BLOCK})[:, None]"]
            return [*lines, f"    first = b * {formats.BLOCK}", "    j = first + places"]
        return [f"    j = tl.arange(0, {BLOCK})"]

    def _along(self) -> list[str]:
        """Where the elements are in rows and columns; within a block by quotients of 32 bits."""
        if not self.lines:
            return []
        lines = [f"    width = {self.geometry('width')}", "    before = offset // width"]
        lines += ["    past = (offset - before * width).to(tl.int32) + j", "    down = past // width.to(tl.int32)"]
        lines += ["    at_row = before + down"]
        if all(a.extent is Extent.ROW for a in self.lines):
            return lines
        lines += [f"    height = {self.geometry('height')}", "    matrix = before // height"]
        lines += ["    at_batch = matrix + ((before - matrix * height).to(tl.int32) + down) // height.to(tl.int32)"]
        return [*lines, "    at_column = at_batch * width + past - down * width.to(tl.int32)"]

    def _others(self, k: int) -> int:
        """How many numbers the companion has for a block."""
        return BLOCK // formats.BLOCK if self.storages[k] in BLOCK_DTYPES else BLOCK

    def _seeded(self, k: int) -> bool:
        return self.storages[k].endswith(STOCHASTIC)

    def _aligned(self, name: str, dtype: str) -> str:
        pointer = self.pointer(name, dtype)
        return f"tl.multiple_of({pointer}, {ALIGNMENT})" if self.aligned[name] else pointer

    def _loads(self, mask: str, needed: Sequence[int]) -> list[str]:
        """The arrays among these nodes."""
        arrays, lines = self.parts.arrays, list[str]()
        for k in self.whole:
            if (node := arrays[k].node) in needed:
                lines += [f"    x{node} = {self._load(k, mask)}.to({self.wide})"]
        for a in self.lines:
            if a.node in needed:
                direct = self.layout.direct(a.node, self.parts.level)
                value = self.small(a.node, new=direct, at=f"at_{LINES[a.extent]}", mask=mask)
                lines += [f"    x{a.node} = {value}.to({self.wide})"]
        return lines

    def _body(self, masked: bool) -> list[str]:
        """The formula for a block, one line an operation."""
        nodes, mask = self.program.nodes, ", j < length" if masked else ""
        lines = self._loads(mask, [a.node for a in self.parts.arrays])
        lines += [f"    x{i} = {operation_text(self.program, i)}" for i in self.parts.body]
        for k, i in self.parts.stores.items():
            lines += self._store(k, f"x{i}", masked)
        for q, i in enumerate(self.parts.sums):
            x = f"x{nodes[i].args[0]}.to(tl.float64)"
            x = f"tl.where(j < length, {x}, 0.0)" if masked else x
            lines += [f"    tl.store({self._part(q)}, tl.sum({x}))"]
        return ["    " + line for line in lines]

    def _part(self, q: int) -> str:
        """Where the part of a sum goes that this program has made."""
        return f"{self.use('partials')} + tl.program_id(0).to(tl.int64) * {self.layout.sums} + {q}"

    def _load(self, k: int, mask: str) -> str:
        dtype, loaded = self.storages[k], f"tl.load(a{k} + j{mask})"
        if not companion("", dtype):
            return loaded
        place, other_mask = self._place(k, bool(mask))
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


#: Lines that one program sums, how many numbers of each at a time, and how many in all.
ACROSS, ALONG, SEGMENT = 32, 32, 256


class LinesText(PassText):
    """A pass that sums along rows or columns and stores nothing else. A program takes some lines, `across`, of one kind
    and a segment of each, `along`; what the tensor's sums are of comes with the rows if there are any.
    """

    def text(self) -> Text:
        """The lines of each kind, one after the other in memory and not, are summed by separate programs."""
        head = [f"    item = {self.use('line_items')} + tl.program_id(0).to(tl.int64) * 4"]
        head += ["    tensor, way = tl.load(item), tl.load(item + 1)"]
        head += ["    chunk, segment = tl.load(item + 2).to(tl.int64), tl.load(item + 3).to(tl.int64)", *self._head("")]
        head += [f"    {name} = {self.geometry(name)}" for name in ("height", "width", "matrices")]
        head += [f"    lane = chunk * {ACROSS} + tl.arange(0, {ACROSS})", f"    step = tl.arange(0, {ALONG})"]
        rows, columns = list(self.parts.rows), list(self.parts.columns)
        sums = list(self.parts.sums)
        lines = ["    if way == 0:", *self._way(Extent.ROW, rows, sums if rows else [])]
        lines += ["    if way == 1:", *self._way(Extent.COLUMN, columns, [] if rows else sums)]
        return self.kernel(self._before(), [*head, *lines], by="line_items")

    def _way(self, extent: Extent, sums: list[int], whole: list[int]) -> list[str]:
        """The sums of lines of one kind, and of the tensor."""
        if not sums:
            return ["        pass"] + [f"        tl.store({self._part(q)}, 0.0)" for q in range(len(self.parts.sums))]
        name, nodes = LINES[extent], self.program.nodes
        of_rows = extent is Extent.ROW
        count, length = ("matrices * height", "width") if of_rows else ("matrices * width", "height")
        targets = [nodes[i].args[0] for i in (*sums, *whole)]
        ready = {*self.parts.coefficients, *(a.node for a in self.parts.arrays)}
        needed = self.program.order(targets, ready)
        lines = [f"    end = tl.minimum((segment + 1) * {SEGMENT}, {length})", *self._lanes(of_rows)]
        lines += [f"    y{i} = tl.zeros([{ACROSS}, {ALONG}], tl.float64)" for i in (*sums, *whole)]
        body = [*self._elements(of_rows, count), *self._loads(", inside", needed)]
        body += [f"    x{i} = {operation_text(self.program, i)}" for i in needed if i not in ready]
        body += [f"    y{i} += tl.where(inside, x{nodes[i].args[0]}.to(tl.float64), 0.0)" for i in (*sums, *whole)]
        lines += [f"    for begin in range(segment * {SEGMENT}, end, {ALONG}):", *("    " + line for line in body)]
        width, start = self.layout.parts[extent], self.geometry(f"{name}_parts")
        place = f"{self.use(f'{name}_partials')} + ({start} + segment * ({count}) + lane) * {width}"
        axis = 1 if of_rows else 0
        lines += [
            f"    tl.store({place} + {q}, tl.sum(y{i}, axis={axis}), mask=lane < {count})" for q, i in enumerate(sums)
        ]
        lines += [f"    tl.store({self._part(list(self.parts.sums).index(i))}, tl.sum(y{i}))" for i in whole]
        if not whole:
            lines += [f"    tl.store({self._part(q)}, 0.0)" for q in range(len(self.parts.sums))]
        return ["    " + line for line in lines]

    def _lanes(self, of_rows: bool) -> list[str]:
        if of_rows:
            return ["    across = lane[:, None]", "    matrix = across // height"]
        return ["    across = lane[None, :]", "    matrix = across // width"]

    def _elements(self, of_rows: bool, count: str) -> list[str]:
        """The elements `j` of this round, and their lines."""
        step = "step[None, :]" if of_rows else "step[:, None]"
        lines = [f"    along = begin + {step}", f"    inside = (across < {count}) & (along < end)"]
        if of_rows:
            lines += ["    at_row, at_column = across + along * 0, matrix * width + along"]
            lines += ["    j = at_row * width + along"]
        else:
            lines += ["    at_row, at_column = matrix * height + along, across + along * 0"]
            lines += ["    j = at_row * width + across - matrix * width"]
        return [*lines, "    at_batch = matrix + along * 0"]

    def _place(self, k: int, masked: bool) -> tuple[str, str]:
        by_block = self.storages[k] in BLOCK_DTYPES
        return f"z{k} + j" + f" // {formats.BLOCK}" * by_block, ", inside"

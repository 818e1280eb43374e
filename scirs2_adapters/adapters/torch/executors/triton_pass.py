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
from .triton_layout import LINES, Layout, Stage
from .triton_stage import stage_functions

#: Numbers of a tensor that one program of a pass steps.
BLOCK = 1024
#: Tensors of as many numbers, or more, have rows and columns that quotients of 32 bits do not find.
LONGEST = 2**31 - BLOCK
#: Whether this is the last program of so many to come here. Whatever threads of the others have stored before it can be
#: read after: a barrier before makes a program's stores one event, and adding to the count releases and acquires. Which
#: program is the last does not matter, since it adds up the parts of all in their order. The last one leaves 0.
ARRIVE = """@triton.jit
def arrive_(count, of):
    tl.debug_barrier()
    last = tl.atomic_add(count, 1, sem="acq_rel", scope="gpu") + 1 == of
    if last:
        tl.store(count, 0)
    return last
"""
#: The dtypes of companions whose storage does not say them: scales and seeds.
_OTHERS = {"": "float32", "stochastic": "int32"}


class PassText(KernelText):
    """One pass: `a3` points to array 3 of the block and `z3` to its companion, `s3` is its seed. `j` are the elements
    of the block, `b` its blocks of codes, and `places` the elements' in these: a tile has one of them in each row.
    `at_row`, `at_column` and `at_batch` are the lines of an element.
    """

    def __init__(
        self, layout: Layout, shared: bool, this: Pass, aligned: Sequence[bool], following: Stage | None
    ) -> None:
        super().__init__(layout, shared)
        self.finish = stage_functions(layout, shared, following) if following else {}
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
        lines += ["    else:", *self._body(masked=True)]
        if Extent.TENSOR in self.finish:
            firsts = f"{self.use('firsts')} + tensor"
            lines += self._last("tensor", f"tl.load({firsts} + 1) - tl.load({firsts})")
            lines += [f"        {self.call(self.finish[Extent.TENSOR], 'tensor')}"]
        return self.kernel(self._before(), lines, by="items")

    def _before(self) -> list[str]:
        coded = dict.fromkeys(dtype for dtype in self.storages.values() if companion("", dtype))
        finish = [ARRIVE, *(function.source for function in self.finish.values())] if self.finish else []
        return [*HELPERS, *(text for dtype in coded for text in functions(dtype)), *finish]

    def _last(self, place: str, of: str) -> list[str]:
        """The line before what the last of so many programs does."""
        return [f"    if arrive_({self.use('arrived')} + {place}, {of}):"]

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
        lines = [f"    width = tl.maximum({self.geometry('width')}, 1)", "    before = offset // width"]
        lines += ["    past = (offset - before * width).to(tl.int32) + j", "    down = past // width.to(tl.int32)"]
        lines += ["    at_row = before + down"]
        if all(a.extent is Extent.ROW for a in self.lines):
            return lines
        lines += [f"    height = tl.maximum({self.geometry('height')}, 1)", "    matrix = before // height"]
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

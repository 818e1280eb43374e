"""The kernels that sum along rows and columns: a pass whose programs take some lines and a segment of each."""

from __future__ import annotations

from collections.abc import Mapping

from scirs2_adapters.core import formats
from scirs2_adapters.core.formats import BLOCK_DTYPES
from scirs2_adapters.core.slots import Extent

from .triton_kernel import ACROSS, ALONG, SEGMENT, Function, KernelText, Text, operation_text
from .triton_layout import LINES
from .triton_pass import PassText

#: The kinds of lines, in the order of a program's `way`: which length is along them and which is across.
SIDES = {Extent.ROW: ("width", "height"), Extent.COLUMN: ("height", "width")}


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
        return self.kernel(self._before(), [*head, *lines, *self._finished()], by="line_items")

    def _before(self) -> list[str]:
        matrices = self._matrices()
        return [*super()._before(), *([matrices.source] if matrices else [])]

    def _finished(self) -> list[str]:
        """What the last program of some lines does; with it, their matrices may be finished."""
        lines, matrices = list[str](), self._matrices()
        for way, extent in enumerate(SIDES):
            calls = [self.call(self.finish[extent], "tensor", "chunk")] if extent in self.finish else []
            length, lanes = SIDES[extent]
            if matrices and self.layout.parts[extent]:
                calls += [self.call(matrices, "tensor", f"chunk // tl.maximum({lanes}, 1)")]
            if calls:
                place = f"{self.geometry(f'{LINES[extent]}_arrived')} + chunk"
                last = self._last(place, f"tl.maximum({_ceiling(length, SEGMENT)}, 1)")
                lines += [f"    if way == {way}:", *("    " + x for x in last), *(f"            {x}" for x in calls)]
        return lines

    def _matrices(self) -> Function | None:
        """What follows when some lines of a chunk of matrices are finished."""
        if not {Extent.BATCH, Extent.TENSOR} & self.finish.keys():
            return None
        return MatricesText(self.layout, self.shared).text(self.finish)

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
            return ["    across = lane[:, None]", "    matrix = across // tl.maximum(height, 1)"]
        return ["    across = lane[None, :]", "    matrix = across // tl.maximum(width, 1)"]

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


class MatricesText(KernelText):
    """What a program does that has finished lines of the matrices of a chunk. `ACROSS` matrices have as many chunks of
    rows as one of them has rows, and as many of columns as one has columns: none is of two chunks of matrices.
    """

    def text(self, finish: Mapping[Extent, Function]) -> Function:
        """The last one finishes the matrices, and the last of those the tensor. A side without numbers counts as 1."""
        lines = [f"    {name} = {self.geometry(name)}" for name in ("height", "width", "matrices")]
        lines += ["    chunks = chunk * 0"]
        for extent, (_, lanes) in SIDES.items():
            if self.layout.parts[extent]:  # programs that sum none of them arrive, too
                lines += [f"    each = tl.maximum({lanes}, 1)"]
                lines += [f"    of_all = tl.maximum({_ceiling(f'matrices * {lanes}', ACROSS)}, 1)"]
                lines += ["    chunks += tl.minimum((chunk + 1) * each, of_all) - chunk * each"]
        arrived = self.use("arrived")
        lines += [f"    if arrive_({arrived} + {self.geometry('batch_arrived')} + chunk, chunks):"]
        if Extent.BATCH in finish:
            lines += [f"        {self.call(finish[Extent.BATCH], 'tensor', 'chunk')}"]
        if Extent.TENSOR in finish:
            lines += [f"        if arrive_({arrived} + tensor, tl.maximum({_ceiling('matrices', ACROSS)}, 1)):"]
            lines += [f"            {self.call(finish[Extent.TENSOR], 'tensor')}"]
        return self.function("finish_matrices", ["tensor", "chunk"], lines)


def _ceiling(count: str, size: int) -> str:
    """How many pieces of this size there are."""
    return f"(({count} + {size - 1}) // {size})"

"""What comes between two passes: the sums are finished of which a pass has left parts, always in the same order, and
everything smaller than a tensor is computed in float64, as the host does.
"""

from __future__ import annotations

from scirs2_adapters.core.slots import Extent

from .triton_kernel import ACROSS, HELPERS, SEGMENT, Function, KernelText, Text, operation_text
from .triton_layout import LINES, Layout, Stage, kind, of_pass

#: Parts of sums that are added at a time; with those of lines, so many of each of `ACROSS` lines.
PARTIALS, SEGMENTS = 1024, 32
#: What a program is of, as `chunks` says it.
WAYS = {Extent.TENSOR: 0, Extent.ROW: 1, Extent.COLUMN: 2, Extent.BATCH: 3}


def stage_functions(layout: Layout, shared: bool, stage: Stage) -> dict[Extent, Function]:
    """The functions of a stage, by what they finish: a tensor, or a chunk of its lines."""
    functions = {extent: StageText(layout, shared, stage).finish(extent) for extent in WAYS}
    return {extent: function for extent, function in functions.items() if function}


class StageKernel(KernelText):
    """A stage that is a launch of its own."""

    def text(self, stage: Stage) -> Text:
        """Programs of another kind than this stage needs do nothing."""
        functions = stage_functions(self.layout, self.shared, stage)
        before = [*HELPERS, *(function.source for function in functions.values())]
        if not any(extent in LINES for extent in functions):
            calls = [f"    {self.call(function, 'tl.program_id(0)')}" for function in functions.values()]
            return self.kernel(before, calls or ["    pass"], by="sizes")
        lines = [f"    item = {self.use('chunks')} + tl.program_id(0).to(tl.int64) * 3"]
        lines += ["    tensor, way, chunk = tl.load(item), tl.load(item + 1), tl.load(item + 2).to(tl.int64)"]
        for extent, function in functions.items():
            where = ["tensor"] if extent is Extent.TENSOR else ["tensor", "chunk"]
            lines += [f"    if way == {WAYS[extent]}:", f"        {self.call(function, *where)}"]
        return self.kernel(before, lines, by="chunks")


class StageText(KernelText):
    """What finishes a tensor or a chunk of its lines: `at` are their places, those of all of the tensor's matrices
    counted through, and `at_row` those of the rows that they belong to.
    """

    def __init__(self, layout: Layout, shared: bool, stage: Stage) -> None:
        super().__init__(layout, shared)
        self.stage, self.targets = stage, layout.targets(stage)
        self.before = {i for i, time in layout.kept.items() if time < stage.time}
        self.by_lines = stage.level > 0 and layout.along_lines(stage.level - 1)

    def finish(self, extent: Extent) -> Function | None:
        """The function for one kind of chunks, if there is something to do."""
        if extent is Extent.TENSOR:
            body = self._of_tensor()
            return self.function("finish_tensor", ["tensor"], [self.row(), *body]) if body else None
        if not (body := self._of_lines(extent)):
            return None
        head = [f"    at = chunk * {ACROSS} + tl.arange(0, {ACROSS})", self.row()]
        return self.function(f"finish_{LINES[extent]}", ["tensor", "chunk"], [*head, *body])

    def _of_tensor(self) -> list[str]:
        """The numbers of a tensor and those of the model."""
        targets = self.targets.get(Extent.TENSOR, [])
        lines = self._shares() + [line for i in targets if i in self.stage.new for line in self._number(i)]
        lines += self._values(targets, "")
        lines += [f"    tl.store({self.kept(i)}, x{i})" for i in targets if i in self.stage.new]
        for name, i in self.stage.stored.items():
            if name in self.layout.model:
                lines += [f"    tl.store({self.model(name, 'new_model')}, x{i}, mask=tensor == 0)"]
            elif kind(self.layout.extents[name]) is Extent.TENSOR:
                lines += [f"    tl.store({self.slot(name)}, x{i}{self._to(name)})"]
        return lines

    def _to(self, slot: str) -> str:
        return ".to(tl.float64)" if self.layout.dtypes[slot] == "float64" else ".to(tl.float32)"

    def _values(self, targets: list[int], at: str) -> list[str]:
        """What these nodes are computed of, and they themselves, but for sums that are finished already."""
        lines, nodes = list[str](), self.program.nodes
        for i in self.layout.body(self.stage, targets):
            if i in self.stage.new and nodes[i].reduces:
                continue
            if i in self.before or not nodes[i].args:
                extent = nodes[i].extent
                place = {"at": f"at_{LINES[extent]}", "mask": ", mask=inside"} if extent in LINES else {}
                lines += [f"    x{i} = {self.small(i, new=i not in self.before, **place)}"]
            else:
                lines += [f"    x{i} = {operation_text(self.program, i)}"]
        return lines

    def _shares(self) -> list[str]:
        """This tensor's share of each sum over the model."""
        new = [i for i in self.layout.totals if self.layout.kept[i] == (self.stage.level, 1)]
        if self.stage.number or not new:
            return []
        lines, width = self._parts(new), len(self.layout.totals)
        for i in new:
            place = f"{self.use('shares')} + tensor * {width} + {self.layout.totals.index(i)}"
            lines += [f"    tl.store({place}, tl.sum(y{i}))"]
        return lines

    def _number(self, i: int) -> list[str]:
        """A sum over the tensor or the model."""
        node = self.program.nodes[i]
        if not node.reduces:
            return []
        if node.op == "total":
            place = f"{self.use('all_shares')} + k * {len(self.layout.totals)} + {self.layout.totals.index(i)}"
            return [*self._added([i], ["0", self.use("tensors")], {i: place}), f"    x{i} = tl.sum(y{i})"]
        if of_pass(self.program, i):
            lines, count = self._parts([i]), f"tl.load({self.use('sizes')} + tensor)"
        else:
            (arg,) = node.args
            extent = self.program.nodes[arg].extent
            count = {
                Extent.ROW: f"{self.geometry('matrices')} * {self.geometry('height')}",
                Extent.COLUMN: f"{self.geometry('matrices')} * {self.geometry('width')}",
                Extent.BATCH: self.geometry("matrices"),
            }[extent]
            lines = self._added([i], ["0", count], {i: self.kept(arg, "k")})
        mean = f" / tl.maximum({count}, 1).to(tl.float64)" * (node.op == "mean")
        return [*lines, f"    x{i} = tl.sum(y{i}){mean}"]

    def _parts(self, sums: list[int]) -> list[str]:
        """The parts of all blocks of the tensor, of these sums of the last pass."""
        firsts = self.use("line_firsts" if self.by_lines else "firsts")
        pass_sums = self.layout.passes[self.stage.level - 1].sums
        places = {i: f"{self.use('partials')} + k * {self.layout.sums} + {pass_sums.index(i)}" for i in sums}
        return self._added(sums, [f"tl.load({firsts} + tensor)", f"tl.load({firsts} + tensor + 1)"], places)

    def _added(self, sums: list[int], ends: list[str], places: dict[int, str]) -> list[str]:
        """`y5`, whose sum is that of node 5, of what is at these places."""
        lines = [f"    end = {ends[1]}", *(f"    y{i} = tl.zeros([{PARTIALS}], tl.float64)" for i in sums)]
        lines += [
            f"    for first in range({ends[0]}, end, {PARTIALS}):",
            f"        k = first + tl.arange(0, {PARTIALS})",
        ]
        return lines + [f"        y{i} += tl.load({places[i]}, mask=k < end, other=0.0)" for i in sums]

    def _of_lines(self, extent: Extent) -> list[str]:
        """The numbers of some lines of a tensor."""
        if not (targets := self.targets.get(extent)):
            return []
        lines = [f"    height, width = {self.geometry('height')}, {self.geometry('width')}"]
        lines += [f"    matrices = {self.geometry('matrices')}"]
        of_row, of_column = (
            ["    at_row, at_batch = at, at // tl.maximum(height, 1)"],
            ["    at_column, at_batch = at, at // tl.maximum(width, 1)"],
        )
        lines += {Extent.ROW: of_row, Extent.COLUMN: of_column, Extent.BATCH: ["    at_batch = at"]}[extent]
        counts = {Extent.ROW: "matrices * height", Extent.COLUMN: "matrices * width", Extent.BATCH: "matrices"}
        lines += [f"    count = {counts[extent]}", "    inside = at < count"]
        new = [i for i in targets if i in self.stage.new]
        for i in new:
            lines += self._line_sum(i) if self.program.nodes[i].reduces else []
        lines += self._values(targets, "at")
        at = f"at_{LINES[extent]}"
        lines += [f"    tl.store({self.kept(i, at)}, x{i}, mask=inside)" for i in new]
        for name, i in self.stage.stored.items():
            if self.layout.extents[name] is extent:
                lines += [f"    tl.store({self.slot(name, at)}, x{i}{self._to(name)}, mask=inside)"]
        return lines

    def _line_sum(self, i: int) -> list[str]:
        """The mean along each line, of the parts that a pass has left or of what a stage has kept."""
        node = self.program.nodes[i]
        extent = node.extent
        if of_pass(self.program, i):
            this = self.layout.passes[self.stage.level - 1]
            pass_sums, name = list(this.rows) if extent is Extent.ROW else list(this.columns), LINES[extent]
            length = "width" if extent is Extent.ROW else "height"
            end, width = f"({length} + {SEGMENT - 1}) // {SEGMENT}", self.layout.parts[extent]
            start = f"{self.geometry(f'{name}_parts')} + k * count + at[None, :]"
            place = f"{self.use(f'{name}_partials')} + ({start}) * {width} + {pass_sums.index(i)}"
        else:
            (arg,) = node.args
            length = "height" if self.program.nodes[arg].extent is Extent.ROW else "width"
            end, place = length, self.kept(arg, f"(at[None, :] * {length} + k)")
        lines = [f"    end = {end}", f"    y{i} = tl.zeros([{SEGMENTS}, {ACROSS}], tl.float64)"]
        lines += [
            f"    for first in range(0, end, {SEGMENTS}):",
            f"        k = first + tl.arange(0, {SEGMENTS})[:, None]",
        ]
        lines += [f"        y{i} += tl.load({place}, mask=(k < end) & inside[None, :], other=0.0)"]
        mean = f" / tl.maximum({length}, 1).to(tl.float64)" * (node.op == "mean")
        return [*lines, f"    x{i} = tl.sum(y{i}, axis=0){mean}"]

"""What the launches of one step leave to each other: a pass goes over all numbers of all tensors and leaves parts of
sums, and the stages before the next pass make of them everything that is smaller than a tensor.

What a stage computes by itself it need not keep, so only sums and what a pass reads are stored between launches. A sum
of what another launch computes, as the mean over the rows of a matrix, or the sum over the model, is one stage more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scirs2_adapters.core.cpu.emit import dithered
from scirs2_adapters.core.formats import DITHER
from scirs2_adapters.core.program.passes import Pass, split_passes
from scirs2_adapters.core.program.recorded import Program
from scirs2_adapters.core.slots import Extent
from scirs2_adapters.core.step.plan import array_names

#: What there are several of in a tensor, by the names of the arguments that hold them.
LINES = {Extent.ROW: "row", Extent.COLUMN: "column", Extent.BATCH: "batch"}
_KNOWN = (Extent.MODEL, Extent.TENSOR, *LINES, Extent.FULL)


def formula_obstacle(program: Program) -> str | None:
    """Why no kernels of ours have this formula, or None."""
    nodes = program.nodes
    if any(n.op == "matrix" for n in nodes):
        return "the formula has functions of matrices"
    if program.kernel_obstacle or not all(n.extent in _KNOWN for n in nodes):
        return program.kernel_obstacle or "the formula looks at sides of matrices"
    if any(n.op == "total" and nodes[n.args[0]].extent is not Extent.FULL for n in nodes):
        return "the formula has sums over the model of numbers of each tensor"
    if any(s.extent is Extent.MODEL for s in program.slots) and not program.levels:
        return "the formula has numbers of the model and no sums"
    return "a stage would read a slot that it stores" if _Stages(program).races() else None


def of_pass(program: Program, index: int) -> bool:
    """Whether a pass over whole tensors leaves the parts of this sum."""
    node = program.nodes[index]
    return node.reduces and program.nodes[node.args[0]].extent is Extent.FULL


def kind(extent: Extent) -> Extent:
    """Of what the programs are that compute values of this extent; each tensor's computes those of the model."""
    return max(extent, Extent.TENSOR)


@dataclass(frozen=True)
class Stage:
    """One launch before the pass of a level: `new` are the nodes that it keeps, `stored` the slots that it stores."""

    level: int
    number: int
    new: tuple[int, ...]
    stored: Mapping[str, int]

    @property
    def time(self) -> tuple[int, int]:
        """Its place in the step."""
        return self.level, self.number


class _Stages:
    """When each value of a program that is smaller than a tensor is there: before the pass of a level, in the stage of
    a number. `kept` are those that are stored between launches.
    """

    def __init__(self, program: Program) -> None:
        self.program, self.passes = program, split_passes(program, "p")
        small = {s.name: s for s in program.slots if s.extent is not Extent.FULL}
        self.stored = {name: program.outputs[name] for name in small if name not in program.kept}
        self.times = _times(program)
        needed = program.order(list(program.outputs.values()))
        sums = [i for i in needed if program.nodes[i].reduces]
        summed = [a for i in sums if not of_pass(program, i) for a in program.nodes[i].args]
        kept = dict.fromkeys([*sums, *summed, *(i for this in self.passes for i in self._left(this))])
        times = {i: self.times[i] for i in kept if program.nodes[i].op != "input"}
        levels = program.levels
        self.end = levels, max((n for level, n in times.values() if level == levels), default=0)
        inputs = [i for i in kept if program.nodes[i].op == "input"]
        model = [i for i in needed if program.nodes[i].op == "input" and program.nodes[i].extent is Extent.MODEL]
        #: Numbers of the model are copied before the first stage that stores new ones.
        self.kept = times | dict.fromkeys(inputs, self.end) | dict.fromkeys(model, (1, 0))

    def _left(self, this: Pass) -> list[int]:
        """The values smaller than a tensor that a pass reads where a stage has left them."""
        nodes = [*this.coefficients, *(a.node for a in this.arrays if a.extent is not Extent.FULL)]
        return [i for i in nodes if i not in this.rows and not self.direct(i, this.level)]

    def direct(self, index: int, level: int) -> bool:
        """Whether it is a coefficient of the step, or a slot that has its old value until the last pass."""
        node = self.program.nodes[index]
        if node.op == "input" and node.extent is Extent.MODEL:
            return level == 0
        return node.op == "scalar" or (
            node.op == "input" and (level < self.program.levels or node.name not in self.stored)
        )

    def along_lines(self, level: int) -> bool:
        """Whether a pass sums along rows or columns."""
        return bool(self.passes[level].rows or self.passes[level].columns)

    def of_level(self, level: int) -> list[Stage]:
        """The stages before a pass, in order."""
        numbers = {n for at, n in self.kept.values() if at == level}
        totals = {i for i in self.kept if self.program.nodes[i].op == "total" and self.kept[i][0] == level}
        numbers |= {0} if totals else set()
        numbers |= {self.end[1]} if self.stored and level == self.end[0] else set()
        stages = []
        for n in sorted(numbers):
            new = tuple(i for i, time in self.kept.items() if time == (level, n))
            stages.append(Stage(level, n, new, self.stored if (level, n) == self.end else {}))
        return stages

    def body(self, stage: Stage, targets: list[int]) -> list[int]:
        """The nodes that a stage takes or computes for these, in order."""
        stop = {i for i, time in self.kept.items() if time < stage.time or self.program.nodes[i].reduces}
        return self.program.order(targets, stop)

    def targets(self, stage: Stage) -> dict[Extent, list[int]]:
        """The nodes that a stage computes, by what its programs are of."""
        nodes, extents = self.program.nodes, {s.name: s.extent for s in self.program.slots}
        targets: dict[Extent, list[int]] = {}
        for i in stage.new:
            targets.setdefault(kind(nodes[i].extent), []).append(i)
        for name, i in stage.stored.items():
            targets.setdefault(kind(extents[name]), []).append(i)
        return targets

    def races(self) -> bool:
        """Whether programs would read what others of the same launch store."""
        nodes = self.program.nodes
        last = next((s for s in self.of_level(self.end[0]) if s.stored), None)
        for extent, targets in self.targets(last).items() if last else ():
            for i in self.body(last, targets) if last else ():
                slot = nodes[i].op == "input" and nodes[i].name in self.stored and not self._before(i)
                if slot and nodes[i].extent is not extent:
                    return True
        return False

    def _before(self, index: int) -> bool:
        return index in self.kept and self.kept[index] < self.end


def _times(program: Program) -> list[tuple[int, int]]:
    """For each node the level and the number of the stage that can compute it."""
    times: list[tuple[int, int]] = []
    makers: list[set[Extent]] = []  # what the programs are of that finish its latest sums in that very stage
    for i, node in enumerate(program.nodes):
        time = max((times[a] for a in node.args), default=(0, 0))
        made_by = {e for a in node.args if times[a] == time for e in makers[a]}
        if of_pass(program, i):
            time = node.level, int(node.op == "total")
        elif node.reduces or made_by - {kind(node.extent)}:  # what other programs make is there a stage later
            time = time[0], time[1] + 1
            made_by = set()
        times.append(time)
        makers.append({kind(node.extent)} if node.reduces else made_by)
    return times


class Layout(_Stages):
    """What the kernels of a program and these storages have in common: `columns` are the arrays in a row of the table,
    `scalars` what is in a row of coefficients, and `places` where the kept nodes are among those of their kind.
    """

    def __init__(self, program: Program, dtypes: Mapping[str, str]) -> None:
        super().__init__(program)
        self.dtypes = dtypes
        self.columns = array_names(program.slots, dtypes)
        last = self.passes[-1]
        storages = [dtypes.get(a.name, "") for a in last.arrays]
        self.scalars = [*program.scalars, *[DITHER] * dithered(last, storages)]
        self.model = [s.name for s in program.slots if s.extent is Extent.MODEL]
        self.totals = [i for i in self.kept if program.nodes[i].op == "total"]
        self.sums = max(len(this.sums) for this in self.passes)
        #: How many parts of sums a pass leaves for each line of this kind.
        self.parts = {Extent.ROW: max(len(this.rows) for this in self.passes)}
        self.parts[Extent.COLUMN] = max(len(this.columns) for this in self.passes)
        self.places, self.widths = dict[int, int](), dict.fromkeys((Extent.TENSOR, *LINES), 0)
        for i in self.kept:
            extent = kind(program.nodes[i].extent)
            self.places[i] = self.widths[extent]
            self.widths[extent] += 1
        #: Whether there are kernels that go along rows and columns.
        self.by_lines = bool(program.looked)

"""What the launches of one step leave to each other: a pass goes over all numbers of all tensors and leaves parts of
sums, and the stages before the next pass make of them everything that is smaller than a tensor.

What a stage computes by itself it need not keep, so only sums and what a pass reads are stored between programs. The
first stage after a pass is of its launch: the last program of some lines, of some matrices and of a tensor finishes
what the others have left. A value of lines that needs one of their tensor, and a sum over the model, are a stage more,
which is another launch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scirs2_adapters.core.cpu.emit import dithered
from scirs2_adapters.core.formats import DITHER
from scirs2_adapters.core.program.node import Node
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
    """What is computed before the pass of a level: `new` are the nodes that it keeps, `stored` the slots that it
    stores. That of number 0 is of the launch before it, if there is one.
    """

    level: int
    number: int
    new: tuple[int, ...]
    stored: Mapping[str, int]

    @property
    def time(self) -> tuple[int, int]:
        """Its place in the step."""
        return self.level, self.number

    @property
    def attached(self) -> bool:
        """Whether the programs of the pass before it finish it."""
        return self.level > 0 and self.number == 0


class _Stages:
    """When each value of a program that is smaller than a tensor is there: before the pass of a level, in the stage of
    a number. `kept` are those that are stored between programs, and `stored_at` is when slots get their new values.
    """

    def __init__(self, program: Program) -> None:
        self.program, self.passes = program, split_passes(program, "p")
        small = {s.name: s.extent for s in program.slots if s.extent is not Extent.FULL}
        self.extents = {name: extent for name, extent in small.items() if name not in program.kept}
        self.stored = {name: program.outputs[name] for name in self.extents}
        self.times = _times(program)
        self._keep({name: self._latest(extent) for name, extent in self.extents.items()})
        self._keep({name: self._soonest(name) or latest for name, latest in self.stored_at.items()})

    def _latest(self, extent: Extent) -> tuple[int, int]:
        """When a slot can be stored at the latest: after all passes but the last. What programs of several tensors or
        lines read gets a launch that none of them is of.
        """
        program, levels = self.program, self.program.levels
        needed = program.order(list(program.outputs.values()))
        times = [self.times[i] for i in needed if program.nodes[i].extent is not Extent.FULL]
        number = max((n for level, n in times if level == levels), default=0)
        return levels, max(number, int(levels > 0 and extent is not Extent.TENSOR))

    def _soonest(self, name: str) -> tuple[int, int] | None:
        """When the new value of a slot is there, if nothing reads the old one later, nor at the same time elsewhere."""
        nodes, extent, new = self.program.nodes, self.extents[name], self.stored[name]
        time = max(self.times[new], (1, 0))
        olds = {i for i, n in enumerate(nodes) if n.op == "input" and n.name == name}
        if extent is Extent.MODEL or not self.program.levels or olds.intersection(self._read(time[0])):
            return None
        if time[1] == 0 and extent is not Extent.TENSOR:
            before = self.passes[time[0] - 1]
            along = {Extent.ROW: before.rows, Extent.COLUMN: before.columns}.get(extent, {})
            if not along or olds.intersection(a.node for a in before.arrays):
                return None
        stages = [stage for level in range(time[0], self.program.levels + 1) for stage in self.of_level(level)]
        for stage in (s for s in stages if s.time >= time):
            for other, targets in self.targets(stage).items():
                body = self.body(stage, [i for i in targets if i != new])
                if (stage.time > time or other is not extent) and olds.intersection(body):
                    return None
        return time

    def _read(self, level: int) -> set[int]:
        """What passes read from this level on."""
        passes = self.passes[level:]
        return {i for this in passes for i in (*this.coefficients, *(a.node for a in this.arrays))}

    def _keep(self, stored_at: Mapping[str, tuple[int, int]]) -> None:
        """Finds out what has to be kept if slots are stored at these times."""
        self.stored_at, nodes, times = dict(stored_at), self.program.nodes, self.times
        needed = self.program.order(list(self.program.outputs.values()))
        sums = [i for i in needed if nodes[i].reduces]
        summed = [a for i in sums if not of_pass(self.program, i) for a in nodes[i].args]
        left = [i for this in self.passes for i in self._left(this)]
        olds = {i: self.stored_at[nodes[i].name] for i in left if nodes[i].op == "input"}
        model = [i for i in needed if nodes[i].op == "input" and nodes[i].extent is Extent.MODEL]
        #: Numbers of the model are copied before the first stage that stores new ones.
        self.kept = {i: times[i] for i in (*sums, *left)} | olds | {i: times[i] for i in summed}
        self.kept |= dict.fromkeys(model, (1, 0))

    def _left(self, this: Pass) -> list[int]:
        """The values smaller than a tensor that a pass reads where a stage has left them."""
        nodes = [*this.coefficients, *(a.node for a in this.arrays if a.extent is not Extent.FULL)]
        return [i for i in nodes if i not in this.rows and not self.direct(i, this.level)]

    def direct(self, index: int, level: int) -> bool:
        """Whether it is a coefficient of the step, or a slot that has its old value until the last pass."""
        node = self.program.nodes[index]
        if node.op == "input" and node.extent is Extent.MODEL:
            return level == 0
        return node.op == "scalar" or (node.op == "input" and level < self.stored_at.get(node.name, (level + 1, 0))[0])

    def along_lines(self, level: int) -> bool:
        """Whether a pass sums along rows or columns."""
        return bool(self.passes[level].rows or self.passes[level].columns)

    def of_level(self, level: int) -> list[Stage]:
        """The stages before a pass, in order."""
        numbers = {n for at, n in self.kept.values() if at == level}
        totals = {i for i in self.kept if self.program.nodes[i].op == "total" and self.kept[i][0] == level}
        numbers |= {0} if totals else set()
        numbers |= {n for at, n in self.stored_at.values() if at == level}
        stages = []
        for n in sorted(numbers):
            new = tuple(i for i, time in self.kept.items() if time == (level, n))
            stored = {name: i for name, i in self.stored.items() if self.stored_at[name] == (level, n)}
            stages.append(Stage(level, n, new, stored))
        return stages

    def body(self, stage: Stage, targets: list[int]) -> list[int]:
        """The nodes that a stage takes or computes for these, in order."""
        stop = {i for i, time in self.kept.items() if time < stage.time or self.program.nodes[i].reduces}
        return self.program.order(targets, stop)

    def targets(self, stage: Stage) -> dict[Extent, list[int]]:
        """The nodes that a stage computes, by what its programs are of."""
        extents = [(i, self.program.nodes[i].extent) for i in stage.new]
        extents += [(i, self.extents[name]) for name, i in stage.stored.items()]
        targets: dict[Extent, dict[int, None]] = {}
        for i, extent in extents:
            targets.setdefault(kind(extent), {})[i] = None
        return {extent: list(nodes) for extent, nodes in targets.items()}

    def races(self) -> bool:
        """Whether programs would read what others of the same launch store."""
        stages = [stage for level in range(self.program.levels + 1) for stage in self.of_level(level)]
        return any(
            self._overwritten(i, extent, stage)
            for stage in stages
            for extent, targets in self.targets(stage).items()
            for i in self.body(stage, targets)
        )

    def _overwritten(self, index: int, extent: Extent, stage: Stage) -> bool:
        """Whether this is a slot that programs of another extent store in this stage."""
        node = self.program.nodes[index]
        read = node.op == "input" and self.kept.get(index, stage.time) >= stage.time
        return read and node.name in stage.stored and node.extent is not extent


def _times(program: Program) -> list[tuple[int, int]]:
    """For each node the level and the number of the stage that can compute it."""
    times: list[tuple[int, int]] = []
    makers: list[set[Extent]] = []  # what the programs are of that finish its latest sums in that very stage
    for i, node in enumerate(program.nodes):
        time = max((times[a] for a in node.args), default=(0, 0))
        made_by = {e for a in node.args if times[a] == time for e in makers[a]}
        if of_pass(program, i):
            time = node.level, int(node.op == "total")
        elif _waits(node, time, made_by):
            time = time[0], time[1] + 1
            made_by = set()
        times.append(time)
        makers.append({kind(node.extent)} if node.reduces else made_by)
    return times


def _waits(node: Node, time: tuple[int, int], made_by: set[Extent]) -> bool:
    """Whether a value is there a stage later than what it is of, because other programs make that. In the first stage
    after a pass those of lines come before those of matrices, and these before those of the tensor.
    """
    if time[0] > 0 and time[1] == 0:
        return any(extent < kind(node.extent) for extent in made_by)
    return node.reduces or bool(made_by - {kind(node.extent)})


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

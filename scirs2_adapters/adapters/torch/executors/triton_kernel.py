"""What all generated kernels have in common: the function, its arguments, and where its values are in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scirs2_adapters.core.cpu.emit import operation
from scirs2_adapters.core.program.recorded import Program
from scirs2_adapters.core.slots import Extent

from .triton_layout import LINES, Layout, kind

#: What is in a row of `geometry`: the lengths of a tensor seen as a batch of matrices, where its numbers begin among
#: those of all tensors, where the parts of the sums along its rows and columns do, and where it is counted how many
#: programs of the same lines have arrived.
GEOMETRY: tuple[str, ...] = ("height", "width", "matrices", "row_start", "column_start", "batch_start")
GEOMETRY += ("row_parts", "column_parts", "row_arrived", "column_arrived", "batch_arrived")
#: Lines that one program sums, how many numbers of each at a time, and how many in all.
ACROSS, ALONG, SEGMENT = 32, 32, 256


@dataclass(frozen=True)
class Text:
    """The text of one launch: its function `kernel` takes these arguments. It has a program for each row of `by`."""

    source: str
    arguments: tuple[str, ...]
    by: str


@dataclass(frozen=True)
class Function:
    """The text of a function that kernels call, with these arguments after those that say where it is."""

    name: str
    source: str
    arguments: tuple[str, ...]


class KernelText:
    """`x5` is node 5, `tensor` the place of a tensor, and `row` its coefficients. `arguments` are those that the text
    has used.
    """

    def __init__(self, layout: Layout, shared: bool) -> None:
        self.layout, self.program, self.shared = layout, layout.program, shared
        self.arguments: dict[str, None] = {}

    def use(self, name: str) -> str:
        """An argument of the kernel."""
        self.arguments[name] = None
        return name

    def scalar(self, name: str) -> str:
        """A coefficient, in float64 as it is sent."""
        self.use("coefficients")
        return f"tl.load(row + {self.layout.scalars.index(name)})"

    def kept(self, node: int, at: str = "") -> str:
        """Where a node is kept for this tensor, or for the line `at` of it."""
        extent = kind(self.program.nodes[node].extent)
        place, width = self.layout.places[node], self.layout.widths[extent]
        if extent is Extent.TENSOR:
            return f"{self.use('numbers')} + tensor * {width} + {place}"
        name = LINES[extent]
        return f"{self.use(f'{name}_numbers')} + ({self.geometry(f'{name}_start')} + {at}) * {width} + {place}"

    def model(self, name: str, argument: str = "model") -> str:
        """Where a number of the model is."""
        return f"{self.use(argument)} + {self.layout.model.index(name)}"

    def pointer(self, name: str, dtype: str) -> str:
        """Where this array of a tensor begins."""
        columns, table = self.layout.columns, self.use("table")
        return f"tl.load({table} + tensor * {len(columns)} + {columns.index(name)}).to(tl.pointer_type(tl.{dtype}))"

    def geometry(self, name: str) -> str:
        """One of the numbers that say where lines are."""
        return f"tl.load({self.use('geometry')} + tensor * {len(GEOMETRY)} + {GEOMETRY.index(name)})"

    def slot(self, name: str, at: str = "") -> str:
        """Where a slot that is smaller than a tensor is."""
        return self.pointer(name, self.layout.dtypes[name]) + f" + {at}" * bool(at)

    def small(self, node: int, new: bool = False, at: str = "", mask: str = "") -> str:
        """A value smaller than a tensor, as a stage has left it unless it is `new`; `mask` is that of the load."""
        described = self.program.nodes[node]
        if described.op == "scalar":
            return self.scalar(described.name)
        if not new:
            return f"tl.load({self.kept(node, at)}{mask})"
        if described.extent is Extent.MODEL:
            return f"tl.load({self.model(described.name)})"
        return f"tl.load({self.slot(described.name, at)}{mask}).to(tl.float64)"

    def row(self) -> str:
        """The line that says which coefficients are this tensor's."""
        if not self.shared:
            self.use("rows")
        self.use("coefficients")
        return "    row = coefficients" + f" + tl.load(rows + tensor) * {len(self.layout.scalars)}" * (not self.shared)

    def function(self, name: str, takes: Sequence[str], lines: Sequence[str]) -> Function:
        """The text of a function of `takes` and of the arguments that were used."""
        names = tuple(self.arguments)
        text = "\n".join(["@triton.jit", f"def {name}({', '.join([*takes, *names])}):", *lines]) + "\n"
        return Function(name, text, names)

    def kernel(self, before: Sequence[str], lines: Sequence[str], by: str) -> Text:
        """The text of a launch."""
        kernel = self.function("kernel", (), lines)
        return Text("\n".join([*before, "", kernel.source]), kernel.arguments, by)

    def call(self, function: Function, *where: str) -> str:
        """The line that calls a function."""
        return f"{function.name}({', '.join([*where, *map(self.use, function.arguments)])})"


def operation_text(program: Program, index: int) -> str:
    """An operation, whose quotients are rounded to nearest."""
    node = program.nodes[index]
    return "div_(x{}, x{})".format(*node.args) if node.op == "div" else operation(program, index)


def _helpers() -> list[str]:
    of_zero = "tl.where(a < 0.0, float('inf'), tl.where(a == 0.0, 1.0, 0.0))"
    bodies = {"select(c, a, b)": "tl.where(c, a, b)", "abs_(x)": "tl.abs(x)"}
    bodies["power_(x, a)"] = f"tl.where(x == 0.0, {of_zero}, tl.exp2(a * tl.log2(tl.where(x == 0.0, 1.0, x))))"
    functions = [f"@triton.jit\ndef {name}:\n    return {body}\n" for name, body in bodies.items()]
    either = {"sqrt_(x)": ("tl.sqrt_rn(x)", "tl.sqrt(x)"), "div_(x, y)": ("tl.div_rn(x, y)", "x / y")}
    for name, (single, double) in either.items():
        cases = f"    if x.dtype == tl.float64:\n        return {double}\n    else:\n        return {single}\n"
        functions.append(f"@triton.jit\ndef {name}:\n{cases}")
    return [*functions, "zero, one = tl.constexpr(0.0), tl.constexpr(1.0)"]


#: Functions that formulas use. Roots and quotients are rounded to nearest, for which Triton has other names in float32.
HELPERS = _helpers()

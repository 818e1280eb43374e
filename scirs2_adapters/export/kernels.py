"""The passes of a rule that C calls: which there are, and LLVM's text of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scirs2_adapters.core.cpu.compile import llvm_text
from scirs2_adapters.core.cpu.emit import source
from scirs2_adapters.core.cpu.kernel import SIGNATURE, python_function, reorders
from scirs2_adapters.core.cpu.storage import FLOATS, compute_dtype
from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.program.passes import Pass, numbers, split_passes
from scirs2_adapters.core.program.recorded import Program, record
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Extent, Leaf, Slot

from .scalars import Lines

_TAKEN = "Adam, AdamW, Lion, SGD and their like can be exported."


@dataclass(frozen=True)
class Kernels:
    """A formula for elements: `step` moves them, and `before`, where there are slots of one number for the tensor,
    moves those and makes the coefficients of `step`. `dtypes` are those of "p", "g" and each slot.
    """

    rule: Rule
    program: Program
    dtypes: Mapping[str, str]
    step: Pass
    before: Pass | None

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots in the order of the formula."""
        return self.program.slots

    @property
    def compute(self) -> str:
        """The dtype of the arithmetic."""
        return compute_dtype(self.dtypes["p"])

    def coefficients(self) -> tuple[str, ...]:
        """The numbers that the first pass takes, by name."""
        first = self.before or self.step
        return tuple(self.program.nodes[i].name for i in first.coefficients)

    def numbers(self, lines: Lines, names: Iterable[str], hyper: str, step: str) -> list[str]:
        """The coefficients in the language of `lines`, by the rule's arithmetic: `hyper` stands before the name of a
        hyperparameter, and `step` is the count.
        """
        traced = self.rule.replace_unchecked({k: lines.symbol(hyper + k) for k in names})
        scalars = traced.scalars(lines.math(), lines.symbol(step))
        return [lines.spelled(scalars[name]) for name in self.coefficients()]

    def text(self, this: Pass, symbol: str) -> str:
        """LLVM's text of one of the two passes, as a function of this name."""
        memory = [self.dtypes[a.name] for a in this.arrays]
        compute = "float64" if this is self.before else self.compute
        function = python_function(source(self.program, this, memory), memory, compute, symbol)
        text = llvm_text(function, SIGNATURE, reorders(this), symbol)
        # C calls numba's wrapper, and nothing else calls the function inside it
        inner = text.replace(f"@{symbol}(", f"@{symbol}_inner(").replace(f"@cfunc.{symbol}(", f"@{symbol}(")
        return inner.replace(f"define noundef i32 @{symbol}_inner(", f"define internal i32 @{symbol}_inner(")


def kernels_of(rule: Rule, dtypes: Sequence[str]) -> Kernels:
    """The kernels of a rule for these storage dtypes: p, g, slots. What needs a whole tensor is refused."""
    if rule.needs_closure or rule.needs_value:
        worded = "must be an optimizer that needs nothing but gradients: this one evaluates the model or takes the loss"
        raise bad_value("export", "rule", worded, rule.name, _TAKEN)
    dtypes = _names_of(dtypes)
    program = record(rule, Leaf((2, 2), dtypes[0] if dtypes else "float32"))
    names = ("p", "g", *(slot.name for slot in program.slots))
    extents = {slot.extent for slot in program.slots} - {Extent.FULL, Extent.TENSOR}
    if program.levels or extents or rule.per_parameter or rule.sparse == "rows":
        worded = "must be an optimizer whose formula knows single elements: this one works on norms, rows or matrices"
        raise bad_value("export", "rule", worded, rule.name, _TAKEN)
    stored = dict(zip(names, dtypes or ("float32",) * len(names), strict=False))
    if len(dtypes) not in (0, len(names)) or not {*stored.values()} <= {*FLOATS}:
        worded = f"must be {len(names)} of {', '.join(FLOATS)}, for {', '.join(names)}"
        raise bad_value("export", "dtypes", worded, ",".join(dtypes))
    (step,) = split_passes(program, "p")
    return Kernels(rule, program, stored, step, numbers(program, step))


def _names_of(dtypes: Sequence[str]) -> list[str]:
    """The list of names that was typed. A string alone is a sequence too, of letters."""
    if isinstance(dtypes, str) or not all(isinstance(dtype, str) for dtype in dtypes):
        worded = 'must be a list of names of dtypes, such as ["float32", "float32", "bfloat16"]'
        raise bad_type("export", "dtypes", worded, dtypes)
    return list(dtypes)

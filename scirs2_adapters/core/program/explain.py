"""What a rule does, as its author and its users may read it: the recorded formula, its memory and its passes."""

from __future__ import annotations

import functools
from collections.abc import Callable

from ..slots import Extent, Leaf, Slot
from .node import lines
from .passes import split_passes
from .recorded import Formula, Program, first_coefficients, record

#: Bytes of a number, by dtype.
_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


class Explain:
    """`explain` of a rule, and of a class with its defaults."""

    def __get__(self, rule: Formula | None, cls: type[Formula]) -> Callable[..., str]:
        return functools.partial(explained, cls() if rule is None else rule)


def explained(rule: Formula, leaf: Leaf | None = None) -> str:
    """The formula of a rule for a parameter, by default a matrix of 256 x 256 in float32."""
    leaf = leaf or Leaf((256, 256))
    if rule.needs_closure:
        return f"{rule.name} evaluates the model inside its step: it is an algorithm, and has no recorded formula."
    routed = rule.route(leaf)
    program = record(routed, leaf)
    outputs = {name: i for name, i in program.outputs.items() if name != "delta"}
    values, passes = first_coefficients(routed, leaf), enumerate(pass_bytes(program, leaf), start=1)
    return "\n".join(
        [
            f"{routed!r} for a parameter of shape {leaf.shape} and dtype {leaf.dtype}",
            *(f"  {line}" for line in lines(program.nodes, outputs, program.order(list(outputs.values())))),
            "slots:",
            *(f"  {_slot(s, routed, leaf)}" for s in routed.all_slots()),
            f"passes over memory: {program.levels + 1}",
            *(f"  {i}: reads {r} and writes {w} bytes a parameter" for i, (r, w) in passes),
            "coefficients at step 1:",
            *(f"  {name} = {values[name]!r}" for name in program.scalars),
        ]
    )


def _slot(slot: Slot, rule: Formula, leaf: Leaf) -> str:
    """One slot: its extent, how it is stored, its first value, and whether this rule has it."""
    here = {s.name: s for s in rule.slots(leaf)}
    slot, exists = here.get(slot.name, slot), slot.name in here
    stored = leaf.dtype if slot.extent is Extent.FULL or leaf.dtype == "float64" else "float32"
    first = "a copy of the parameter" if slot.initial == "parameter" else slot.initial_value(rule)
    condition = f", present if {slot.present_if}" if slot.present_if else ""
    return f"{slot.name}: {slot.extent.name.lower()}, {stored}, first {first}{condition}{'' if exists else ': absent'}"


def pass_bytes(program: Program, leaf: Leaf) -> list[tuple[int, int]]:
    """For each pass the bytes that it reads and writes for a parameter, in arrays that are like it, with the gradient
    where functions of matrices read it before the next.
    """
    size, passes = _BYTES[leaf.dtype], split_passes(program, "p")
    matrices = [node for node in program.nodes if node.op == "matrix"]
    levels = {node.level - 1 for node in matrices for a in node.args if program.nodes[a].name == "g"}
    arrays = [{a.name for a in one.arrays if a.extent is Extent.FULL and a.node >= 0} for one in passes]
    read = [len(names | {"g"} if one.level in levels else names) for names, one in zip(arrays, passes, strict=True)]
    return [(size * n, size * len(one.stores)) for n, one in zip(read, passes, strict=True)]

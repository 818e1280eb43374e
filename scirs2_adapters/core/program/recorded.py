"""A formula recorded once, as a small program that every path runs.

`record` calls the rule's formula with symbols in place of arrays. Python branches on a rule's static fields are taken
then and leave no trace; what remains is a straight line of operations. Each knows its extent (`Extent`) and its level:
how many reductions over whole tensors must be finished before it can be computed. Level 0 of AdamW is all there is;
LAMB's step is at level 1, behind two norms. A path evaluates level by level, which is what lets a host kernel stay
fused and a sharded one reduce across devices.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar, Protocol, Self

from ..argument_names import Spell
from ..declaration import VALUE, numbers_of
from ..errors import bad_value
from ..fields import Field, Value, is_traced
from ..matrix import Axes, Matrix, in_order, lie_so
from ..ops import HOST_SCALARS, Array, Scalar, Scalars
from ..slots import LAST, Extent, Leaf, Slot
from .node import Node, lines
from .recorder import Coefficients, Recorder, Symbol
from .refusals import shown

#: The coefficient by which a scaled program multiplies the gradient.
SCALE = "gradient_scale"


class Formula(Protocol):
    """A rule as recording sees it; `core.rule.Rule` says what each member is."""

    name: ClassVar[str]
    fields: ClassVar[dict[str, Field]]

    @property
    def moduli(self) -> bool | None: ...
    @property
    def needs_closure(self) -> bool: ...
    @property
    def needs_value(self) -> bool: ...
    @property
    def per_parameter(self) -> bool: ...
    @property
    def looks_at_names(self) -> bool: ...

    def refuses(self, leaf: Leaf, spell: Spell = str) -> str | None: ...
    def route(self, leaf: Leaf) -> Formula: ...
    def all_slots(self) -> tuple[Slot, ...]: ...
    def slots(self, leaf: Leaf) -> tuple[Slot, ...]: ...
    def axes(self, leaf: Leaf) -> Axes: ...
    def view(self, leaf: Leaf) -> Matrix | None: ...
    def kernel_key(self) -> tuple[object, ...]: ...
    def scalars(self, math: SimpleNamespace, t: Scalar) -> dict[str, Scalar]: ...
    def leaf_coefficients(self, leaf: Leaf) -> Scalars: ...
    def leaf_key(self, leaf: Leaf) -> Hashable: ...
    def replace_unchecked(self, values: Mapping[str, Value]) -> Self: ...
    def apply(
        self, xp: Array, p: Array, g: Array, slots: Mapping[str, Array], scalars: Scalars
    ) -> tuple[Array, dict[str, Array]]: ...


@dataclass(frozen=True, eq=False)
class Program:
    """The formula of one variant for parameters with these slots."""

    nodes: tuple[Node, ...]
    slots: tuple[Slot, ...]
    outputs: dict[str, int]  # "p", "delta" and each slot
    rule: str
    looked: tuple[Axes, ...] = ()  # the pairs of axes that its rows and columns are of

    @functools.cached_property
    def scalars(self) -> tuple[str, ...]:
        """The coefficients the formula uses, in the order it asks for them."""
        used = (self.nodes[i] for i in self.order(list(self.outputs.values())))
        return tuple(n.name for n in used if n.op == "scalar")

    @functools.cached_property
    def levels(self) -> int:
        """How many rounds of reductions there are."""
        return max(n.level for n in self.nodes)

    @functools.cached_property
    def sums(self) -> bool:
        """Whether it sums over the model, so that all parameters have to be stepped together."""
        return any(n.op == "total" for n in self.nodes)

    @functools.cached_property
    def moduli(self) -> frozenset[str]:
        """The slots that hold one real number for each complex one: those computed from moduli and themselves alone."""
        names = {s.name for s in self.slots if s.extent > Extent.TENSOR and s.initial != "parameter"}
        if not any(n.op == "square" for n in self.nodes):
            return frozenset()
        while True:
            real: list[bool] = []
            for node in self.nodes:
                known = node.name in names if node.op == "input" else all(real[a] for a in node.args)
                real.append(known or node.op == "square" or node.extent <= Extent.TENSOR)
            if names == (names := {name for name in names if real[self.outputs[name]]}):
                return frozenset(names)

    @functools.cached_property
    def kept(self) -> frozenset[str]:
        """Which outputs are the arrays as they were. A slot that takes the gradient as it is has a new value."""
        ends = {name: self.nodes[i] for name, i in self.outputs.items()}
        return frozenset(name for name, node in ends.items() if (node.op, node.name) == ("input", name))

    @property
    def kernel_obstacle(self) -> str | None:
        """Why no kernel can walk it row by row through memory, or None."""
        if len(self.looked) > 1:
            return f"its rows and columns are of several pairs of axes, {' and '.join(map(str, self.looked))}"
        return None if lie_so(self.lines) else f"its rows and columns are of the axes {self.lines}, not the last ones"

    @property
    def lines(self) -> Axes:
        """The axes that its rows and columns are of, the one that lies first, first."""
        return self.looked[0] if self.looked else LAST

    @functools.cached_property
    def text(self) -> str:
        """The program to read; equal texts are equal programs."""
        inputs = [f"{n.name}: {n.extent.name.lower()}" for n in self.nodes if n.op == "input"]
        return "\n".join([*inputs, *lines(self.nodes, self.outputs, self.order(list(self.outputs.values())))])

    @functools.cached_property
    def digest(self) -> str:
        """A name for the program in caches."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:24]

    def order(self, targets: list[int], stop: Container[int] = ()) -> list[int]:
        """The nodes that `targets` need, in order, not looking behind those in `stop`."""
        needed: set[int] = set()
        stack = list(targets)
        while stack:
            index = stack.pop()
            if index not in needed:
                needed.add(index)
                if index not in stop:
                    stack.extend(self.nodes[index].args)
        return sorted(needed)


#: Programs by what they depend on, and how many are remembered.
_programs: dict[Hashable, Program] = {}
_MOST = 4096
_lock = threading.RLock()


def record(rule: Formula, leaf: Leaf, scaled: bool = False, call: str = "", spell: Spell = str) -> Program:
    """The program of a rule for parameters like this leaf; remembered for each variant. A scaled one multiplies the
    gradient, as it is read, by the coefficient `SCALE`: clipping and loss scaling without another pass. What the
    rule cannot step is refused here, before anything moves; `call` is what the user typed, and `spell` how.
    """
    if requirement := rule.refuses(leaf, spell):
        dtype = f"{'complex numbers of ' * leaf.complex}{leaf.dtype}"
        raise bad_value(call or type(rule).__name__, "", requirement, dtype)
    moduli = leaf.complex and bool(rule.moduli)
    key = rule.kernel_key(), rule.slots(leaf), rule.axes(leaf), rule.view(leaf), scaled, moduli
    if (program := _programs.get(key)) is None:
        with _lock:  # two threads would record two programs, and the leaves of one call would be of two kinds
            program = _programs.get(key) or _record(rule, leaf, scaled, moduli)
            if len(_programs) >= _MOST:
                _programs.clear()
            _programs[key] = program
    return program


def _record(rule: Formula, leaf: Leaf, scaled: bool, moduli: bool) -> Program:
    slots, axes = rule.slots(leaf), rule.axes(leaf)
    xp = Recorder(axes, rule.view(leaf), moduli)
    xp.values = {**first_coefficients(rule, leaf), SCALE: 1.0}
    p, g = (xp.put(Node("input", (), Extent.FULL, 0, name)) for name in ("p", "g"))
    symbols = {s.name: xp.put(Node("input", (), s.extent, 0, s.name)) for s in slots}
    scalars = Coefficients(xp)
    new, remembered = rule.apply(xp, p, xp.op("mul", scalars[SCALE], g) if scaled else g, symbols, scalars)
    _check_slots(xp.formula, slots, symbols, remembered)
    outputs = {"p": new.index} | {s.name: remembered[s.name].index for s in slots}
    node = xp.nodes[new.index]
    step = Symbol(xp, node.args[1]) if node.op == "sub" and node.args[0] == p.index else None
    outputs["delta"] = (-step if step is not None else new - p).index
    if any(s.axis for s in slots):
        xp.looked[in_order(axes)] = None
    return Program(tuple(xp.nodes), slots, outputs, rule.name, tuple(xp.looked))


def first_coefficients(rule: Formula, leaf: Leaf) -> dict[str, Scalar]:
    """The coefficients of step 1, with the default in the place of each value that is traced."""
    traced = {k: f.default for k, f in rule.fields.items() if is_traced(getattr(rule, k))}
    rule = rule.replace_unchecked(traced) if traced else rule
    loss = {VALUE: 1.0} if rule.needs_value else {}
    return {**rule.scalars(HOST_SCALARS, 1), **loss, **numbers_of(rule, rule.leaf_coefficients, leaf)}


def _check_slots(
    formula: str, slots: Sequence[Slot], before: Mapping[str, Symbol], after: Mapping[str, Symbol]
) -> None:
    """Each slot must have a new value, which is the old one only for a copy of the first parameter."""
    for slot in slots:
        new, received = after.get(slot.name), ""
        if not isinstance(new, Symbol):
            received = shown(new)
        elif new.index == before[slot.name].index and slot.initial != "parameter":
            received = "the old one, so it would never change. Leave the slot out, or return what becomes of it"
        if received:
            raise TypeError(f"`{formula}` must return a new value for the slot `{slot.name}`. Received: {received}.")


#: Parameters of every number of axes, long enough for a rule that looks at lengths.
EXAMPLES = tuple(Leaf((256,) * axes) for axes in range(5))


def programs_of(rule: Formula) -> set[Program]:
    """The programs of these parameters. A sum over the model goes over the parameters of one program, so what has sums
    must have the same for all.
    """
    return {record(rule.route(leaf), leaf) for leaf in EXAMPLES}


def needs_whole(rule: Formula) -> bool:
    """Whether a rule steps a flat piece of several parameters otherwise than these parameters: it looks at shapes, or
    sums over a tensor or the model.
    """
    key = rule.kernel_key()
    if (known := _whole.get(key)) is None:
        reduces = any(n.reduces for program in programs_of(rule) for n in program.nodes)
        known = _whole[key] = rule.per_parameter or rule.looks_at_names or reduces
    return known


#: By kernel key.
_whole: dict[Hashable, bool] = {}

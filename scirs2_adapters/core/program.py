"""A formula recorded once, as a small program that every path runs.

`record` calls the rule's formula with symbols in place of arrays. Python branches on a rule's static fields are taken
then and leave no trace; what remains is a straight line of operations. Each knows its extent (`Kind`) and its level:
how many reductions over whole tensors must be finished before it can be computed. Level 0 of AdamW is all there is;
LAMB's step is at level 1, behind two norms. A path evaluates level by level, which is what lets a host kernel stay
fused and a sharded one reduce across devices.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

from .errors import bad_value
from .matrix import Matrix
from .rule import Rule
from .slots import LAST, Axes, Kind, Leaf, Slot
from .waist import ELEMENTWISE

#: The coefficient by which a scaled program multiplies the gradient.
SCALE = "gradient_scale"


@dataclass(frozen=True)
class Node:
    """One operation: its arguments are indices of earlier nodes; `static` is an axis or a matrix function with its
    options.
    """

    op: str
    args: tuple[int, ...]
    kind: Kind
    level: int
    name: str = ""
    static: Any = None

    @property
    def reduces(self) -> bool:
        """Whether a pass over whole tensors ends here."""
        return self.op in ("sum", "mean", "total", "matrix")


@dataclass(frozen=True, eq=False)
class Program:
    """The formula of one variant for parameters with these slots."""

    nodes: tuple[Node, ...]
    slots: tuple[Slot, ...]
    outputs: dict[str, int]  # "p", "delta" and each slot
    rule: str
    axes: Axes = LAST

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
    def moduli(self) -> frozenset[str]:
        """The slots that hold one real number for each complex one: those computed from moduli and themselves alone."""
        found = {s.name for s in self.slots if s.kind > Kind.TENSOR and s.initial != "parameter"}
        if not any(n.op == "square" for n in self.nodes):
            return frozenset()
        while True:
            real: list[bool] = []
            for node in self.nodes:
                known = node.name in found if node.op == "input" else all(real[a] for a in node.args)
                real.append(known or node.op == "square" or node.kind <= Kind.TENSOR)
            if found == (found := {name for name in found if real[self.outputs[name]]}):
                return frozenset(found)

    @property
    def strays(self) -> str | None:
        """Why no kernel can walk it row by row through memory, or None."""
        return (
            None if {*self.axes} == {*LAST} else f"its rows and columns are of the axes {self.axes}, not the last two"
        )

    @functools.cached_property
    def text(self) -> str:
        """The program in words; equal texts are equal programs."""
        lines = (
            f"%{i} = {n.op}{_static(n.static)} {n.name}{list(n.args)} {n.kind.name}" for i, n in enumerate(self.nodes)
        )
        return "\n".join([*lines, *(f"{k} <- %{v}" for k, v in self.outputs.items())])

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


def _static(static: Any) -> str:
    if static is None:
        return ""
    if isinstance(static, tuple):
        function, options = static
        return f"<{function.__module__}.{function.__qualname__}{options}>"
    return f"<{static}>"


class Symbol:
    """Stands for an array while a formula is recorded."""

    __slots__ = ("_recorder", "index")

    def __init__(self, recorder: Recorder, index: int) -> None:
        self._recorder = recorder
        self.index = index

    def __bool__(self) -> bool:
        raise TypeError("A formula cannot branch on an array: use `xp.where`, or a static field of the rule.")

    def __neg__(self) -> Symbol:
        return self._recorder.op("neg", self)


def _binary(op: str) -> tuple[Callable[..., Symbol], Callable[..., Symbol]]:
    def forward(self: Symbol, other: Symbol) -> Symbol:
        return self._recorder.op(op, self, other)

    def backward(self: Symbol, other: Symbol) -> Symbol:
        return self._recorder.op(op, other, self)

    return forward, backward


for _name in ("add", "sub", "mul", "truediv"):
    _forward, _backward = _binary("div" if _name == "truediv" else _name)
    setattr(Symbol, f"__{_name}__", _forward)
    setattr(Symbol, f"__r{_name}__", _backward)
for _name in ("gt", "ge", "lt", "le"):
    setattr(Symbol, f"__{_name}__", _binary(_name)[0])


class Recorder:
    """The `xp` of a formula while it is recorded. Equal operations on equal arguments become one node.

    Under `moduli` an array times itself, its absolute value and its sign are recorded as those of its modulus, so that
    a formula for real numbers is one for complex numbers as well.
    """

    def __init__(self, axes: Axes = LAST, view: Matrix | None = None, moduli: bool = False) -> None:
        self.axes, self.view, self.moduli = axes, view, moduli
        self.nodes: list[Node] = []
        self._known: dict[Node, int] = {}
        for name in ELEMENTWISE:
            setattr(self, name, functools.partial(self.op, name))

    def add(self, node: Node) -> Symbol:
        index = self._known.setdefault(node, len(self.nodes))
        if index == len(self.nodes):
            self.nodes.append(node)
        return Symbol(self, index)

    def op(self, op: str, *args: Any) -> Symbol:
        """An elementwise operation."""
        nodes = [self._node(op, a) for a in args]
        if self.moduli and nodes[0].kind > Kind.TENSOR:
            if op == "mul" and args[0].index == args[1].index:
                return self.add(Node("square", (args[0].index,), nodes[0].kind, nodes[0].level))
            if op in ("abs", "sign"):
                return self._modulus(*args) if op == "abs" else self._direction(*args)
        kind = functools.reduce(Kind.join, (n.kind for n in nodes))
        return self.add(Node(op, tuple(a.index for a in args), kind, max(n.level for n in nodes)))

    def _modulus(self, x: Symbol) -> Symbol:
        return self.op("sqrt", self.op("mul", x, x))

    def _direction(self, x: Symbol) -> Symbol:
        """x at a distance of 1 from 0; 0 where it is 0."""
        zero, one = (self.add(Node("scalar", (), Kind.TENSOR, 0, name)) for name in ("zero", "one"))
        size = self._modulus(x)
        away = self.op("gt", size, zero)
        return self.op("where", away, self.op("div", x, self.op("where", away, size, one)), x)

    def _node(self, op: str, arg: Any) -> Node:
        if not isinstance(arg, Symbol):
            raise TypeError(
                f"A formula's `{op}` was given the literal {arg!r}: literals belong in `coefficients`, where they are "
                "float64 and do not change the type of the arithmetic. Name it there and take it as an argument."
            )
        return self.nodes[arg.index]

    def _reduce(self, op: str, x: Symbol, kind: Kind, axis: int | None = None) -> Symbol:
        node = self._node(op, x)
        return self.add(Node(op, (x.index,), kind, node.level + (node.kind is Kind.FULL), static=axis))

    def mean(self, x: Symbol, axis: int | None = None) -> Symbol:
        """The mean over the tensor, over its columns (axis=-1: one for each row) or over its rows (axis=-2); axes are
        kept. Which two axes of the array these are is the rule's `axes`.
        """
        if axis is None:
            return self._reduce("mean", x, Kind.TENSOR)
        axis = self.axes[axis]
        whole = self._node("mean", x).kind is Kind.FULL
        return self._reduce("mean", x, Kind.without(axis, self.axes) if whole else Kind.BATCH, axis)

    def norm(self, x: Symbol) -> Symbol:
        """The Euclidean norm of the tensor."""
        return self.op("sqrt", self._reduce("sum", self.op("mul", x, x), Kind.TENSOR))

    def total(self, x: Symbol) -> Symbol:
        """The sum over all elements of all parameters."""
        return self._reduce("total", x, Kind.MODEL)

    def matrix(self, function: Callable[..., Any], x: Symbol, *scalars: Symbol, **options: Any) -> Symbol:
        """`function(xp, x, *scalars, **options)` of whole matrices, written in the waist with matmul and transpose.
        Which axes are the matrix's, where the last two are not all, the option `matrix` says: the rule's `view`.
        """
        level = max(self._node("matrix", a).level for a in (x, *scalars)) + 1
        options |= {} if self.view is None else {"matrix": self.view}
        static = (function, tuple(sorted(options.items())))
        return self.add(Node("matrix", tuple(a.index for a in (x, *scalars)), Kind.FULL, level, static=static))


class _Scalars(dict[str, Symbol]):
    """Coefficients as symbols, made when the formula asks for them, so that unused ones are never passed."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __missing__(self, name: str) -> Symbol:
        return self._recorder.add(Node("scalar", (), Kind.TENSOR, 0, name))


_lock = threading.RLock()


@functools.lru_cache(maxsize=4096)
def _record(
    variant: tuple[Any, ...],
    slots: tuple[Slot, ...],
    axes: Axes,
    view: Matrix | None,
    scaled: bool,
    moduli: bool,
    holder: _Held,
) -> Program:
    xp = Recorder(axes, view, moduli)
    p, g = (xp.add(Node("input", (), Kind.FULL, 0, name)) for name in ("p", "g"))
    symbols = {s.name: xp.add(Node("input", (), s.kind, 0, s.name)) for s in slots}
    scalars = _Scalars(xp)
    new, remembered = holder.rule.apply(xp, p, xp.op("mul", scalars[SCALE], g) if scaled else g, symbols, scalars)
    if set(remembered) != set(symbols):
        raise TypeError(
            f"`{holder.rule.name}.update` must return a new value for each of its slots: {sorted(symbols)}."
        )
    outputs = {"p": new.index} | {s.name: remembered[s.name].index for s in slots}
    node = xp.nodes[new.index]
    step = Symbol(xp, node.args[1]) if node.op == "sub" and node.args[0] == p.index else None
    outputs["delta"] = (-step if step is not None else new - p).index
    return Program(tuple(xp.nodes), slots, outputs, holder.rule.name, axes)


class _Held:
    """Carries the rule past the cache's key: the variant is the key, the rule only an example of it."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held)

    def __hash__(self) -> int:
        return 0


def record(rule: Rule, leaf: Leaf, scaled: bool = False, call: str = "") -> Program:
    """The program of a rule for parameters like this leaf; remembered for each variant. A scaled one multiplies the
    gradient, as it is read, by the coefficient `SCALE`: clipping and loss scaling without a pass of their own. What the
    rule cannot step is refused here, before anything moves; `call` is what the user typed.
    """
    if requirement := rule.refuses(leaf):
        dtype = f"{'complex numbers of ' * leaf.complex}{leaf.dtype}"
        raise bad_value(call or type(rule).__name__, "", requirement, dtype)
    holder = _Held(rule)
    try:
        with _lock:  # two threads would record two programs, and the leaves of one call would be of two kinds
            moduli = leaf.complex and bool(rule.moduli)
            return _record(rule.variant(), rule.slots(leaf), rule.axes(leaf), rule.view(leaf), scaled, moduli, holder)
    finally:
        del holder.rule  # the cache keeps its keys, and what is traced must not outlive its trace


#: Parameters of every number of axes, long enough for a rule that looks at lengths.
EXAMPLES = tuple(Leaf((256,) * axes) for axes in range(5))


def needs_whole(rule: Rule) -> bool:
    """Whether a rule steps a flat piece of several parameters otherwise than these parameters: it looks at shapes, or
    sums over a tensor or the model.
    """
    return rule.by_leaf or any(n.reduces for leaf in EXAMPLES for n in record(rule.route(leaf), leaf).nodes)

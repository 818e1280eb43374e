"""The `xp` of a formula while it is recorded: symbols in place of arrays, and the list of operations that they make."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Never

from ..errors import ArgumentTypeError, ArgumentValueError, did_you_mean
from ..matrix import Axes, Axis, Matrix, in_order
from ..ops import ELEMENTWISE, Array, Scalar
from ..slots import LAST, Extent
from .node import Node, expression
from .refusals import METHODS, UnknownOperation, instead_of, refused, shown

_COMPARISONS = ("gt", "ge", "lt", "le")


class Symbol:
    """Stands for an array while a formula is recorded."""

    __slots__ = ("_recorder", "index")

    def __init__(self, recorder: Recorder, index: int) -> None:
        self._recorder = recorder
        self.index = index

    def __repr__(self) -> str:
        return expression(self._recorder.nodes, self.index, {})[0]

    def __neg__(self) -> Symbol:
        return self._recorder.op("neg", self)

    def __getattr__(self, name: str) -> Never:
        if name.startswith("__"):
            raise AttributeError(name)
        raise refused(self._recorder.formula, f"uses `.{name}` of an array", kind=UnknownOperation)

    __hash__ = object.__hash__


def _binary(op: str, swapped: bool = False) -> Callable[[Symbol, Symbol], Symbol]:
    return lambda a, b: a._recorder.op(op, *((b, a) if swapped else (a, b)))


def _refusing(fault: str, instead: str = "", kind: type[Exception] = ArgumentTypeError) -> Callable[..., Never]:
    """A method of arrays that no formula may use. Other libraries' functions say which they are."""

    def method(self: Symbol, function: object = None, *_: object, **__: object) -> Never:
        name = getattr(function, "__name__", "")
        called = f"{fault}, `{name}`" if name else fault
        raise refused(self._recorder.formula, called, instead or instead_of(name), kind=kind)

    return method


for _name, _op in {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div"}.items():
    setattr(Symbol, f"__{_name}__", _binary(_op))
    setattr(Symbol, f"__r{_name}__", _binary(_op, swapped=True))
for _name in _COMPARISONS:
    setattr(Symbol, f"__{_name}__", _binary(_name))
for _names, _fault, _instead in METHODS:
    for _name in _names.split():
        setattr(Symbol, f"__{_name}__", _refusing(_fault, _instead))
# jax refuses what has this method before it calls it, and torch warns of one: so both are attributes. A TypeError would
# be one of jax's own to its caller.
_of_jax = _refusing("calls a function of jax", kind=ArgumentValueError)
Symbol.__jax_array__ = property(_of_jax)  # type: ignore[attr-defined]
_of_torch = _refusing("calls a function of torch")
Symbol.__torch_function__ = property(lambda x: functools.partial(_of_torch, x))  # type: ignore[attr-defined]


class Recorder:
    """The `xp` of a formula while it is recorded. Equal operations on equal arguments become one node.

    Under `moduli` an array times itself, its absolute value and its sign are recorded as those of its modulus, so that
    a formula for real numbers is one for complex numbers as well.
    """

    #: What is recorded at the moment, for errors: `Lion.update`.
    formula = "update"
    #: Coefficients by name, with their values at step 1.
    values: Mapping[str, Scalar] = MappingProxyType({})

    def __init__(self, axes: Axes = LAST, view: Matrix | None = None, moduli: bool = False) -> None:
        self.axes, self.view, self.moduli = axes, view, moduli
        #: The pairs of axes along which means were taken, the one that lies first, first.
        self.looked: dict[Axes, None] = {}
        self.nodes: list[Node] = []
        self._known: dict[Node, int] = {}
        for name in ELEMENTWISE:
            setattr(self, name, functools.partial(self.op, name))

    def __getattr__(self, name: str) -> Callable[..., Symbol]:
        raise refused(self.formula, f"uses `xp.{name}`", instead_of(name), kind=UnknownOperation)

    def returned(self, result: object, slots: Sequence[str]) -> list[Array]:
        """The values that a formula has returned: the first one, then one for each slot."""
        values = list(result) if isinstance(result, tuple) else [result]
        if len(values) != len(slots) + 1 or not isinstance(values[0], Symbol):
            first = "new parameter" if self.formula.endswith(".wrap") else "step"
            raise TypeError(
                f"`{self.formula}` must return the {first}, then a new value for each slot: "
                f"{', '.join(slots) + ', as one tuple' if slots else 'it has none'}. Received: {shown(result)}."
            )
        return values

    def put(self, node: Node) -> Symbol:
        """The symbol of a node, which is made if there is no equal one."""
        index = self._known.setdefault(node, len(self.nodes))
        if index == len(self.nodes):
            self.nodes.append(node)
        return Symbol(self, index)

    def op(self, op: str, *args: Symbol) -> Symbol:
        """An elementwise operation."""
        nodes = [self._node(op, a) for a in args]
        if self.moduli and nodes[0].extent > Extent.TENSOR:
            if op == "mul" and args[0].index == args[1].index:
                return self.put(Node("square", (args[0].index,), nodes[0].extent, nodes[0].level))
            if op in ("abs", "sign"):
                return self._modulus(*args) if op == "abs" else self._direction(*args)
        whole = {n.extent for n in nodes if n.extent > Extent.TENSOR}
        if Extent.SIDE in whole or (Extent.LOW in whole and len(whole) > 1):
            kind = "the matrix of a side" if Extent.SIDE in whole else "a projection and what is none"
            raise refused(self.formula, f"has {kind} in `{op}`", "Write a function of matrices for `xp.matrix`.")
        extent = functools.reduce(Extent.join, (n.extent for n in nodes))
        return self.put(Node(op, tuple(a.index for a in args), extent, max(n.level for n in nodes)))

    def _modulus(self, x: Symbol) -> Symbol:
        return self.op("sqrt", self.op("mul", x, x))

    def _direction(self, x: Symbol) -> Symbol:
        """x at a distance of 1 from 0; 0 where it is 0."""
        zero, one = (self.put(Node("scalar", (), Extent.TENSOR, 0, name)) for name in ("zero", "one"))
        size = self._modulus(x)
        away = self.op("gt", size, zero)
        return self.op("where", away, self.op("div", x, self.op("where", away, size, one)), x)

    def _node(self, op: str, arg: object) -> Node:
        if not isinstance(arg, Symbol):
            raise self._literal(op, arg)
        return self.nodes[arg.index]

    def _literal(self, op: str, value: object) -> Exception:
        """The error for a number in a formula: what it may be meant to be, and how that is written."""
        known = {k: v for k, v in self.values.items() if type(v) is float and isinstance(value, numbers.Real)}
        named = [f"`{name}`" for name, other in known.items() if other == value]
        named = named[:1] if named[:1] in (["`zero`"], ["`one`"]) else named
        compared = " A formula cannot branch on an array: write `xp.where(g > zero, a, b)`." * (op in _COMPARISONS)
        fault = f"has a literal. A formula's `{op}` was given the literal {shown(value)}: literals belong in "
        fault += "`coefficients`, where they are float64 and do not change the type of the arithmetic"
        advice = f"Take {' or '.join(named)}, which has this value," if named else "Name it there and take it"
        instead = f"{advice} after the `/` of the signature."
        return refused(self.formula, fault, instead + compared)

    def _reduce(self, op: str, x: Symbol, extent: Extent, axis: Axis | None = None) -> Symbol:
        node = self._node(op, x)
        return self.put(Node(op, (x.index,), extent, node.level + (node.extent is Extent.FULL), static=axis))

    def mean(self, x: Symbol, axis: int | None = None, axes: Axes | None = None) -> Symbol:
        """The mean over the tensor, over its columns (axis=-1: one for each row) or over its rows (axis=-2); axes are
        kept. Which two axes of the array these are is the rule's `axes`, if not other ones are said.
        """
        if axis is None:
            return self._reduce("mean", x, Extent.TENSOR)
        if axis not in (-1, -2):
            raise refused(self.formula, f"takes a mean over the axis {axis}", "An axis is -1, -2 or None, for all.")
        axes = axes or self.axes
        self.looked[in_order(axes)] = None
        whole = self._node("mean", x).extent is Extent.FULL
        return self._reduce("mean", x, Extent.without(axes[axis], axes) if whole else Extent.BATCH, axes[axis])

    def norm(self, x: Symbol) -> Symbol:
        """The Euclidean norm of the tensor."""
        return self.op("sqrt", self._reduce("sum", self.op("mul", x, x), Extent.TENSOR))

    def total(self, x: Symbol) -> Symbol:
        """The sum over all elements of all parameters."""
        return self._reduce("total", x, Extent.MODEL)

    def matrix(self, function: Callable[..., Array], x: Symbol, *others: Symbol, **options: object) -> Symbol:
        """`function(xp, x, *others, **options)` of whole matrices, squares and numbers, written in these operations and
        those that `Ops` has for matrices. Its result is of the extent of x. Which axes are the matrix's, where the last
        two are not all, the option `matrix` says: the rule's `view`.
        """
        nodes = [self._node("matrix", a) for a in (x, *others)]
        options |= {} if self.view is None else {"matrix": self.view}
        static, level = (function, tuple(sorted(options.items()))), max(n.level for n in nodes) + 1
        return self.put(Node("matrix", tuple(a.index for a in (x, *others)), nodes[0].extent, level, static=static))


class Coefficients(dict[str, Symbol]):
    """Coefficients as symbols, made when the formula asks for them, so that unused ones are never passed."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __missing__(self, name: str) -> Symbol:
        known, formula = self._recorder.values, self._recorder.formula
        if name not in known:
            raise refused(
                formula,
                f"takes a coefficient `{name}`, which `coefficients` does not return",
                f"{did_you_mean(name, known)} A slot would stand before the `/`. There are: {', '.join(known)}.",
                closed_list=False,
            )
        if not isinstance(known[name], numbers.Real):
            fault = f"takes a coefficient `{name}`, which must be a number. Received: {shown(known[name])}"
            raise refused(formula, fault, closed_list=False)
        return self._recorder.put(Node("scalar", (), Extent.TENSOR, 0, name))

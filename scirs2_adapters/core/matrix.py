"""Which axes of a parameter make it a matrix: a convolution's kernel is one of as many rows as it has outputs, a stack
of experts' weights is a batch of them.

Axes are counted from the end, so that one of these serves all parameters of as many axes. Those that are neither inputs
nor outputs are a batch: each of its matrices stands for itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from .fields import Field, choice
from .ops import Array

#: How a framework lays its kernels: [outputs, inputs, ...] as torch does, or [..., inputs, outputs] as Keras and Flax.
OUTPUTS_FIRST, INPUTS_FIRST = "outputs_first", "inputs_first"
LAYOUT: Field = choice(OUTPUTS_FIRST, "how kernels lie", OUTPUTS_FIRST, INPUTS_FIRST)
#: An axis, counted from the end, or several that are a side of a matrix; and the two that rows and columns are of.
Axis = int | tuple[int, ...]
Axes = tuple[Axis, Axis]
#: How many arrays as large as the tensor a function of matrices holds at a time, besides its arguments and its result.
COPIES: dict[Callable[..., Array], int] = {}
#: Functions of one matrix that, told its axes by `matrix`, take a stack of such matrices as well, whatever their sides.
STACKING: set[Callable[..., Array]] = set()


def last_of(axis: Axis) -> int:
    """The one that lies last."""
    return axis if isinstance(axis, int) else max(axis)


def in_order(axes: Axes) -> Axes:
    """The one of the two that lies first, first."""
    first, second = sorted(axes, key=last_of)
    return first, second


def each(*axes: Axis) -> tuple[int, ...]:
    """One after another."""
    return tuple(a for axis in axes for a in ((axis,) if isinstance(axis, int) else axis))


def lie_so(axes: Axes) -> bool:
    """Whether memory holds row after row of them, with nothing to rearrange."""
    flat = each(*in_order(axes))
    return flat == tuple(range(-len(flat), 0))


def matrices(axes: Axes, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape as that of a batch of matrices with these axes, which memory holds row after row."""
    first, second = (math.prod(shape[a] for a in each(axis)) for axis in in_order(axes))
    return (*shape[: len(shape) - len(each(*axes))], first, second)


class Matrix(NamedTuple):
    """The axes of inputs and those of outputs. Without any, the parameter is no matrix. With `parts` it is so many
    matrices, each of an equal part of the outputs, as fused layers are. With a `rank` its `projected` side, -2 for the
    one that lies first and -1 for the other, is projected onto so many directions; with a `share`, of the shorter side,
    onto such a part of its length, rounded up.
    """

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    parts: int = 1
    rank: int = 0
    projected: int = 0
    share: float = 0.0

    def sides(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """How many inputs and how many outputs."""
        return math.prod(shape[a] for a in self.inputs), math.prod(shape[a] for a in self.outputs) // self.parts

    def told(self, shape: tuple[int, ...]) -> str:
        """The matrix in words."""
        inputs, outputs = self.sides(shape)
        many = math.prod(shape) // max(1, inputs * outputs)
        alone = len(self.inputs) + len(self.outputs) == len(shape) and self.parts == 1
        which = "a matrix" if alone else f"{many} matrices"
        onto = f", projected onto {self.directions(shape)} directions" if self.projected else ""
        return f"as {which} of {inputs} inputs and {outputs} outputs{onto}"

    def directions(self, shape: tuple[int, ...]) -> int:
        """Onto how many directions its side is projected."""
        return math.ceil(self.share * min(self.sides(shape))) if self.share else self.rank

    @property
    def lines(self) -> Axes:
        """The axes along which its rows and its columns are, as a formula's means take them."""
        first, second = (side[0] if len(side) == 1 else side for side in sorted((self.inputs, self.outputs)))
        return first, second

    @property
    def kept(self) -> int:
        """The side that is not projected."""
        return -3 - self.projected

    @property
    def lies_so(self) -> bool:
        """Whether two axes are the matrix as it lies, with nothing to rearrange."""
        return sorted((self.inputs, self.outputs)) == [(-2,), (-1,)] and self.parts == 1

    def flat(self, xp: Array, x: Array) -> Array:
        """A parameter as a matrix or a batch of them; of the two sides the one that lies first comes first."""
        first, second = sorted((self.inputs, self.outputs))
        order = self._order(len(x.shape))
        batch = order[: len(order) - len(first) - len(second)]
        sizes = [math.prod(x.shape[a] for a in axes) for axes in (batch, first, second)]
        flat = xp.reshape(xp.permute(x, order), tuple(sizes if batch or self.parts > 1 else sizes[1:]))
        return self._divided(xp, flat) if self.parts > 1 else flat

    def whole(self, xp: Array, flat: Array, shape: tuple[int, ...]) -> Array:
        """The way back, to a parameter of this shape."""
        order = self._order(len(shape))
        flat = self._joined(xp, flat) if self.parts > 1 else flat
        back = sorted(range(len(order)), key=order.__getitem__)
        return xp.permute(xp.reshape(flat, tuple(shape[a] for a in order)), tuple(back))

    def _divided(self, xp: Array, x: Array) -> Array:
        """A batch of matrices as a longer one of parts of them."""
        count, rows, columns = x.shape
        if self.outputs < self.inputs:  # the rows are outputs: the parts follow each other as they lie
            return xp.reshape(x, (count * self.parts, rows // self.parts, columns))
        apart = xp.permute(xp.reshape(x, (count, rows, self.parts, columns // self.parts)), (0, 2, 1, 3))
        return xp.reshape(apart, (count * self.parts, rows, columns // self.parts))

    def _joined(self, xp: Array, x: Array) -> Array:
        """The way back. Where rows are outputs there is nothing to do."""
        if self.outputs < self.inputs:
            return x
        many, rows, columns = x.shape
        apart = xp.reshape(x, (many // self.parts, self.parts, rows, columns))
        return xp.permute(apart, (0, 2, 1, 3))

    def _order(self, axes: int) -> tuple[int, ...]:
        """All axes, counted from the front: the batch, then the two sides."""
        sides = [a % axes for side in sorted((self.inputs, self.outputs)) for a in side]
        return (*(a for a in range(axes) if a not in sides), *sides)


#: The matrix as it lies, where it does not matter which axis the inputs are.
LAST_AXES = Matrix((-1,), (-2,))

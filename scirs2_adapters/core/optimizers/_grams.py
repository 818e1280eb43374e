"""What rules with Gram matrices of both sides of a parameter share: which sides have one, and what is done with it."""

import math
from collections.abc import Iterable

from ..eigenbases import eigenbasis, gram_power, moved_gram, rebased, turned
from ..fields import choice, count
from ..matrix import INPUTS_FIRST, OUTPUTS_FIRST
from ..ops import Array
from ..rule import Rule
from ..slots import Leaf
from ._muon_fields import MatrixRule

#: The side of a matrix that lies first, and the other.
LEFT, RIGHT = -2, -1


class GramRule(Rule):
    """A rule whose slots may be squares of the two sides of a matrix; vectors have none."""

    max_precond_dim = count(10000, "longest side that has a Gram matrix", static=True)
    layout = choice(None, MatrixRule.fields["layout"].means, OUTPUTS_FIRST, INPUTS_FIRST)
    by_name, batch_axes = "none", 0
    matrix, view = MatrixRule.matrix, MatrixRule.view

    def left(self, leaf: Leaf) -> bool:
        return self._fits(leaf, LEFT)

    def right(self, leaf: Leaf) -> bool:
        return self._fits(leaf, RIGHT)

    def turns(self, leaf: Leaf) -> bool:
        """Whether a matrix multiplies the slot: this may enlarge small numbers, which 8 bits do not resolve."""
        return self.left(leaf) or self.right(leaf)

    def _fits(self, leaf: Leaf, side: int) -> bool:
        if len(leaf.shape) < 2 or not math.prod(leaf.shape):
            return False
        matrix = self.matrix(leaf)
        axes = sorted((matrix.inputs, matrix.outputs))[side]
        return math.prod(leaf.shape[a] for a in axes) <= self.max_precond_dim

    def turned(self, xp: Array, x: Array, left: Array | None, right: Array | None) -> Array:
        """x in the coordinates of the bases that there are."""
        return _turned(xp, x, ((LEFT, left), (RIGHT, right)), back=False)

    def turned_back(self, xp: Array, x: Array, left: Array | None, right: Array | None) -> Array:
        """x back in the coordinates of the parameter."""
        return _turned(xp, x, ((LEFT, left), (RIGHT, right)), back=True)

    def rebased(
        self, xp: Array, x: Array, due: Array, old: tuple[Array | None, Array | None], new: list[Array | None]
    ) -> Array:
        """x in the coordinates of the new bases, from those of the old ones."""
        there = [side for side, basis in zip((LEFT, RIGHT), new, strict=True) if basis is not None]
        bases = [basis for basis in (*old, *new) if basis is not None]
        return xp.matrix(rebased, x, due, *bases, sides=tuple(there)) if there else x

    def moved(self, xp: Array, g: Array, gain: Array, left: Array | None, right: Array | None) -> list[Array | None]:
        """The running means of Gram matrices after this gradient."""
        pairs = (LEFT, left), (RIGHT, right)
        return [mean if mean is None else xp.matrix(moved_gram, mean, g, gain, side=side) for side, mean in pairs]

    def powers(
        self, xp: Array, due: Array, ready: Array, scale: Array, eps: Array, exponent: Array,
        grams: list[Array | None], old: tuple[Array | None, Array | None],
    ) -> list[Array | None]:  # fmt: skip
        """These Gram matrices to a power, if that is due, or ready and not yet there; else the old powers."""
        values = due, ready, scale, eps, exponent
        return [x if x is None else xp.matrix(gram_power, x, gram, *values) for gram, x in zip(grams, old, strict=True)]

    def eigenbases(
        self, xp: Array, g: Array, first: Array, due: Array, gram_left: Array | None, gram_right: Array | None,
        left: Array | None, right: Array | None,
    ) -> list[Array | None]:  # fmt: skip
        """The bases of these Gram matrices."""
        when = first, due
        return [
            _eigenbasis(xp, LEFT, left, gram_left, gram_right, g, when),
            _eigenbasis(xp, RIGHT, right, gram_right, gram_left, g, when),
        ]


def _eigenbasis(
    xp: Array, side: int, basis: Array | None, gram: Array, other: Array | None, g: Array, when: tuple[Array, Array]
) -> Array | None:
    if basis is None:
        return None
    return xp.matrix(eigenbasis, basis, gram, gram if other is None else other, g, *when, side=side)


def _turned(xp: Array, x: Array, sides: Iterable[tuple[int, Array | None]], back: bool) -> Array:
    there = {side: basis for side, basis in sides if basis is not None}
    return xp.matrix(turned, x, *there.values(), sides=tuple(there), back=back) if there else x

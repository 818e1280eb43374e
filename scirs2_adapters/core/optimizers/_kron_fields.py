"""What Kron is asked for of memory, and which factors a parameter has: one for each side, triangular or diagonal."""

import math

from ..fields import choice, count
from ..kronecker import moved_diagonal, moved_factor, preconditioned, ready_factor, whitened, whitened_noise
from ..matrix import INPUTS_FIRST, OUTPUTS_FIRST, Matrix
from ..ops import Array
from ..rule import Rule
from ..slots import Leaf
from ._muon_fields import MatrixRule

#: The side of a matrix that lies first, and the other.
LEFT, RIGHT = -2, -1
#: The slots, of which a side has one: triangular factors of the left side and of the right, and diagonal ones.
FactorSlots = tuple[Array | None, ...]
#: Factors of the sides that have one.
Factors = dict[int, Array]


class KroneckerRule(Rule):
    """A rule with a factor for each side of a matrix; a vector is a matrix of one row, with a factor for the other."""

    max_size_triangular = count(8192, "longest side whose factor is triangular; of a longer one it is diagonal", True)
    min_ndim_triangular = count(2, "fewest axes of a parameter with triangular factors", static=True)
    memory_save_mode = choice(
        None, "which factors are diagonal besides: of the longer side, of the longer side if one is, or all",
        "one_diag", "smart_one_diag", "all_diag",
    )  # fmt: skip
    layout = choice(None, MatrixRule.fields["layout"].means, OUTPUTS_FIRST, INPUTS_FIRST)
    by_name, batch_axes = "none", 0
    matrix = MatrixRule.matrix

    def view(self, leaf: Leaf) -> Matrix:
        return self.matrix(leaf)

    def triangular_left(self, leaf: Leaf) -> bool:
        return LEFT in self._sides(leaf) and self._is_triangular(leaf, LEFT)

    def triangular_right(self, leaf: Leaf) -> bool:
        return RIGHT in self._sides(leaf) and self._is_triangular(leaf, RIGHT)

    def diagonal_left(self, leaf: Leaf) -> bool:
        return LEFT in self._sides(leaf) and not self._is_triangular(leaf, LEFT)

    def diagonal_right(self, leaf: Leaf) -> bool:
        return RIGHT in self._sides(leaf) and not self._is_triangular(leaf, RIGHT)

    @staticmethod
    def _sides(leaf: Leaf) -> tuple[int, ...]:
        """The sides that have a factor."""
        if not math.prod(leaf.shape):
            return ()
        return (LEFT, RIGHT) if len(leaf.shape) > 1 else (RIGHT,)

    def _is_triangular(self, leaf: Leaf, side: int) -> bool:
        matrix = self.matrix(leaf)
        axes = sorted((matrix.inputs, matrix.outputs))
        lengths = [math.prod(leaf.shape[a] for a in of_side) for of_side in axes]
        length, other = lengths[side], lengths[-3 - side]
        is_longer = length > other or (length == other and axes[side] == matrix.inputs)
        saved = {"one_diag": is_longer, "smart_one_diag": length > other, "all_diag": True}
        short = length <= self.max_size_triangular
        return short and len(leaf.shape) >= self.min_ndim_triangular and not saved.get(self.memory_save_mode or "")

    def leaf_coefficients(self, leaf: Leaf) -> dict[str, Array]:
        return {"scale": self.precond_init_scale ** (1 / max(1, len(self._sides(leaf))))}

    @staticmethod
    def ready(xp: Array, slots: FactorSlots, scale: Array, due: Array) -> Factors:
        """The factors that there are, of the left side and of the right."""
        left, right, diagonal_left, diagonal_right = slots
        pairs = (LEFT, diagonal_left if left is None else left), (RIGHT, diagonal_right if right is None else right)
        there = {side: q for side, q in pairs if q is not None}
        others = [(q,) for q in there.values()][::-1] if len(there) > 1 else [()]
        return {
            side: xp.matrix(ready_factor, q, scale, due, *other)
            for (side, q), other in zip(there.items(), others, strict=False)
        }

    @staticmethod
    def learned(
        xp: Array, slots: FactorSlots, factors: Factors, x: Array, due: Array, turn: Array, rate: Array
    ) -> Factors:  # fmt: skip
        """The factors after they have seen x, if that is due."""
        if not factors:
            return factors
        sides, (left, right, *_) = tuple(factors), slots
        a, b = (xp.matrix(f, x, due, turn, *factors.values(), sides=sides) for f in (whitened, whitened_noise))
        moves = {side: moved_diagonal if q is None else moved_factor for side, q in ((LEFT, left), (RIGHT, right))}
        return {side: xp.matrix(moves[side], q, due, rate, a, b, side=side) for side, q in factors.items()}

    @staticmethod
    def preconditioned(xp: Array, x: Array, factors: Factors) -> Array:
        return xp.matrix(preconditioned, x, *factors.values(), sides=tuple(factors)) if factors else x

    @staticmethod
    def kept(slots: FactorSlots, factors: Factors) -> list[Array | None]:
        """The factors in the places of the slots."""
        sides = (LEFT, RIGHT, LEFT, RIGHT)
        return [q if q is None else factors[side] for side, q in zip(sides, slots, strict=True)]

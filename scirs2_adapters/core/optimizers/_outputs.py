"""What looks at a layer output by output: which axes these are, and functions of such matrices."""

import math
from types import SimpleNamespace

from ..fields import choice
from ..matrix import COPIES, INPUTS_FIRST, LAST_AXES, OUTPUTS_FIRST, Matrix
from ..ops import Array
from ..slots import Leaf
from . import _muon_names as names
from ._muon_fields import MatrixRule

LAYOUT = choice(None, MatrixRule.fields["layout"].means, OUTPUTS_FIRST, INPUTS_FIRST)
_BOTH = (-1, -2)


def layer_view(layout: str | None, leaf: Leaf) -> Matrix:
    """The inputs and outputs of a parameter, without inputs if it is a vector. An embedding's outputs are its tokens in
    every framework.
    """
    if leaf.matrix is None and len(leaf.shape) == 2 and names.is_a(names.EMBEDDING, leaf.name):
        return LAST_AXES
    rule = SimpleNamespace(layout=layout, batch_axes=0, by_name="layer")
    return MatrixRule.matrix(rule, leaf)  # type: ignore[arg-type]  # it has all that is asked for


def _inputs(matrix: Matrix) -> int:
    """Which axis of the flat matrix the inputs are."""
    return -1 if matrix.outputs < matrix.inputs else -2


def _sum(xp: Array, x: Array, axes: tuple[int, ...]) -> Array:
    for axis in axes:
        x = xp.sum(x, axis)
    return x


def projected(
    xp: Array, u: Array, p: Array, g: Array, decay: Array, delta: Array, wd_ratio: Array, eps: Array, *, matrix: Matrix
) -> Array:
    """AdamP's step, with decay in it: u without what is along the parameter, where the gradient is not along it."""
    step, shape = u + decay * p, tuple(u.shape)
    if not matrix.inputs:
        return step
    step, u, p, g = (matrix.flat(xp, x) for x in (step, u, p, g))
    for axes in (_BOTH, (_inputs(matrix),)):  # the layer as a whole, unless each output is so
        p_norm, g_norm = (xp.sqrt(xp.maximum(_sum(xp, x * x, axes), eps * eps)) for x in (p, g))
        cosine = xp.abs(_sum(xp, p * g, axes)) / (p_norm * g_norm)
        bound = delta / math.sqrt(max(1, math.prod(p.shape[axis] for axis in axes)))
        none = cosine * 0.0
        met = _sum(xp, xp.where(cosine < bound, none, none + 1.0), _BOTH) <= 0.0  # where all are; NaN is not
        unit = p / (p_norm + eps)
        step = xp.where(met, u - unit * _sum(xp, unit * u, axes) + wd_ratio * decay * p, step)
    return matrix.whole(xp, step, shape)


def centered(xp: Array, g: Array, *, matrix: Matrix) -> Array:
    """A gradient less the mean of each output's; of a vector as it is."""
    if not matrix.inputs:
        return g
    flat, axis = matrix.flat(xp, g), _inputs(matrix)
    return matrix.whole(xp, flat - xp.sum(flat, axis) / max(1, flat.shape[axis]), tuple(g.shape))


COPIES |= {projected: 7, centered: 1}

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


def projected(
    xp: Array, u: Array, p: Array, g: Array, decay: Array, delta: Array, wd_ratio: Array, eps: Array, *, matrix: Matrix
) -> Array:
    """AdamP's step, with decay in it: u without what is along the parameter, where the gradient is not along it.

    Everything but the last line goes by four sums for each output.
    """
    if not matrix.inputs:
        return u + decay * p
    shape, inputs = tuple(u.shape), _inputs(matrix)
    u, p, g = (matrix.flat(xp, x) for x in (u, p, g))
    by_output = [xp.sum(a * b, inputs) for a, b in ((p, p), (g, g), (p, g), (p, u))]
    by_layer = [xp.sum(x, -1 if inputs == -2 else -2) for x in by_output]
    factor = by_output[0] * 0.0 + decay  # of p in the step
    size = math.prod(p.shape[axis] for axis in _BOTH)
    for (pp, gg, pg, pu), count in ((by_layer, size), (by_output, p.shape[inputs])):
        p_norm, g_norm = (xp.sqrt(xp.maximum(x, eps * eps)) for x in (pp, gg))
        none = pg * 0.0
        small = xp.abs(pg) / (p_norm * g_norm) < delta / math.sqrt(max(1, count))
        met = xp.sum(xp.sum(xp.where(small, none, none + 1.0), -1), -2) <= 0.0  # where all are; NaN is not
        length = p_norm + eps
        factor = xp.where(met, wd_ratio * decay - pu / length / length, factor)
    return matrix.whole(xp, u + factor * p, shape)


def centered(xp: Array, g: Array, *, matrix: Matrix) -> Array:
    """A gradient less the mean of each output's; of a vector as it is."""
    if not matrix.inputs:
        return g
    flat, axis = matrix.flat(xp, g), _inputs(matrix)
    return matrix.whole(xp, flat - xp.sum(flat, axis) / max(1, flat.shape[axis]), tuple(g.shape))


COPIES |= {projected: 4, centered: 1}

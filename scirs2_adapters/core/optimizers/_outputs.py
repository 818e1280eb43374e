"""What looks at a layer output by output: which axes these are, and functions of such matrices."""

import functools
from collections.abc import Sequence
from types import SimpleNamespace

from ..fields import choice
from ..matrix import COPIES, INPUTS_FIRST, LAST_AXES, OUTPUTS_FIRST, Matrix
from ..ops import Array
from ..slots import Leaf
from . import _muon_names as names
from ._muon_fields import MatrixRule

LAYOUT = choice(None, MatrixRule.fields["layout"].means, OUTPUTS_FIRST, INPUTS_FIRST)


@functools.lru_cache(maxsize=4096)
def layer_view(layout: str | None, leaf: Leaf) -> Matrix:
    """The inputs and outputs of a parameter, without inputs if it is a vector. An embedding's outputs are its tokens in
    every framework.
    """
    if leaf.matrix is None and len(leaf.shape) == 2 and names.is_a(names.EMBEDDING, leaf.name):
        return LAST_AXES
    rule = SimpleNamespace(layout=layout, batch_axes=0, by_name="layer")
    return MatrixRule.matrix(rule, leaf)  # type: ignore[arg-type]  # it has all that is asked for


def input_axis(view: Matrix) -> int:
    """Which of the two axes of its lines the inputs are."""
    return -1 if view.outputs < view.inputs else -2


def leaf_sizes(view: Matrix, leaf: Leaf) -> tuple[int, int]:
    """How many inputs an output has, and how many numbers a layer; 1 of an empty one, and of a vector."""
    inputs, outputs = view.sides(leaf.shape)
    return max(1, inputs), max(1, inputs * outputs)


def projected(
    xp: Array, u: Array, p: Array, g: Array, decay: Array, wd_ratio: Array, eps: Array, zero: Array, one: Array,
    small: Sequence[tuple[Array, Array]],
) -> Array:  # fmt: skip
    """AdamP's step, with decay in it: u without what is along the parameter, where the gradient is not along it.

    `small` has how many numbers an output has and the cosine below which they are not along, then those of the layer.
    Everything but the last line goes by four sums for each output.
    """
    view, factor = xp.view, decay  # of p in the step
    if not view.inputs:
        return u + decay * p
    axis = input_axis(view)
    by_output = [xp.mean(a * b, axis, view.lines) for a, b in ((p, p), (g, g), (p, g), (p, u))]
    by_layer = [xp.mean(x, -3 - axis, view.lines) for x in by_output]
    for means, (count, least) in zip((by_layer, by_output), small[::-1], strict=True):
        pp, gg, pg, pu = (x * count for x in means)
        p_norm, g_norm = (xp.sqrt(xp.maximum(x, eps * eps)) for x in (pp, gg))
        along = xp.where(xp.abs(pg) / (p_norm * g_norm) < least, zero, one)  # 1 of NaN
        if means is by_output:
            along = xp.mean(along, -3 - axis, view.lines)  # 0 where all are not along
        length = p_norm + eps
        factor = xp.where(along <= zero, wd_ratio * decay - pu / length / length, factor)
    return u + factor * p


def centered(xp: Array, g: Array, along_rows: bool) -> Array:
    """A gradient less the mean of each output's; of a vector as it is. Not `along_rows` but as a function of matrices
    where a base takes means along other axes: a kernel walks over the rows of one pair.
    """
    view = xp.view
    if not view.inputs:
        return g
    if along_rows:
        return g - xp.mean(g, input_axis(view), view.lines)
    return xp.matrix(centered_matrix, g)


def centered_matrix(xp: Array, g: Array, *, matrix: Matrix) -> Array:
    """A gradient less the mean of each output's."""
    flat, axis = matrix.flat(xp, g), input_axis(matrix)
    return matrix.whole(xp, flat - xp.sum(flat, axis) / max(1, flat.shape[axis]), tuple(g.shape))


COPIES |= {centered_matrix: 1}

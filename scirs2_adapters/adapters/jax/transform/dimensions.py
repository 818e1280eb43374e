"""Dimension numbers in optax's own form: a `MuonDimensionNumbers` for all leaves, a tree of them or a part of one, or a
function that makes it. A leaf with None is no matrix; where nothing is said, the rule looks at shapes and names.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
from optax import contrib

from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.matrix import Matrix

from ..ops import Path, Tree

#: By the path of a leaf.
Matrices = Mapping[str, Matrix]
ARGUMENT = "muon_weight_dimension_numbers"


def matrices(call: str, dimensions: Tree, params: Tree) -> Matrices:
    """What these dimension numbers make of each leaf."""
    if dimensions is None:
        return {}
    by_path: dict[str, Matrix] = {}
    numbers_of = dimensions(params) if callable(dimensions) and not _is_tree(dimensions) else dimensions

    def fill(path: Path, numbers: Tree, below: Tree) -> None:
        for rest, p in jax.tree_util.tree_flatten_with_path(below)[0]:
            place = jax.tree_util.keystr((*path, *rest))
            by_path[place] = _matrix(call, f"{ARGUMENT}{place}", numbers, len(p.shape))

    try:
        jax.tree_util.tree_map_with_path(fill, numbers_of, params, is_leaf=lambda x: x is None or _is_one(x))
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        requirement = "must be optax's MuonDimensionNumbers, or a tree of them that has the form of the parameters"
        raise bad_value(call, ARGUMENT, requirement, numbers_of) from error
    return by_path


def _is_one(x: object) -> bool:
    return isinstance(x, contrib.MuonDimensionNumbers)


def _matrix(call: str, argument: str, numbers: Tree, count: int) -> Matrix:
    """The matrix of a parameter of so many axes, counted from the end."""
    if numbers is None:
        return Matrix()
    if not _is_one(numbers):
        raise bad_type(call, argument, "must be a MuonDimensionNumbers of optax's, or None", numbers)
    sides = [(x,) if isinstance(x, int) else tuple(x) for x in numbers]
    axes = [a for side in sides for a in side]
    if not all(-count <= a < count for a in axes) or not all(sides):
        raise bad_value(call, argument, f"must name axes of the parameter, which has {count}", numbers)
    inputs, outputs = (tuple(a % count - count for a in side) for side in sides)
    if len({*inputs, *outputs}) < len(axes):
        raise bad_value(call, argument, "must have disjoint axes of inputs and outputs", numbers)
    return Matrix(inputs, outputs)


def _is_tree(x: Tree) -> bool:
    """Whether it says the numbers and is no function that does: a module of Equinox is a tree that can be called."""
    return _is_one(x) or not (isinstance(x, functools.partial) or jax.tree.leaves(x) == [x])

"""What a transformation is told of single leaves: their names, their dimension numbers and which of them decay.

Dimension numbers are in optax's form: a `MuonDimensionNumbers` for all leaves, a tree of them or a part of one, or
a function that makes it. A leaf with None is no matrix; where nothing is said, the rule looks at shapes and names.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from optax import contrib

from scirs2_adapters.adapters._xla.ops import Array, Path, Structure, Tree, is_function
from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.matrix import Matrix

ARGUMENT = "muon_weight_dimension_numbers"
keystr = jax.tree_util.keystr
_is_none = functools.partial(operator.is_, None)


class GradientTree:
    """The form of a tree of gradients, whose `places` have one; where it has None, nothing moves."""

    def __init__(self, grads: Tree) -> None:
        self.structure: Structure
        self.leaves, self.structure = jax.tree.flatten(grads, is_leaf=_is_none)
        self.places = [i for i, g in enumerate(self.leaves) if g is not None]

    def flatten(self, tree: Tree) -> list[Tree]:
        """All leaves of a tree of this form; None stands for a tree of None."""
        return [None] * len(self.leaves) if tree is None else self.structure.flatten_up_to(tree)

    def moving(self, leaves: list[Tree]) -> list[Tree]:
        """Of these, the leaves that have a gradient."""
        return leaves if len(self.places) == len(leaves) else [leaves[i] for i in self.places]

    def merged(self, leaves: list[Tree], new: Sequence[Array | None]) -> Tree:
        """The tree of these leaves with new ones where there are such; `new` has those that have a gradient."""
        for i, x in zip(self.places, new, strict=True):
            if x is not None:
                leaves[i] = x
        return self.structure.unflatten(leaves)


def with_paths(tree: Tree) -> list[tuple[Path, Tree]]:
    """The leaves with their paths, None among them."""
    return jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_none)[0]


def name_of(path: Path) -> str:
    """The name of a leaf: `layers.0.kernel`."""
    return keystr(path, simple=True, separator=".")


def decays(call: str, argument: str, mask: Tree, like: Tree, tree: GradientTree) -> tuple[bool, ...]:
    """Whether each leaf that moves decays: a mask may be a function that makes it, and a prefix of the tree."""
    mask = mask if _is_mask(mask) else mask(like)
    try:
        whole = jax.tree.map(lambda m, below: jax.tree.map(lambda _: m, below, is_leaf=_is_none), mask, like)
        flat = tree.moving(tree.flatten(whole))
    except ValueError as error:
        requirement = "must be a bool, or a tree of them that has the form of the parameters or of their upper part"
        raise bad_value(call, argument, requirement, mask) from error
    for said in flat:
        if is_function(said) or not (isinstance(said, (bool, int)) or hasattr(said, "dtype")):
            raise bad_type(call, argument, "must have True or False for every parameter", said)
    return tuple(map(bool, flat))


def _is_mask(x: Tree) -> bool:
    """Whether it is a mask and not a function that makes one. A tree of bools may be callable, as a module of Equinox
    is that has the form of a model; a function may be a tree, as a `jax.tree_util.Partial` is.
    """
    if not is_function(x):
        return True
    of_bools = any(getattr(leaf, "dtype", type(leaf)) in (bool, np.dtype(bool)) for leaf in jax.tree.leaves(x))
    return of_bools and not isinstance(x, functools.partial)


def matrices(call: str, dimensions: Tree, params: Tree) -> Mapping[str, Matrix]:
    """What these dimension numbers make of each leaf, by its path."""
    if dimensions is None:
        return {}
    by_path: dict[str, Matrix] = {}
    numbers_of = dimensions(params) if callable(dimensions) and not _is_tree(dimensions) else dimensions

    def fill(path: Path, numbers: Tree, below: Tree) -> None:
        for rest, p in jax.tree_util.tree_flatten_with_path(below)[0]:
            place = keystr((*path, *rest))
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

"""Trees of the form of the gradients, as lists of their leaves and back."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import jax

from ..ops import Array, Path, Structure, Tree

_is_none = functools.partial(operator.is_, None)


class GradientTree:
    """The form of a tree of gradients, whose `places` have one; where it has None, nothing moves."""

    def __init__(self, grads: Tree) -> None:
        structure: Structure
        self.leaves, structure = jax.tree.flatten(grads, is_leaf=_is_none)
        self.structure = structure
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


def spread(prefix: Tree, tree: Tree) -> Tree:
    """A tree of the form of `tree` with the values of a prefix of it."""
    return jax.tree.map(lambda value, below: jax.tree.map(lambda _: value, below, is_leaf=_is_none), prefix, tree)

"""Leaves that are stepped together, and what a step of them takes and gives."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from scirs2_adapters.core.formats import companion
from scirs2_adapters.core.program.recorded import Program
from scirs2_adapters.core.rounding import ROUNDING_SEED
from scirs2_adapters.core.slots import Extent

from .ops import Array, Arrays, AxisName, Model, Row

#: The results of each group by name, and the new numbers of the model.
Results = tuple[list[dict[str, list[Array]]], dict[str, Array]]


@dataclass(eq=False)
class LeafGroup:
    """Leaves with one program and the same dtypes. `members` are their places among all leaves, `index` says which row
    of coefficients each of them takes, `emit` what is made of the parameter. `formula` is the program where it is
    traced, without what the coefficients leave out.
    """

    program: Program
    formula: Program
    dtypes: Mapping[str, str]
    compute: str
    axis_name: AxisName
    emit: str
    members: Sequence[int]
    shapes: Sequence[tuple[int, ...]]
    index: Sequence[int]

    @functools.cached_property
    def companions(self) -> dict[str, str]:
        """The names of the arrays that the storage of others needs beside them, by the names of these."""
        return {n: other for n, dtype in self.dtypes.items() if (other := companion(n, dtype))}

    @functools.cached_property
    def stored(self) -> list[str]:
        """What a step returns: the parameter or its change, and every slot that it changes."""
        slots = [s.name for s in self.program.slots if s.extent is not Extent.MODEL]
        return [self.emit, *(n for n in slots if n not in self.program.kept)]

    @functools.cached_property
    def results(self) -> list[str]:
        """The same with their companions, but for a seed, which stays as it is."""
        others = (self.companions.get(n, ROUNDING_SEED) for n in self.stored)
        return [*self.stored, *(n for n in others if n != ROUNDING_SEED)]

    def dtype(self, name: str) -> str:
        """The dtype in which a result is stored; a change has that of the parameter or of the gradient, the wider one,
        as in optax: it is rounded when it is applied, and not before.
        """
        return jnp.promote_types(self.dtypes["p"], self.dtypes["g"]).name if name == "delta" else self.dtypes[name]


class Operands(NamedTuple):
    """What groups are stepped with: the arrays and the rows of coefficients of each, and the numbers of the model."""

    arrays: Sequence[Arrays]
    rows: Sequence[Sequence[Row]]
    model: Model

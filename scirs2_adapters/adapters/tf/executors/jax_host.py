"""The CPU kernel on JAX: a call in the program that Keras has XLA compile around a step. A step outside such a program
is compiled as a program, once for all steps of its kind.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import keras
from keras import ops

from scirs2_adapters.adapters._xla.executors import bind
from scirs2_adapters.adapters._xla.groups import LeafGroup, Operands, Results
from scirs2_adapters.adapters._xla.obstacles import obstacle
from scirs2_adapters.core.cpu.compile import compiler_obstacle
from scirs2_adapters.core.formats import DITHER
from scirs2_adapters.core.program.recorded import Program
from scirs2_adapters.core.step.plan import grouped

from ..ops import Tensor
from ..state import RuleState
from ..state.keras_types import KerasVariable
from .coefficients import as_tensors, rows_of
from .traced import Update


def unavailable() -> str | None:
    """Why no step can be taken by the kernel, or None."""
    return compiler_obstacle()


def obstacles(optimizer: RuleState, updates: Sequence[Update]) -> list[str | None]:
    """For each variable why the kernel cannot step it in the step that is being taken or compiled, or None."""
    del optimizer
    return [_obstacle(update) for update in updates]


def _obstacle(update: Update) -> str | None:
    entry, gradient = update.entry, update.gradient
    if entry.rule.sparse == "rows":
        return "it steps the rows that a gradient has, and leaves the others alone"
    if not isinstance(gradient, jax.Array):
        return f"its gradient is a {type(gradient).__name__}"
    if gradient.shape != entry.leaf.shape:
        return f"its gradient has the shape {gradient.shape}"
    return obstacle(_kind(update).group([entry.leaf.shape], [0]), [], [_arrays(update)])


class Kind(NamedTuple):
    """What variables have in common that are stepped by one kernel."""

    program: Program
    dtypes: tuple[tuple[str, str], ...]
    compute: str

    def group(self, shapes: Sequence[tuple[int, ...]], index: Sequence[int]) -> LeafGroup:
        """Variables of this kind, of these shapes, and the rows of coefficients that they take."""
        members = range(len(shapes))
        names = dict(self.dtypes)
        return LeafGroup(self.program, self.program, names, self.compute, None, "p", members, shapes, index)


def _kind(update: Update) -> Kind:
    entry, dtype = update.entry, keras.backend.standardize_dtype(update.gradient.dtype)
    return Kind(entry.program, tuple({**entry.storages, "g": dtype}.items()), entry.compute)


def _arrays(update: Update) -> dict[str, Tensor]:
    """The arrays of a variable by name, those of its companions with them."""
    variables = {"p": update.variable, **update.entry.slots}
    return {"g": update.gradient} | {n: ops.convert_to_tensor(x) for n, x in variables.items()}


def step(
    optimizer: RuleState, updates: Sequence[Update], learning_rate: Tensor, model: Mapping[str, KerasVariable]
) -> None:
    """Step these variables together, of any programs; `model` are the numbers of the whole model."""
    groups = grouped(as_tensors(optimizer, updates, learning_rate), _kind)
    kinds, arrays, rows = [], [], []
    for kind, members in groups.items():
        of_group, index = rows_of(members)
        kinds.append((kind, tuple(u.entry.leaf.shape for u in members), tuple(index)))
        names = (*kind.program.scalars, DITHER)
        rows.append([{n: row[n] for n in names if n in row} for row in of_group])
        leaves = list(map(_arrays, members))
        arrays.append({n: [leaf[n] for leaf in leaves] for n in leaves[0]})
    numbers = {n: ops.convert_to_tensor(x) for n, x in model.items()}
    run = compiled(type(optimizer).__name__, optimizer.kernel, tuple(kinds))
    results, new = run(Operands(arrays, rows, numbers))
    for members, result in zip(groups.values(), results, strict=True):
        for name, values in result.items():
            for update, value in zip(members, values, strict=True):
                optimizer.assign(update.variable if name == "p" else update.entry.slots[name], value)
    for name, variable in model.items():
        optimizer.assign(variable, new[name])


@functools.lru_cache(maxsize=256)
def compiled(
    call: str, path: str, kinds: tuple[tuple[Kind, tuple[tuple[int, ...], ...], tuple[int, ...]], ...]
) -> Callable[[Operands], Results]:
    """The step of variables of these kinds, shapes and rows; inside a program of the caller's it is a part of that."""
    groups = [kind.group(shapes, index) for kind, shapes, index in kinds]
    return jax.jit(functools.partial(bind, call, path, groups, kernel=True), inline=True)

"""What of a variable a step reads and writes: all of it or, where TensorFlow gives a gradient by rows, those.

Where an element whose gradient is zero keeps its value and memory, and for a rule that steps rows alone, the rows of
the variable and of its slots are gathered, stepped as a small variable and put back, in time and memory of these rows.
Where the variable alone would keep its value, as with RMSprop, whose means decay everywhere, all is computed and only
the rows of the variable are written. Both are known from the recorded formula. Weight decay moves every row.
"""

from __future__ import annotations

from typing import NamedTuple

from keras import ops

from scirs2_adapters.core.formats import companion
from scirs2_adapters.core.program.zero_gradient import kept_by_zero_gradient, zero_gradient_is_noop
from scirs2_adapters.core.rounding import ROUNDING_ERROR

from ..gradients import dense, is_slices, row_sums
from ..ops import Tensor, detached
from ..state import RuleState, VariableEntry, raw
from ..state.keras_types import KerasVariable


class Part(NamedTuple):
    """What a step reads and writes of one variable. `gradient` is of what is read.

    `rows` are the indices of the rows that are written, None for all; a row that occurs twice is written twice, with
    the same numbers. `gathered` says whether they alone are read, and written in the slots too.
    """

    gradient: Tensor
    rows: Tensor = None
    gathered: bool = False

    def read(self, variable: KerasVariable) -> Tensor:
        """The numbers of a variable or slot."""
        read = _gather(raw(variable), self.rows) if self.gathered else ops.convert_to_tensor(variable)
        return detached(read)

    def write(self, optimizer: RuleState, name: str, variable: KerasVariable, value: Tensor) -> None:
        """Assign the new numbers of a variable, whose name is "p", or slot."""
        if self.rows is not None and (self.gathered or name == "p"):
            import tensorflow

            value = value if self.gathered else _gather(value, self.rows)
            value = tensorflow.IndexedSlices(value, self.rows)
        optimizer.assign(variable, value)


def part_of(optimizer: RuleState, entry: VariableEntry, gradient: Tensor) -> Part:
    """What this gradient lets a step leave out."""
    if not is_slices(gradient):
        return Part(dense(gradient, entry))
    decays = optimizer.weight_decay and optimizer._use_weight_decay(entry.variable)
    kept = frozenset() if decays else kept_by_zero_gradient(entry.program)
    alone = entry.rule.sparse == "rows" or (not decays and zero_gradient_is_noop(entry.program))
    if alone and _by_element(entry):
        return Part(row_sums(gradient, entry.compute), gradient.indices, gathered=True)
    by_rows = "p" in kept and companion("p", entry.storages["p"]) is None
    return Part(dense(gradient, entry), gradient.indices if by_rows else None)


def _by_element(entry: VariableEntry) -> bool:
    """Whether each number is stored by itself and there already. Codes change along with their block, and the bits of
    stochastic rounding go by the place in the whole.
    """
    companions = {companion(name, storage) for name, storage in entry.storages.items()}
    return not entry.late and companions <= {None, ROUNDING_ERROR}


def _gather(x: Tensor, indices: Tensor) -> Tensor:
    import tensorflow

    return tensorflow.gather(x, indices)

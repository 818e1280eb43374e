"""The CPU kernel on torch: it steps variables in place, where they are in memory, and no torch operator runs for any.

What is known of some variables is kept as a `Plan` for the steps that follow. It holds variables, which the optimizer
does too, and no tensor: a variable can get another tensor, and a tensor other memory. So every step looks at what the
tensors are and where they are.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import torch
from keras import ops
from keras.src.backend.common.stateless_scope import in_stateless_scope
from torch import Tensor
from torch.autograd.graph import increment_version

from scirs2_adapters.core.cpu import engine
from scirs2_adapters.core.cpu.compile import compiler_obstacle
from scirs2_adapters.core.cpu.kernel import kernel_obstacle
from scirs2_adapters.core.step.plan import array_names
from scirs2_adapters.core.step.tables import AddressTables

from ..ops import Tensor as AnyTensor
from ..state import RuleState, VariableEntry
from ..state.keras_types import KerasVariable
from .coefficients import as_numbers, examples, read
from .traced import Update

#: Sets of variables whose plans are kept.
PLANS = 8
#: The tensor of a variable. `value` is the same but under scopes of Keras, in which no step is taken here.
_tensor_of = operator.attrgetter("_value")
#: What a tensor may have become at its address, which keeps its dtype; and what another one may be.
_EXTENTS = (Tensor.stride, Tensor.numel)
_FORMS = (*_EXTENTS, type, operator.attrgetter("dtype"), operator.attrgetter("is_cpu"), Tensor.is_neg)


def unavailable() -> str | None:
    """Why no step can be taken by the kernel, or None."""
    return "torch compiles the step" if torch.compiler.is_compiling() else compiler_obstacle()


def obstacles(optimizer: RuleState, updates: Sequence[Update]) -> list[str | None]:
    """For each variable why the kernel cannot step it now, or None."""
    reason = "the step is a function of values and changes no variable" if in_stateless_scope() else None
    holders = Counter(_address(_tensor_of(update.variable)) for update in updates)
    return [reason or _obstacle(update, holders) for update in updates]


def _obstacle(update: Update, holders: Mapping[int, int]) -> str | None:
    entry = update.entry
    if entry.rule.sparse == "rows":
        return "it steps the rows that a gradient has, and leaves the others alone"
    for variable in (update.variable, *entry.slots.values()):
        if reason := _variable_obstacle(variable):
            return reason
    if holders[_address(_tensor_of(update.variable))] > 1 and 0 not in entry.leaf.shape:
        return f"the memory of {update.variable.name} is another variable's, too"
    gradient = _as_tensor(update.gradient)
    if reason := _tensor_obstacle("its gradient", gradient):
        return reason
    if gradient.shape != entry.leaf.shape:
        return f"its gradient has the shape {tuple(gradient.shape)}"
    return entry.program.kernel_obstacle or kernel_obstacle(_dtypes(update, gradient))


def _variable_obstacle(variable: KerasVariable) -> str | None:
    x, name = _tensor_of(variable), variable.name
    if reason := _tensor_obstacle(name, x):
        return reason
    if x.shape != tuple(variable.shape) or keras.backend.standardize_dtype(x.dtype) != variable.dtype:
        return f"{name} has another form than its tensor, {x.dtype} of shape {tuple(x.shape)}"
    return None if x.is_contiguous() and not x.is_neg() else f"the memory of {name} is not contiguous"


def _tensor_obstacle(name: str, x: Tensor) -> str | None:
    """Why a tensor has no memory that the kernel could be told of, or None."""
    if not isinstance(x, Tensor) or type(x).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return f"{name} is a {type(x).__name__}, which computes in its own way"
    if x.device.type != "cpu" or x.layout is not torch.strided:
        return f"{name} is on {x.device} in layout {x.layout}"
    return f"{name} has no memory" if x.numel() and not _address(x) else None


def _address(x: Tensor) -> int:
    """Where a tensor's memory begins; 0 where it has none."""
    try:
        return Tensor.data_ptr(x)
    except (TypeError, RuntimeError):
        return 0


def _dtypes(update: Update, gradient: Tensor) -> dict[str, str]:
    return {**update.entry.storages, "g": keras.backend.standardize_dtype(gradient.dtype)}


def _as_tensor(gradient: AnyTensor) -> Tensor:
    return gradient if isinstance(gradient, Tensor) else ops.convert_to_tensor(gradient)


def step(
    optimizer: RuleState, updates: Sequence[Update], learning_rate: AnyTensor, model: Mapping[str, KerasVariable]
) -> None:
    """Step these variables, for which there is no obstacle."""
    memory = optimizer.slots
    assert memory is not None
    gradients = [_as_tensor(update.gradient) for update in updates]
    plan = Plan(optimizer, updates, gradients, model)
    plans = memory.again = memory.again if isinstance(memory.again, Plans) else Plans()
    plans.keep([update.variable for update in updates], plan)
    plan.run(optimizer, gradients, learning_rate)


class Plans:
    """The plans of an optimizer, by the ids of their variables, which it keeps alive."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], Plan] = {}

    def keep(self, variables: Sequence[KerasVariable], plan: Plan) -> None:
        """Keep the plan of these variables."""
        if len(self._kept) >= PLANS:
            self._kept.clear()
        self._kept[tuple(map(id, variables))] = plan

    def __call__(
        self, optimizer: RuleState, pairs: Sequence[tuple[AnyTensor, KerasVariable]], learning_rate: AnyTensor
    ) -> bool:
        """Take a step by the plan of an earlier one, if all its assumptions still hold."""
        if torch.compiler.is_compiling() or in_stateless_scope() or optimizer.kernel == "traced":
            return False
        gradients, variables = zip(*pairs, strict=True)
        plan = self._kept.get(tuple(map(id, variables)))
        if plan is None or not plan.holds(optimizer, gradients):
            return False
        plan.run(optimizer, gradients, learning_rate)
        return True


class Plan:
    """How some variables are stepped together."""

    def __init__(
        self,
        optimizer: RuleState,
        updates: Sequence[Update],
        gradients: Sequence[Tensor],
        model: Mapping[str, KerasVariable],
    ) -> None:
        entries, self.model = [update.entry for update in updates], model
        self.exclusions = optimizer._exclusions
        self.examples, row_of = examples(optimizer, entries)
        programs = [(entry.program, entry.leaf.shape) for entry in entries]
        dtypes = map(_dtypes, updates, gradients)
        self.tables = AddressTables(engine, [(*pair, names) for pair, names in zip(programs, dtypes, strict=True)])
        self.tables.assign(row_of)
        arrays = [[update.variable, *_slots(update.entry)] for update in updates]
        for table, places in zip(self.tables.tables, self.tables.places, strict=True):
            table[:, [0, *range(2, table.shape[1])]] = [list(map(_address, map(_tensor_of, arrays[i]))) for i in places]
        self.variables = [variable for row in arrays for variable in row]
        tensors = list(map(_tensor_of, self.variables))
        self.addresses, self.extents = list(map(_address, tensors)), _seen(_EXTENTS, tensors)
        self.forms = _seen(_FORMS, gradients)

    def holds(self, optimizer: RuleState, gradients: Sequence[AnyTensor]) -> bool:
        """Whether every variable is what and where it was; gradients may be new ones of the same form."""
        tensors = list(map(_tensor_of, self.variables))
        try:
            return (
                optimizer._exclusions is self.exclusions
                and list(map(Tensor.data_ptr, tensors)) == self.addresses
                and _seen(_EXTENTS, tensors) == self.extents
                and _seen(_FORMS, gradients) == self.forms
            )
        except (TypeError, RuntimeError):  # no tensor, or a sparse one
            return False

    def run(self, optimizer: RuleState, gradients: Sequence[Tensor], learning_rate: AnyTensor) -> None:
        """Take the step."""
        if not all(map(Tensor.is_contiguous, gradients)) or any(map(Tensor.is_neg, gradients)):
            gradients = [x.resolve_neg().contiguous() for x in gradients]
        addresses = np.array(list(map(Tensor.data_ptr, gradients)), dtype=np.int64)
        for table, places in zip(self.tables.tables, self.tables.places, strict=True):
            table[:, 1] = addresses[places]
        model = {name: read(variable) for name, variable in self.model.items()}
        scalars = as_numbers(optimizer, self.examples, learning_rate)
        new = self.tables.run(scalars, model, torch.get_num_threads())
        increment_version(list(map(_tensor_of, self.variables)))
        for name, number in new.items():
            optimizer.assign(self.model[name], number)


def _slots(entry: VariableEntry) -> list[KerasVariable]:
    """The memory of a variable in the order of a kernel's table."""
    return [entry.slots[name] for name in array_names(entry.program.slots, entry.storages)[2:]]


def _seen(looks: Sequence[Callable[[Tensor], object]], tensors: Sequence[Tensor]) -> list[list[object]]:
    return [list(map(look, tensors)) for look in looks]

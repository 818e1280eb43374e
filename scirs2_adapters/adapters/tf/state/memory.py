"""The memory of an optimizer, as registered Keras variables in an order that never changes.

Keras saves optimizers by position and notices no more than a change of count, so the order is an interface: what the
base class has (iteration, learning rate, averages, accumulators), the numbers shared by the whole model, then for each
variable its slots as the rule lists them. Which rule steps a variable (Muon's matrices, its vectors) is settled here as
well, once: in a step on TensorFlow a variable has lost the name that this depends on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from scirs2_adapters.core.errors import bad_type
from scirs2_adapters.core.matrix import INPUTS_FIRST
from scirs2_adapters.core.program.recorded import Program, record
from scirs2_adapters.core.routing import say
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import EPSILON, Extent, Leaf, Slot
from scirs2_adapters.core.step.options import slot_dtype


@dataclass(frozen=True, eq=False)
class Member:
    """One model variable: what steps it and what is remembered of it.

    `family` is the number of the rule that the variable is routed to, `compute` the dtype of the arithmetic. `late`
    names copies of the variable that its first step makes: TensorFlow may build model and optimizer while it records
    that step, when the variable has no value yet.
    """

    variable: Any
    leaf: Leaf
    family: int
    program: Program
    compute: str
    slots: dict[str, Any]
    late: tuple[str, ...] = ()


class Memory:
    """What an optimizer remembers: `members` in the order of its variables, `model` by name.

    A variable that Keras overwrites with its gradient (float8 scales) has no member.
    """

    def __init__(self, optimizer: Any, variables: Sequence[Any]) -> None:
        rule: Rule = optimizer.rule
        leaves = [None if getattr(v, "overwrite_with_gradient", False) else leaf_of(optimizer, v) for v in variables]
        widest = "float64" if any(leaf and leaf.dtype == "float64" for leaf in leaves) else "float32"
        self.families: list[Rule] = []
        self.model = {s.name: _model_variable(optimizer, rule, s, variables[0], widest) for s in rule.model_slots()}
        self.members: list[Member | None] = []
        for variable, leaf in zip(variables, leaves, strict=True):
            self.members.append(self._member(optimizer, variable, leaf, widest) if leaf else None)
        say(type(optimizer).__name__, self.routed(rule))

    def routed(self, rule: Rule) -> list[tuple[Rule, Leaf]]:
        """Every variable that is stepped, as a rule sees it."""
        return [(rule, member.leaf) for member in self.members if member]

    def _member(self, optimizer: Any, variable: Any, leaf: Leaf, widest: str) -> Member:
        routed = optimizer.rule.route(leaf)
        if routed not in self.families:
            self.families.append(routed)
        own = [s for s in routed.slots(leaf) if s.extent is not Extent.MODEL]
        slots = {s.name: _slot_variable(optimizer, routed, s, variable, leaf) for s in own}
        compute = widest if self.model or leaf.dtype == "float64" else "float32"
        leaf = leaf.holding(slots)
        late = tuple(s.name for s in own if s.initial == "parameter" and not _has_value(variable))
        return Member(variable, leaf, self.families.index(routed), record(routed, leaf), compute, slots, late)

    @property
    def variables(self) -> list[Any]:
        """All of it, in order."""
        return [*self.model.values(), *(v for m in self.members if m for v in m.slots.values())]


def leaf_of(optimizer: Any, variable: Any) -> Leaf:
    """A variable as a rule sees it."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    name = str(getattr(variable, "path", None) or getattr(variable, "name", ""))
    if dtype not in EPSILON:
        raise bad_type(f"{type(optimizer).__name__}.build", name, f"must be of dtype {', '.join(EPSILON)}", dtype)
    return Leaf(tuple(variable.shape), dtype, name, INPUTS_FIRST)


def _model_variable(optimizer: Any, rule: Rule, slot: Slot, first: Any, widest: str) -> Any:
    with _beside(optimizer, first):
        return optimizer.add_variable(
            (), _full_of(slot.initial_value(rule)), slot_dtype(slot, widest, None), name=slot.name
        )


def _full_of(value: Any) -> Callable[..., Any]:
    """An initializer: one number everywhere, in memory of its own. Keras' own constant passes through float32."""

    def initial(shape: Any, dtype: Any = None) -> Any:
        return ops.ones(shape, dtype=dtype) * ops.convert_to_tensor(float(value), dtype=dtype)

    return initial


def _slot_variable(optimizer: Any, rule: Rule, slot: Slot, variable: Any, leaf: Leaf) -> Any:
    shape = slot.shape(leaf.shape)
    initial = "zeros" if slot.initial in (None, "parameter") else _full_of(slot.initial_value(rule))
    with _beside(optimizer, variable):
        return optimizer.add_variable(
            shape,
            _copy_of(variable) if slot.initial == "parameter" and _has_value(variable) else initial,
            slot_dtype(slot, leaf.dtype, optimizer.state_dtype),
            layout=getattr(variable, "_layout", None) if shape == leaf.shape else None,
            name=f"{leaf.name.replace('/', '_').replace(':', '_')}_{slot.name}",
        )


def raw(variable: Any) -> Any:
    """The framework's own variable behind a Keras one."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def _beside(optimizer: Any, variable: Any) -> contextlib.AbstractContextManager[Any]:
    """On TensorFlow a slot lives where its variable does, and is mirrored if it is."""
    strategy = getattr(optimizer, "_distribution_strategy", None)
    return strategy.extended.colocate_vars_with(raw(variable)) if strategy else contextlib.nullcontext()


def _has_value(variable: Any) -> bool:
    """Whether a variable can be read now."""
    if keras.backend.backend() != "tensorflow":
        return True
    with outside_graphs():
        return bool(raw(variable).is_initialized())


def _copy_of(variable: Any) -> Callable[..., Any]:
    """An initializer: the variable as it is now, in memory of its own."""

    def initial(shape: Any, dtype: Any = None) -> Any:
        del shape
        with outside_graphs():
            return ops.copy(ops.cast(ops.stop_gradient(ops.convert_to_tensor(variable)), dtype))

    return initial


def outside_graphs() -> contextlib.AbstractContextManager[Any]:
    """Where values are read now: TensorFlow may build an optimizer while it records a step."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow

    return tensorflow.init_scope()

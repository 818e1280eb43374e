"""The step by the CPU kernel as a part of a TensorFlow graph.

Variables and slots are stepped in place, in memory that their variables take over in the first step, and never while
somebody else holds a tensor of it: a snapshot, a second variable made of the first, a checkpoint being written.
TensorFlow says what a variable holds when it is read, and the memory says how many hold it. So a step reads all
variables, gives each a new tensor of its memory, and looks whether an earlier one is still alive; where one is, the
variable moves to other memory first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2
from tensorflow.python.framework import op_def_library

from scirs2_adapters.core.cpu import tf_calls
from scirs2_adapters.core.cpu.batch import Batch
from scirs2_adapters.core.cpu.kernel import pass_arrays
from scirs2_adapters.core.cpu.layout import Action
from scirs2_adapters.core.cpu.traced_step import TracedStep, number_slots
from scirs2_adapters.core.step.levels import run_levels
from scirs2_adapters.core.step.plan import grouped

from ..ops import OPS, Tensor, number
from ..state import RuleState, raw
from ..state.keras_types import KerasVariable
from .coefficients import rows_of
from .tensorflow_handles import KnownHandles, read
from .traced import Update


class Vectors:
    """Short vectors in a graph of TensorFlow."""

    @staticmethod
    def stack(numbers: Sequence[Tensor], dtype: str) -> Tensor:
        scalars = [number(x, dtype) for x in numbers]
        return tf.stack([x if x.shape.rank == 0 else tf.reshape(x, ()) for x in scalars])

    @staticmethod
    def take(x: Tensor, places: Sequence[int]) -> Tensor:
        return tf.gather(x, list(places))

    @staticmethod
    def columns(vectors: Sequence[Tensor], height: int, dtype: str) -> Tensor:
        columns = [number(x, dtype) for x in vectors]
        columns = [x if x.shape == (height,) else tf.broadcast_to(x, (height,)) for x in columns]
        return tf.stack(columns, axis=1) if columns else tf.zeros((1, 1), dtype)

    @staticmethod
    def cast(x: Tensor, dtype: str) -> Tensor:
        return number(x, dtype)


class Native:
    """What the steps of one optimizer keep: memory of its arrays, handles, and the graphs of its eager steps."""

    def __init__(self) -> None:
        self.memory, self.handles = tf_calls.Memory(), KnownHandles()
        self.graphs: dict[tuple[object, ...], Callable[..., None]] = {}


class Group:
    """Variables of one program and the same storages, and what the op is told of them."""

    def __init__(self, native: Native, updates: Sequence[Update]) -> None:
        first = updates[0].entry
        self.updates, self._memory = updates, native.memory
        self.rows, self.index = rows_of(updates)
        self.batch = Batch(first.program, [u.entry.leaf.shape for u in updates], first.storages)
        self.numbers = number_slots(self.batch)
        #: What is stepped in place, by name and place.
        self.variables: dict[tuple[str, int], KerasVariable] = {}
        for t, update in enumerate(updates):
            arrays = {"p": update.variable, **update.entry.slots}
            self.variables |= {(name, t): x for name, x in arrays.items() if name not in self.numbers}
        self.handles = native.handles.of(self.variables.values())
        self._cells = {key: self._cell(*key) for key in self.variables}
        self._plans: dict[tuple[int, ...], int] = {}

    def _cell(self, name: str, place: int) -> int:
        variable = self.variables[name, place]
        dtype = keras.backend.standardize_dtype(variable.dtype)
        return self._memory.cell((self.updates[place].entry.index, name), tuple(variable.shape), dtype)

    def gradients(self) -> list[Tensor]:
        """The gradients in the dtype that the kernel reads."""
        dtype = self.updates[0].entry.storages["g"]
        return [tf.cast(tf.convert_to_tensor(u.gradient), dtype) for u in self.updates]

    def slots_of_one_number(self) -> dict[str, list[Tensor]]:
        """What no pass stores, as it is now."""
        return {n: [raw(u.entry.slots[n]).read_value() for u in self.updates] for n in self.numbers}

    def call(
        self,
        action: Action,
        operands: Sequence[Tensor],
        outputs: Sequence[str],
        level: int = 0,
        rows: Sequence[int] | None = None,
    ) -> list[Tensor]:
        """One call of the op."""
        rows = self.index if rows is None else rows
        key = (level, *rows)
        if key not in self._plans:
            self._plans[key] = self._memory.publish(self.batch, level, rows, self._cells)
        inputs = {
            "call": tf.constant([self._plans[key], action], tf.int64),
            "operands": list(operands),
            "memory": [self.handles.tensor],
        }
        graph = tf.compat.v1.get_default_graph()
        before = [op for op in graph.get_operations() if op.type == tf_calls.OP][-1:]
        with tf.control_dependencies(before):  # one call at a time, also of variables that share nothing
            result = op_def_library.apply_op(tf_calls.OP, outputs=list(map(tf.as_dtype, outputs)), **inputs)
        return list(result) if isinstance(result, (list, tuple)) else [result]

    def renew(self, action: Action) -> list[tf.Operation]:
        """Gives all variables new tensors of the memory that the kernel steps; the assignments."""
        handles, dtypes = self.handles.each(), [raw(variable).dtype for variable in self.variables.values()]
        for handle in handles if action == Action.UNSHARE else ():
            # A variable whose rows were read or written alone keeps a copy of what it is assigned, unless told not to.
            tf.raw_ops.DisableCopyOnRead(resource=handle)
        tensors = self.call(action, read(handles, dtypes), dtypes)
        return [tf.raw_ops.AssignVariableOp(resource=h, value=x) for h, x in zip(handles, tensors, strict=True)]

    def check(self) -> Tensor:
        """Whether nobody else holds a tensor of that memory."""
        (answer,) = self.call(Action.CHECK, (), ["bool"])
        answer.set_shape(())
        return answer


class GraphStep(TracedStep):
    """A group's passes in a graph."""

    def __init__(self, group: Group, model: Mapping[str, Tensor]) -> None:
        self._group, self._gradients = group, group.gradients()
        super().__init__(group.batch, OPS, Vectors, group.rows, group.index, model, group.slots_of_one_number())

    def call(self, level: int, coefficients: Tensor) -> Tensor:
        """Calls the kernel of a pass; returns its sums."""
        batch, parts = self.batch, self.batch.kernel.passes[level].parts
        gradients = self._gradients if "g" in pass_arrays(parts, batch.kernel.dtypes) else []
        dtypes = [batch.kernel.compute] if parts.sums else []
        out = self._group.call(Action.PASS, [coefficients, *gradients], dtypes, level, self.rows)
        if not parts.sums:
            return None
        out[0].set_shape((len(batch.shapes), len(parts.sums)))
        return out[0]


def record(optimizer: RuleState, native: Native, updates: Sequence[Update], model: Mapping[str, KerasVariable]) -> None:
    """Puts the step of these variables into the graph that is being recorded."""
    kinds = grouped(updates, lambda u: (u.entry.program, *u.entry.storages.items()))
    groups = [Group(native, members) for members in kinds.values()]
    gradients = [raw_gradient for u in updates if isinstance(raw_gradient := u.gradient, tf.Tensor)]
    with tf.control_dependencies(gradients):  # until they are there, the model reads its variables
        renewed = [assignment for group in groups for assignment in group.renew(Action.RENEW)]
    with tf.control_dependencies(renewed):
        answers = [group.check() for group in groups]
    _unshare(groups, answers[0] if len(groups) == 1 else tf.reduce_all(tf.stack(answers)))
    numbers = {name: raw(variable).read_value() for name, variable in model.items()}
    steps = [GraphStep(group, numbers) for group in groups]
    run_levels(steps, lambda shares: OPS.total([tf.reduce_sum(x) for x in shares]))
    for group, step in zip(groups, steps, strict=True):
        for name, value in step.new_numbers().items():
            for update, new in zip(group.updates, tf.unstack(tf.broadcast_to(value, (step.width,))), strict=True):
                optimizer.assign(update.entry.slots[name], new)
    if model:
        for name, new in steps[0].values.model_numbers().items():
            optimizer.assign(model[name], new)


def _unshare(groups: Sequence[Group], alone: Tensor) -> None:
    """Moves variables to other memory unless they are `alone`: where somebody holds a tensor of theirs."""

    def move() -> None:
        for group in groups:
            group.renew(Action.UNSHARE)

    tf.cond(alone, lambda: None, move)
    graph = tf.compat.v1.get_default_graph()
    conditional = next(op for op in reversed(graph.get_operations()) if op.type == "If")
    # To be called, if at all. Put into the graph itself, as TensorFlow does unless it is told otherwise, it would cost
    # a node for every variable.
    conditional._set_attr("_lower_using_switch_merge", attr_value_pb2.AttrValue(b=False))

"""An optimizer for plain numpy arrays, stepped in place: scripts, federated servers, the scikit-learn adapter."""

from __future__ import annotations

import functools
import operator
import weakref
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from . import numpy_arrays as door
from . import numpy_state, routing
from .cpu import storage
from .errors import bad_value
from .fields import Field, flag
from .formats import companion
from .matrix import LAYOUT, OUTPUTS_FIRST
from .memory import Memory, expected
from .numpy_arrays import Arrays, carried
from .numpy_executors import ArrayExecutor, KernelExecutor, NumpyExecutor, ParamArrays
from .numpy_rules import CALL as _CALL
from .numpy_rules import Groups, Routed, RuleGroups, Schedule, scalars_of, schedule_of
from .rule import Rule
from .schedule import rate_at
from .slots import Extent, Slot
from .step.options import StateDtype, check_path, check_rounding, check_state_dtype, check_value
from .step.plan import COEFFICIENT_KEY, ParamEntry, coefficient_rows

_STEP = f"{_CALL}.step"
_DTYPE = operator.attrgetter("dtype")

THREADS = Field(None, "", "must be a whole number >= 1", lambda n: n >= 1, kind=int, optional=True)
SKIP = flag(False, "")
OPTIONS = ("kernel", "state_dtype", "threads", "layout", "skip_nonfinite", "rounding", "learning_rate", "groups")


class HostOptimizer(Routed):
    """Steps a dict or list of numpy arrays in place by any rule.

    Arguments:
      rule: a rule such as `AdamW(learning_rate=1e-3)`, or its name.
      params: float64, float32, float16 or bfloat16 arrays (bfloat16 as ml_dtypes has it), of any shape and layout. An
        array that is put in the place of another one of this dict or list later goes on with its memory.
      kernel: "host" compiled, "traced" plain numpy, "auto" the first if it can run.
      state_dtype: dtype of the memory: None is the parameter's, a name, or names by slot. "int8" keeps slots of 4,096
        numbers and more in 8 bits each and a scale for 256, and smaller ones in float32.
      threads: most threads of one step; None is what the environment grants.
      layout: how kernels lie, "outputs_first" or "inputs_first", for a rule that asks.
      skip_nonfinite: leave all as it is at a step with a gradient that is not finite; count it in `skipped_steps`.
      rounding: how 16-bit parameters take a step: "nearest"; "stochastic", right in the mean; or "compensated", which
        keeps what is lost in a slot of 8 bits (16 with `state_dtype={"rounding_error": "int16"}`).
      learning_rate: None is the rule's; else a number, one of `scirs2_adapters.core.schedules`, or another function of
        the number of steps taken before.
      groups: parameters with other hyperparameters, as `[{"params": ["b"], "weight_decay": 0.0}]`;
        `learning_rate_factor` is one of the learning rate, a schedule's too.

    Example:
      >>> import numpy as np
      >>> from scirs2_adapters.core import HostOptimizer
      >>> params = {"w": np.ones(3)}
      >>> HostOptimizer("sgd", params).step({"w": np.ones(3)})
      >>> params["w"]
      array([0.999, 0.999, 0.999])
    """

    __module__ = "scirs2_adapters.core"  # which pickles name

    def __init__(
        self,
        rule: Rule | str,
        params: Arrays,
        *,
        kernel: str = "auto",
        state_dtype: StateDtype = None,
        threads: int | None = None,
        layout: str = OUTPUTS_FIRST,
        skip_nonfinite: bool = False,
        rounding: str = "nearest",
        learning_rate: float | Schedule | None = None,
        groups: Groups = (),
    ) -> None:
        self.rule, self.learning_rate = schedule_of(_CALL, rule, learning_rate)
        check_path(_CALL, kernel)
        self.threads = THREADS.check(_CALL, "threads", threads)
        self.skip_nonfinite = SKIP.check(_CALL, "skip_nonfinite", skip_nonfinite)
        check_state_dtype(_CALL, state_dtype, self.rule.all_slots())
        self.params = door.Parameters(_CALL, params)
        if not self.params:
            raise bad_value(_CALL, "params", "must hold at least one array", params)
        self.kernel, self.state_dtype, self.rounding = kernel, state_dtype, rounding
        self.layout, self.groups = LAYOUT.check(_CALL, "layout", layout), groups
        self._groups = RuleGroups(_CALL, groups, self.rule, self.params)
        self._leaves = {key: door.leaf(_CALL, key, p, layout, rounding, state_dtype) for key, p in self.params.items()}
        check_rounding(_CALL, rounding, (leaf.dtype for leaf in self._leaves.values()))
        door.refuse_shared(_CALL, self.params)
        self._last = {key: weakref.ref(p) for key, p in self.params.items()}
        self._begin()

    def _begin(self) -> None:
        """Before the first step; which rule steps which array is said once."""
        self.state: numpy_state.Memory = {}
        self._entries: dict[Hashable, ParamEntry] = {}
        self._form: object = None  # of the step that the executor was made for
        self.route(self.state)
        self._decide()
        routing.say(_CALL, self._pairs())
        self.steps: dict[Hashable, int] = dict.fromkeys(self.params, 0)
        self.step_count = 0
        self.model = self._fresh_model()
        self.skipped_steps = 0
        self._checked: dict[Hashable, numpy_state.Checked] = {}

    def replace(self, **changes: Any) -> None:
        """Change hyperparameters between steps: `opt.replace(learning_rate=1e-4)`. A learning rate, a number or a
        schedule, takes the place of the schedule before.

        Memory that the new ones ask for begins as at a first step; memory that they do not ask for is dropped.
        """
        before, schedule = self.rule.kernel_key(), self.learning_rate
        if "learning_rate" in changes:
            schedule = changes.pop("learning_rate") if callable(changes["learning_rate"]) else None
        rule, schedule = schedule_of(_CALL, self.rule.replace(**changes), schedule)
        self._groups.rules(rule)  # an error comes before any change
        self.rule, self.learning_rate = rule, schedule
        self.route(self.state)
        if self.rule.kernel_key() == before:
            return
        self._decide()
        self._checked = {}
        self.state = {key: numpy_state.fitting_slots(slots, self.fresh(key)) for key, slots in self.state.items()}
        self.model = {name: self.model.get(name, x) for name, x in self._fresh_model().items()}

    def _fresh_model(self) -> dict[str, float]:
        return {s.name: float(s.initial_value(self.rule)) for s in self.rule.model_slots()}

    def step(self, grads: Arrays, value: float | None = None) -> None:
        """One step, in place. A gradient of None, or a missing key, leaves its parameter and memory untouched. `value`
        is the loss of which these are the gradients, for a rule that needs it, and of no use to others.
        """
        loss, by_key = self.prepare(value), self._gradients(grads)
        keys = list(filter(by_key.__contains__, self.params))
        params, ordered = self.follow(keys), list(map(by_key.__getitem__, keys))
        if not keys or self.skips(ordered, loss):
            return
        arrays = self._arrays(params, ordered)
        executor = self._executor_of(keys, ordered)
        entries, counts = list(map(self._entries.__getitem__, keys)), list(map(self.steps.__getitem__, keys))
        scalars, rows = coefficient_rows(
            list(zip(map(COEFFICIENT_KEY, entries), counts, strict=True)),
            functools.partial(scalars_of, {}, entries, counts, max(self.steps.values()) + 1, loss),
        )
        self.model |= executor.run(arrays, scalars, rows, self.model, self.threads)
        self.step_count += not self.rule.estimating
        self.steps |= {key: self.steps[key] + (not self._entries[key].rule.estimating) for key in keys}

    def prepare(self, value: float | None) -> float:
        """Before a step: the learning rate of a schedule is taken, and the loss is checked. Returns the loss, or 0."""
        words = "value", "must be the loss of the step, a number", "Write `optimizer.step(grads, value=loss)`."
        loss = float(check_value(_STEP, self.rule, value, *words)) if self.rule.needs_value else 0.0
        if self.learning_rate is not None:
            self.set_learning_rate(rate_at(_CALL, self.learning_rate, self.step_count))
        return loss

    def skips(self, grads: Sequence[np.ndarray], loss: float) -> bool:
        """Whether a step is left out, and counted, because a gradient is not finite."""
        skips = self.skip_nonfinite and not (door.all_finite(grads) and bool(np.isfinite(loss)))
        self.skipped_steps += skips
        return skips

    def _gradients(self, grads: Arrays) -> dict[Hashable, np.ndarray]:
        """The gradients that there are, checked; the usual ones here, without a call for each."""
        by_key, leaves = {}, self._leaves
        for key, g in door.items(_STEP, "grads", grads):
            if g is None:
                continue
            leaf = leaves.get(key)
            if leaf is None or type(g) is not np.ndarray or g.shape != leaf.shape or g.dtype not in door.DTYPES:
                # numpy's arithmetic turns arrays of no axes into its scalars
                g = np.asarray(g) if isinstance(g, np.generic) else g
                self.check_gradient(key, g)
            by_key[key] = g
        return by_key

    def check_gradient(self, key: Hashable, g: object) -> None:
        """Refuse an object that is no gradient for a parameter of this optimizer."""
        if key not in self._leaves:
            worded = f"has no parameter; there are {sorted(map(str, self.params))}"
            raise bad_value(_STEP, f"grads[{key!r}]", worded, g)
        door.check_gradient(_STEP, key, g, self._leaves[key].shape)

    def follow(self, keys: list[Hashable]) -> dict[Hashable, np.ndarray]:
        """The parameters as the caller has them now. One that is another array than last time must be of its form."""
        now = door.present(_STEP, self.params, keys)
        changed = [k for k in keys if now[k] is not self._last[k]() or now[k].shape != self._leaves[k].shape]
        for key in changed:
            leaf, was = door.leaf(_STEP, key, now[key], self.layout), self._leaves[key]
            if (leaf.shape, leaf.dtype) != (was.shape, was.dtype):
                worded = f"must keep shape {was.shape} and dtype {was.dtype}, for its memory is of that form"
                way_out = "Make a new optimizer for other parameters."
                raise bad_value(_STEP, f"params[{key!r}]", worded, now[key], way_out)
        for key in [k for k in keys if not now[k].flags.writeable]:
            door.check_writeable(_STEP, f"params[{key!r}]", now[key])
        if changed:
            door.refuse_shared(_STEP, {k: p for k, last in self._last.items() if (p := last()) is not None} | now)
            self._last |= {key: weakref.ref(now[key]) for key in changed}
        return now

    def _arrays(self, params: Mapping[Hashable, np.ndarray], grads: Sequence[np.ndarray]) -> list[ParamArrays]:
        """What an executor steps. It knows addresses only, so memory is checked when it is new, and always for whether
        it has kept its shape and may be written.
        """
        arrays = []
        for (key, p), g in zip(params.items(), grads, strict=True):
            if key not in self.state:
                self.state[key] = self.fresh(key)
            slots, checked = self.state[key], self._checked.get(key)
            for name, x, shape in checked[0] if checked else ():
                if slots.get(name) is not x or x.shape != shape or not x.flags.writeable:
                    checked = None
                    break
            if checked is None:
                checked = self._checked[key] = numpy_state.checked(_STEP, key, slots, self.fresh(key))
            arrays.append([p, g, *checked[1]])
            if p.dtype not in door.DTYPES or g.dtype not in door.DTYPES:
                arrays[-1][:2] = carried(p), carried(g)
        return arrays

    def fresh(self, key: Hashable) -> dict[str, np.ndarray]:
        """The memory of a parameter before its first step, in the order of `array_names`."""
        entry, dtypes, memory, others = self._entries[key], self._dtypes(key, "float32"), {}, {}
        p = storage.load(carried(self.params[key]), entry.leaf.dtype)
        slots = [s for s in entry.program.slots if s.extent is not Extent.MODEL]
        parts = {"p": storage.store_parts(p, dtypes["p"], other=np.array(entry.index, np.int32))}
        parts |= {s.name: self._initial(s, entry.rule, p, dtypes[s.name]) for s in slots}
        for name, (memory[name], *other) in parts.items():
            others.update({companion(name, dtypes[name]) or "": x for x in other})
        del memory["p"]
        return memory | others

    def _initial(self, slot: Slot, rule: Rule, p: np.ndarray, dtype: str) -> tuple[np.ndarray, ...]:
        """A slot before the first step and its companion, in new memory."""
        if slot.initial == "parameter":
            return storage.store_parts(np.array(p, order="C"), dtype)
        return storage.filled(slot.shape(p.shape), np.asarray(slot.initial_value(rule), p.dtype), dtype)

    def _executor_of(self, keys: list[Hashable], grads: Sequence[np.ndarray]) -> ArrayExecutor:
        """The executor of a step over these arrays: that of the last step if nothing has changed."""
        form = (keys, list(map(_DTYPE, grads)))
        if form != self._form:
            dtypes = [self._dtypes(k, storage.name(g.dtype)) for k, g in zip(keys, grads, strict=True)]
            members = [self._entries[k] for k in keys]
            entries = [(e.program, e.leaf.shape, d) for e, d in zip(members, dtypes, strict=True)]
            self._executor: ArrayExecutor = (KernelExecutor if self._by_kernel else NumpyExecutor)(entries)
            self._form = form
        return self._executor

    def memory(self) -> Memory:
        """How many bytes all of it takes, the state before the first step as after it. Gradients are the caller's.

        >>> import numpy as np
        >>> from scirs2_adapters.core import HostOptimizer
        >>> HostOptimizer("adamw", {"w": np.ones(4, np.float32)}).memory().state
        {'exp_avg': {'float32': 16}, 'exp_avg_sq': {'float32': 16}}
        """
        entries, options = self._entries, (self.state_dtype, self.rounding)
        wanted = {key: expected(entry.rule, entry.leaf, *options) for key, entry in entries.items()}
        kept = self._executor.allocated if self._form else 0
        return numpy_state.weighed(self.params, wanted, self.state, kept)

    def state_dict(self) -> numpy_state.Saved:
        """A copy of all memory by name: plain dicts, arrays and numbers. bfloat16 slots are carried as uint16."""
        return numpy_state.saved(self)

    def load_state_dict(self, saved: numpy_state.Saved, *, strict: bool = True) -> None:
        """Take over memory saved by `state_dict`; a dict that does not fit is refused before anything is changed.

        With `strict=False`, parameters that are not in it, or of another shape, begin anew. Slots that are missing do
        so in any case, and what is not the rule's travels along.
        """
        vars(self).update(numpy_state.fitting(self, f"{_CALL}.load_state_dict", saved, strict))

    def __getstate__(self) -> numpy_state.Saved:
        """What is data, and the caller's dict or list. Plans hold addresses of this process, and are made anew."""
        names = ("rule", *OPTIONS, "steps", "state", "model", "skipped_steps", "step_count")
        return {"params": self.params.container} | {name: vars(self)[name] for name in names}

    def __setstate__(self, pickled: numpy_state.Saved) -> None:
        """A pickle may lie in memory that cannot be written, or that is another's: what is stepped is copied out."""
        options = {k: pickled[k] for k in OPTIONS if k in pickled}
        self.__init__(pickled["rule"], door.thawed(pickled["params"]), **options)  # type: ignore[misc]
        self.steps, self.state = dict(pickled["steps"]), numpy_state.owned(pickled["state"])
        self.model, self.skipped_steps = dict(pickled["model"]), pickled.get("skipped_steps", 0)
        self.step_count = pickled.get("step_count", max(self.steps.values()))
        self.route(self.state)

"""An optimizer for plain numpy arrays, stepped in place: scripts, federated servers, the scikit-learn adapter."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from . import numpy_arrays as door
from . import numpy_state as memory
from . import routing
from .cpu import storage
from .cpu.engine import Batch, address, plan, run
from .cpu.kernel import kernel_obstacle
from .errors import bad_type, bad_value
from .fields import Field, flag
from .matrix import LAYOUT, OUTPUTS_FIRST
from .numpy_arrays import Arrays, carried
from .ops import HOST_SCALARS
from .program.recorded import Program, record
from .registry import get
from .rule import Rule
from .slots import Extent
from .step import reference as plain
from .step.options import StateDtype, check_path, check_state_dtype, slot_dtype, takes_host

_CALL = "HostOptimizer"
_STEP = f"{_CALL}.step"

THREADS = Field(None, "", "must be None or a whole number >= 1", lambda n: n >= 1, kind=int, optional=True)
SKIP = flag(False, "")
OPTIONS = ("kernel", "state_dtype", "threads", "layout", "skip_nonfinite")


class HostOptimizer:
    """Steps a dict or list of numpy arrays in place by any rule.

    Arguments:
      rule: a rule such as `AdamW(learning_rate=1e-3)`, or its name.
      params: float64, float32, float16 or bfloat16 arrays (bfloat16 as ml_dtypes has it), of any shape and layout. An
        array that is put in the place of another one of this dict or list later goes on with its memory.
      kernel: "host" compiled, "traced" plain numpy, "auto" the first if it can run.
      state_dtype: dtype of the memory: None is the parameter's, a name, or names by slot.
      threads: most threads of one step; None is what the environment grants.
      layout: how kernels lie, "outputs_first" or "inputs_first", for a rule that asks.
      skip_nonfinite: leave all as it is at a step with a gradient that is not finite; count it in `skipped_steps`.

    Example:
      >>> import numpy as np
      >>> from scirs2_adapters.core import HostOptimizer
      >>> params = {"w": np.ones(3)}
      >>> HostOptimizer("sgd", params).step({"w": np.ones(3)})
      >>> params["w"]
      array([0.999, 0.999, 0.999])
    """

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
    ) -> None:
        self.rule = _rule(rule)
        check_path(_CALL, kernel)
        self.threads = THREADS.check(_CALL, "threads", threads)
        self.skip_nonfinite = SKIP.check(_CALL, "skip_nonfinite", skip_nonfinite)
        check_state_dtype(_CALL, state_dtype, self.rule.all_slots())
        self.params = door.Parameters(_CALL, params)
        if not self.params:
            raise bad_value(_CALL, "params", "must hold at least one array", params)
        self.kernel, self.state_dtype = kernel, state_dtype
        self.layout = LAYOUT.check(_CALL, "layout", layout)
        self._leaves = {key: door.leaf(_CALL, key, p, layout) for key, p in self.params.items()}
        self._last = dict(self.params)
        door.refuse_shared(_CALL, self._last)
        self._begin()

    def _begin(self) -> None:
        """Before the first step; which rule steps which array is said once."""
        self.state: memory.Memory = {}
        self._route(self.state)
        self._decide()
        routing.say(_CALL, [(self.rule, leaf) for leaf in self._leaves.values()])
        self.steps: dict[Hashable, int] = dict.fromkeys(self.params, 0)
        self.model = {s.name: float(s.initial_value(self.rule)) for s in self.rule.model_slots()}
        self.skipped_steps = 0
        self._checked: dict[Hashable, dict[str, np.ndarray]] = {}
        self._plans: dict[Any, list[tuple[Batch, list[int]]]] = {}

    def _route(self, state: Mapping[Hashable, Any]) -> None:
        """Which rule steps which array, by which program: as long as no hyperparameter changes. Memory settles it."""
        self._leaves = {key: leaf.holding(state.get(key, leaf.held)) for key, leaf in self._leaves.items()}
        self._rules = {key: self.rule.route(leaf) for key, leaf in self._leaves.items()}
        self._programs = {key: record(self._rules[key], leaf) for key, leaf in self._leaves.items()}

    def _decide(self) -> None:
        """Which path steps them, for as long as no structure changes."""
        programs, leaves = self._programs, self._leaves.items()
        reasons = [programs[k].kernel_obstacle or kernel_obstacle(self._dtypes(k, p.dtype)) for k, p in leaves]
        self._host = takes_host(_CALL, self.kernel, next((r for r in reasons if r), None))

    def _dtypes(self, key: Hashable, gradient: str) -> dict[str, str]:
        leaf = self._leaves[key]
        slots = self._rules[key].slots(leaf)
        return {"p": leaf.dtype, "g": gradient} | {s.name: slot_dtype(s, leaf.dtype, self.state_dtype) for s in slots}

    def replace(self, **changes: Any) -> None:
        """Change hyperparameters between steps, as a schedule does: `opt.replace(learning_rate=1e-4)`.

        Memory that the new ones ask for begins as at a first step; memory that they do not ask for is dropped.
        """
        before, self.rule = self.rule.kernel_key(), self.rule.replace(**changes)
        self._route(self.state)
        if self.rule.kernel_key() == before:  # numbers only, as at every step of a schedule
            return
        self._decide()
        self._checked = {}
        self.state = {key: memory.kept(held, self.fresh(key)) for key, held in self.state.items()}
        self.model = {
            s.name: self.model.get(s.name, float(s.initial_value(self.rule))) for s in self.rule.model_slots()
        }

    def step(self, grads: Arrays) -> None:
        """One step, in place. A gradient of None, or a missing key, leaves its parameter and memory untouched."""
        # numpy's arithmetic turns arrays of no axes into its scalars
        given = {
            k: np.asarray(g) if isinstance(g, np.generic) else g
            for k, g in door.items(_STEP, "grads", grads)
            if g is not None
        }
        for key, g in given.items():
            self.check_gradient(key, g)
        keys = [k for k in self.params if k in given]
        now = self.follow(keys)
        if not keys:
            return
        if self.skip_nonfinite and not door.all_finite([given[k] for k in keys]):
            self.skipped_steps += 1
            return
        for key in keys:
            if key not in self.state:
                self.state[key] = self.fresh(key)
        each = {key: {"p": carried(now[key]), "g": carried(given[key]), **self._slots(key)} for key in keys}
        (self._step_host if self._host else self._step_plain)(keys, given, each)
        for key in keys:
            self.steps[key] += 1

    def check_gradient(self, key: Hashable, g: Any) -> None:
        """Refuse what is no gradient of a parameter of ours."""
        if key not in self._leaves:
            worded = f"has no parameter; there are {sorted(map(str, self.params))}"
            raise bad_value(_STEP, f"grads[{key!r}]", worded, g)
        door.check_gradient(_STEP, key, g, self._leaves[key].shape)

    def follow(self, keys: list[Hashable]) -> dict[Hashable, np.ndarray]:
        """The parameters as the caller has them now. One that is another array than last time must be of its form."""
        now = door.present(_STEP, self.params, keys)
        changed = [k for k in keys if now[k] is not self._last[k]]
        for key in changed:
            leaf, was = door.leaf(_STEP, key, now[key], self.layout), self._leaves[key]
            if (leaf.shape, leaf.dtype) != (was.shape, was.dtype):
                worded = f"must keep shape {was.shape} and dtype {was.dtype}, for its memory is of that form"
                way_out = "Make a new optimizer for other parameters."
                raise bad_value(_STEP, f"params[{key!r}]", worded, now[key], way_out)
        for key in keys:
            if not now[key].flags.writeable:
                door.check_writeable(_STEP, f"params[{key!r}]", now[key])
        if changed:
            door.refuse_shared(_STEP, self._last | now)
            self._last |= now
        return now

    def _slots(self, key: Hashable) -> dict[str, np.ndarray]:
        """The memory of a parameter, of which a kernel knows addresses only: each array is looked at when it is new,
        and always for whether it may be written.
        """
        held, checked = self.state[key], self._checked.get(key)
        if checked is None or any(held.get(n) is not x or not x.flags.writeable for n, x in checked.items()):
            checked = {}
            for name, first in self.fresh(key).items():
                x, place = held.get(name), f"state[{key!r}][{name!r}]"
                if not isinstance(x, np.ndarray) or x.shape != first.shape or x.dtype != first.dtype:
                    worded = f"must be an array of shape {first.shape} and dtype {first.dtype}"
                    raise bad_value(_STEP, place, worded, x)
                door.check_writeable(_STEP, place, x)
                checked[name] = x
            self._checked[key] = checked
        return checked

    def fresh(self, key: Hashable) -> dict[str, np.ndarray]:
        """The memory of a parameter before its first step."""
        leaf, rule, dtypes, made = self._leaves[key], self._rules[key], self._dtypes(key, "float32"), {}
        for s in rule.slots(leaf):
            if s.extent is Extent.MODEL:
                continue
            carrier = storage.STORAGES[dtypes[s.name]].carrier
            made[s.name] = np.zeros(s.shape(leaf.shape), dtype=carrier)
            if s.initial is not None:
                copied = s.initial == "parameter"
                first = (
                    storage.load(carried(self.params[key]), leaf.dtype) if copied else np.asarray(s.initial_value(rule))
                )
                made[s.name][...] = storage.store(first, dtypes[s.name])
        return made

    def _scalars(self, key: Hashable) -> dict[str, Any]:
        rule = self._rules[key]
        return {**rule.scalars(HOST_SCALARS, self.steps[key] + 1), **rule.leaf_coefficients(self._leaves[key])}

    def _rows(self, keys: list[Hashable]) -> tuple[list[dict[str, Any]], np.ndarray | None]:
        """The scalars of these arrays, those that are the same said once, and which of them each array takes."""
        per_parameter = self.rule.per_parameter
        first: dict[Any, int] = {}
        rows = [first.setdefault((self.steps[k], k if per_parameter else None), len(first)) for k in keys]
        scalars = [self._scalars(keys[rows.index(r)]) for r in range(len(first))]
        return scalars, None if len(first) == 1 else np.array(rows, dtype=np.int64)

    def _planned(self, keys: list[Hashable], grads: Mapping[Hashable, np.ndarray]) -> list[tuple[Batch, list[int]]]:
        """The batches of a step over these arrays; those of the last one if nothing has changed."""
        dtypes = [storage.name(grads[k].dtype) for k in keys]
        programs = [self._programs[k] for k in keys]
        identity = (tuple(keys), tuple(dtypes), tuple(programs))
        if identity not in self._plans:
            each = zip(keys, dtypes, programs, strict=True)
            self._plans = {identity: plan([(p, self._leaves[k].shape, self._dtypes(k, d)) for k, d, p in each])}
        return self._plans[identity]

    def _step_host(self, keys: list[Hashable], grads: Mapping[Hashable, np.ndarray], each: Mapping[Any, Any]) -> None:
        batches = self._planned(keys, grads)
        tables, lent = [], []
        for batch, members in batches:
            addresses = []
            for key in (keys[i] for i in members):
                arrays = each[key]
                for name, x in arrays.items():
                    if not (x.flags.c_contiguous and x.flags.aligned):
                        arrays[name] = np.require(x, requirements=["C", "A"])
                        lent.append((name, x, arrays[name]))
                addresses.append([address(arrays[name]) for name in batch.arrays])
            tables.append(np.array(addresses, dtype=np.int64))
        scalars, rows = zip(*(self._rows([keys[i] for i in members]) for _, members in batches), strict=True)
        self.model |= run([b for b, _ in batches], tables, scalars, rows, self.model, self.threads)
        for name, own, copy in lent:
            if name != "g":
                own[...] = copy

    def _step_plain(self, keys: list[Hashable], grads: Mapping[Hashable, np.ndarray], each: Mapping[Any, Any]) -> None:
        by_program: dict[Program, list[Hashable]] = {}
        for key in keys:
            by_program.setdefault(self._programs[key], []).append(key)
        for program, members in by_program.items():
            leaves = []
            for key in members:
                dtypes = self._dtypes(key, grads[key].dtype.name)
                compute = storage.compute_dtype(dtypes["p"])
                wide = {n: storage.load(x, dtypes[n]).astype(compute, copy=False) for n, x in each[key].items()}
                leaves.append(wide | self.model)
            for key, new in zip(members, plain.step(program, leaves, [self._scalars(k) for k in members]), strict=True):
                dtypes = self._dtypes(key, "float32")
                for name in each[key].keys() - {"g"}:
                    each[key][name][...] = storage.store(np.asarray(new[name]), dtypes[name])
                self.model |= {n: float(new[n]) for n in self.model}

    def explain(self) -> str:
        """Which rule steps which array, a line for each, and why."""
        return "\n".join(routing.explained([(self.rule, leaf) for leaf in self._leaves.values()]))

    def state_dict(self) -> dict[str, Any]:
        """A copy of all memory by name: plain dicts, arrays and numbers. bfloat16 slots are carried as uint16."""
        return memory.saved(self)

    def load_state_dict(self, saved: Mapping[str, Any], *, strict: bool = True) -> None:
        """Take over memory saved by `state_dict`; a dict that does not fit is refused before anything is changed.

        With `strict=False`, parameters that are not in it, or of another shape, begin anew. Slots that are missing do
        so in any case, and what is not the rule's travels along.
        """
        vars(self).update(memory.fitting(self, f"{_CALL}.load_state_dict", saved, strict))

    def __getstate__(self) -> dict[str, Any]:
        """What is data, and the caller's own dict or list. Plans hold addresses of this process, and are made anew."""
        kept = ("rule", *OPTIONS, "steps", "state", "model", "skipped_steps")
        return {"params": self.params.container} | {name: vars(self)[name] for name in kept}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        """A pickle may lie in memory that cannot be written, or that is another's: what is stepped is copied out."""
        options = {k: kept[k] for k in OPTIONS if k in kept}
        self.__init__(kept["rule"], door.thawed(kept["params"]), **options)  # type: ignore[misc]
        self.steps, self.state = dict(kept["steps"]), memory.owned(kept["state"])
        self.model, self.skipped_steps = dict(kept["model"]), kept.get("skipped_steps", 0)
        self._route(self.state)


def _rule(given: Rule | str) -> Rule:
    if isinstance(rule := get(given)() if isinstance(given, str) else given, Rule):
        return rule
    raise bad_type(_CALL, "rule", "must be a rule such as AdamW(), or its name", given)

"""An optimizer for plain numpy arrays, stepped in place: scripts, federated servers, the scikit-learn room."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from .. import routing
from ..errors import bad_type, bad_value
from ..fields import Field
from ..matrix import LAYOUT, OUTPUTS_FIRST
from ..options import StateDtype, check_path, check_state_dtype, slot_dtype, takes_host
from ..program import Program, record
from ..registry import get
from ..rule import Rule
from ..slots import Kind, Leaf
from ..waist import HOST_SCALARS
from . import plain, storage
from .host import Batch, address, plan, run
from .kernel import reason_against

#: Keys are typed loosely, as a mapping is invariant in them: a dict of strings must do.
Arrays = Mapping[Any, np.ndarray] | Sequence[np.ndarray]
_CALL = "HostOptimizer"

THREADS = Field(None, "", "must be None or a whole number >= 1", lambda n: n >= 1, kind=int, optional=True)
STEPS = Field(0, "", "must be a whole number >= 0", lambda t: t >= 0, kind=int)
MODEL = Field(0.0, "", "must be a number", lambda x: True)


class HostOptimizer:
    """Steps a dict or list of numpy arrays in place by any rule.

    Arguments:
      rule: a rule such as `AdamW(learning_rate=1e-3)`, or its name.
      params: float64, float32, float16 or bfloat16 arrays (bfloat16 as ml_dtypes has it), of any shape and layout.
      kernel: "host" compiled, "traced" plain numpy, "auto" the first if it can run.
      state_dtype: dtype of the memory: None is the parameter's, a name, or names by slot.
      threads: most threads of one step; None is what the environment grants.
      layout: how kernels lie, "outputs_first" or "inputs_first", for a rule that asks.

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
    ) -> None:
        self.rule = get(rule)() if isinstance(rule, str) else rule
        if not isinstance(self.rule, Rule):
            raise bad_type(_CALL, "rule", "must be a rule such as AdamW(), or its name", rule)
        check_path(_CALL, kernel)
        THREADS.check(_CALL, "threads", threads)
        check_state_dtype(_CALL, state_dtype, self.rule.all_slots())
        self.params = dict(_items(params, "params"))
        if not self.params:
            raise bad_value(_CALL, "params", "must hold at least one array", params)
        self.kernel, self.state_dtype, self.threads = kernel, state_dtype, threads
        self.layout = LAYOUT.check(_CALL, "layout", layout)
        self._leaves = {key: _leaf(key, p, layout) for key, p in self.params.items()}
        _refuse_shared(self.params)
        self.state: dict[Hashable, dict[str, np.ndarray]] = {}
        self._route(self.state)
        self._decide()
        routing.say(_CALL, [(self.rule, leaf) for leaf in self._leaves.values()])
        self.steps: dict[Hashable, int] = dict.fromkeys(self.params, 0)
        self.model = {s.name: float(s.first(self.rule)) for s in self.rule.model_slots()}
        self._plans: dict[Any, list[tuple[Batch, list[int]]]] = {}

    def _route(self, state: Mapping[Hashable, Any]) -> None:
        """Which rule steps which array, by which program: as long as no hyperparameter changes. Memory settles it."""
        self._leaves = {key: leaf.holding(state.get(key, leaf.held)) for key, leaf in self._leaves.items()}
        self._rules = {key: self.rule.route(leaf) for key, leaf in self._leaves.items()}
        self._programs = {key: record(self._rules[key], leaf) for key, leaf in self._leaves.items()}

    def _decide(self) -> None:
        """Which path steps them, for as long as no structure changes."""
        programs, leaves = self._programs, self._leaves.items()
        reasons = [programs[k].strays or reason_against(self._dtypes(k, p.dtype)) for k, p in leaves]
        self._host = takes_host(_CALL, self.kernel, next((r for r in reasons if r), None))

    def _dtypes(self, key: Hashable, gradient: str) -> dict[str, str]:
        leaf = self._leaves[key]
        slots = self._rules[key].slots(leaf)
        return {"p": leaf.dtype, "g": gradient} | {s.name: slot_dtype(s, leaf.dtype, self.state_dtype) for s in slots}

    def replace(self, **changes: Any) -> None:
        """Change hyperparameters between steps, as a schedule does: `opt.replace(learning_rate=1e-4)`.

        Memory that the new ones ask for begins as at a first step; memory that they do not ask for is dropped.
        """
        before, self.rule = self.rule.variant(), self.rule.replace(**changes)
        self._route(self.state)
        if self.rule.variant() == before:  # numbers only, as at every step of a schedule
            return
        self._decide()
        self.state = {k: {n: held.get(n, x) for n, x in self._allocate(k).items()} for k, held in self.state.items()}
        self.model = {s.name: self.model.get(s.name, float(s.first(self.rule))) for s in self.rule.model_slots()}

    def step(self, grads: Arrays) -> None:
        """One step, in place. A gradient of None, or a missing key, leaves its parameter and memory untouched."""
        # numpy's arithmetic turns arrays of no axes into its scalars
        given = {
            k: np.asarray(g) if isinstance(g, np.generic) else g for k, g in _items(grads, "grads") if g is not None
        }
        for key, g in given.items():
            self._check(key, g)
        keys = [k for k in self.params if k in given]
        if not keys:
            return
        for key in keys:
            if key not in self.state:
                self.state[key] = self._allocate(key)
        (self._step_host if self._host else self._step_plain)(keys, given)
        for key in keys:
            self.steps[key] += 1

    def _check(self, key: Hashable, g: Any) -> None:
        known, name = self.params.get(key), f"grads[{key!r}]"
        if known is None:
            raise bad_value(f"{_CALL}.step", name, f"has no parameter; there are {sorted(map(str, self.params))}", g)
        if not isinstance(g, np.ndarray) or storage.name(g.dtype) not in storage.STORAGES or not g.dtype.isnative:
            raise bad_type(f"{_CALL}.step", name, "must be a floating numpy array in this machine's byte order", g)
        if g.shape != known.shape:
            raise bad_value(f"{_CALL}.step", name, f"must have the parameter's shape {known.shape}", g)

    def _allocate(self, key: Hashable) -> dict[str, np.ndarray]:
        leaf, rule, dtypes, made = self._leaves[key], self._rules[key], self._dtypes(key, "float32"), {}
        for s in rule.slots(leaf):
            if s.kind is Kind.MODEL:
                continue
            carrier = storage.STORAGES[dtypes[s.name]].carrier
            made[s.name] = np.zeros(s.shape(leaf.shape), dtype=carrier)
            if s.initial is not None:
                copied = s.initial == "parameter"
                first = storage.load(_carried(self.params[key]), leaf.dtype) if copied else np.asarray(s.first(rule))
                made[s.name][...] = storage.store(first, dtypes[s.name])
        return made

    def _scalars(self, key: Hashable) -> dict[str, Any]:
        rule = self._rules[key]
        return {**rule.scalars(HOST_SCALARS, self.steps[key] + 1), **rule.leaf_coefficients(self._leaves[key])}

    def _rows(self, keys: list[Hashable]) -> tuple[list[dict[str, Any]], np.ndarray | None]:
        """The scalars of these arrays, those that are the same said once, and which of them each array takes."""
        by_leaf = self.rule.by_leaf
        first: dict[Any, int] = {}
        rows = [first.setdefault((self.steps[k], k if by_leaf else None), len(first)) for k in keys]
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

    def _step_host(self, keys: list[Hashable], grads: Mapping[Hashable, np.ndarray]) -> None:
        batches = self._planned(keys, grads)
        tables, lent = [], []
        for batch, members in batches:
            addresses = []
            for key in (keys[i] for i in members):
                arrays = {"p": _carried(self.params[key]), "g": _carried(grads[key]), **self.state[key]}
                for name, x in arrays.items():
                    if not x.flags.c_contiguous:
                        arrays[name] = np.ascontiguousarray(x)
                        lent.append((name, x, arrays[name]))
                addresses.append([address(arrays[name]) for name in batch.arrays])
            tables.append(np.array(addresses, dtype=np.int64))
        scalars, rows = zip(*(self._rows([keys[i] for i in members]) for _, members in batches), strict=True)
        self.model |= run([b for b, _ in batches], tables, scalars, rows, self.model, self.threads)
        for name, own, copy in lent:
            if name != "g":
                own[...] = copy

    def _step_plain(self, keys: list[Hashable], grads: Mapping[Hashable, np.ndarray]) -> None:
        by_program: dict[Program, list[Hashable]] = {}
        for key in keys:
            by_program.setdefault(self._programs[key], []).append(key)
        for program, members in by_program.items():
            leaves = []
            for key in members:
                dtypes = self._dtypes(key, grads[key].dtype.name)
                compute = storage.compute_dtype(dtypes["p"])
                arrays = {"p": _carried(self.params[key]), "g": _carried(grads[key]), **self.state[key]}
                leaves.append(
                    {n: storage.load(x, dtypes[n]).astype(compute, copy=False) for n, x in arrays.items()} | self.model
                )
            for key, new in zip(members, plain.step(program, leaves, [self._scalars(k) for k in members]), strict=True):
                dtypes = self._dtypes(key, "float32")
                for name, target in {"p": _carried(self.params[key]), **self.state[key]}.items():
                    target[...] = storage.store(np.asarray(new[name]), dtypes[name])
                self.model |= {n: float(new[n]) for n in self.model}

    def explain(self) -> str:
        """Which rule steps which array, a line for each, and why."""
        return "\n".join(routing.explained([(self.rule, leaf) for leaf in self._leaves.values()]))

    def state_dict(self) -> dict[str, Any]:
        """A copy of all memory by name: plain dicts, arrays and numbers. bfloat16 slots are carried as uint16."""
        state = {k: {n: x.copy() for n, x in s.items()} for k, s in self.state.items()}
        return {"rule": self.rule.name, "steps": dict(self.steps), "state": state, "model": dict(self.model)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over memory saved by `state_dict`; anything that does not fit is refused before anything is changed."""
        call, parts = f"{_CALL}.load_state_dict", ("state", "steps", "model")
        if not isinstance(saved, Mapping) or not all(isinstance(saved.get(part), Mapping) for part in parts):
            raise bad_type(call, "saved", "must be what `state_dict` returned", saved)
        if saved.get("rule") != self.rule.name:
            raise bad_value(call, "saved", f"must be of the optimizer {self.rule.name}", saved.get("rule"))
        for part, known in (("state", self.params), ("steps", self.params), ("model", self.model)):
            for key in saved[part]:
                if key not in known:
                    worded = f"is not of this optimizer, which has {sorted(map(str, known))}"
                    raise bad_value(call, f"saved[{part!r}]", worded, key)
        steps = {key: STEPS.check(call, f"saved['steps'][{key!r}]", t) for key, t in saved["steps"].items()}
        model = {name: MODEL.check(call, f"saved['model'][{name!r}]", x) for name, x in saved["model"].items()}
        self._route(routing.slots_of(self.params, saved["state"]))
        try:
            state = {key: self._fitting(call, key, slots) for key, slots in saved["state"].items()}
        except ValueError:
            self._route(routing.slots_of(self.params, self.state))
            raise
        self.state, self.steps, self.model = state, dict.fromkeys(self.params, 0) | steps, self.model | model

    def _fitting(self, call: str, key: Hashable, slots: Any) -> dict[str, np.ndarray]:
        """A copy of the saved slots of one parameter, if they are as its own would be."""
        expected = self._allocate(key)
        for name, x in expected.items():
            got = slots.get(name) if isinstance(slots, Mapping) else None
            if not isinstance(got, np.ndarray) or got.shape != x.shape or got.dtype != x.dtype:
                worded = f"must be an array of shape {x.shape} and dtype {x.dtype}"
                raise bad_value(call, f"saved['state'][{key!r}][{name!r}]", worded, got)
        return {name: np.array(slots[name]) for name in expected}

    def __getstate__(self) -> dict[str, Any]:
        """What is data. Plans hold addresses of this process, and are made anew."""
        kept = ("rule", "params", "kernel", "state_dtype", "threads", "layout", "steps", "state", "model")
        return {name: vars(self)[name] for name in kept}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        options = ("kernel", "state_dtype", "threads", "layout")
        self.__init__(kept["rule"], kept["params"], **{k: kept[k] for k in options if k in kept})  # type: ignore[misc]
        vars(self).update(kept)
        self._route(self.state)


def _items(arrays: Any, argument: str) -> Iterator[tuple[Hashable, Any]]:
    if isinstance(arrays, Mapping):
        return iter(arrays.items())
    if isinstance(arrays, (list, tuple)):
        return iter(enumerate(arrays))
    raise bad_type(_CALL, argument, "must be a dict or list of numpy arrays", arrays)


def _leaf(key: Hashable, p: Any, layout: str) -> Leaf:
    name = f"params[{key!r}]"
    if not isinstance(p, np.ndarray) or p.dtype.name not in storage.STORAGES or not p.dtype.isnative:
        worded = f"must be a numpy array of dtype {', '.join(storage.STORAGES)}, in this machine's byte order"
        raise bad_type(_CALL, name, worded, p)
    if not p.flags.writeable:
        raise bad_value(_CALL, name, "must be writeable, for it is updated in place", p)
    return Leaf(p.shape, p.dtype.name, key if isinstance(key, str) else "", layout)


def _refuse_shared(params: Mapping[Hashable, np.ndarray]) -> None:
    """Arrays that overlap in memory would be stepped twice, by threads that know nothing of each other."""
    widest, end = None, -1
    spans = ((*byte_bounds(p), key) for key, p in params.items() if p.size)
    for start, stop, key in sorted(spans, key=lambda span: span[:2]):
        if start < end and np.shares_memory(params[widest], params[key]):
            worded = f"must not share memory with params[{widest!r}]"
            raise bad_value(_CALL, f"params[{key!r}]", worded, params[key], "Give each array once.")
        widest, end = (key, stop) if stop > end else (widest, end)


def _carried(x: np.ndarray) -> np.ndarray:
    """The array as its carrier: bfloat16 seen as uint16, anything else as it is."""
    return x.view(np.uint16) if storage.name(x.dtype) == "bfloat16" else x

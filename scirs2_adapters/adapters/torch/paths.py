"""Which path runs: the host kernel by address for plain CPU tensors, torch's operations otherwise.

A `Plan` is all that a step needs for one pattern of gradients. It is looked at again before every step, tensor by
tensor and without a loop of ours: that each tensor is the same object at the same address. Whatever moved, was
replaced, cast or loaded gives a new plan; new gradients in the old form give new addresses only.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch.autograd.graph import increment_version

from scirs2_adapters.core.execute import host
from scirs2_adapters.core.execute.interpret import run as interpret
from scirs2_adapters.core.options import takes_host
from scirs2_adapters.core.waist import HOST_SCALARS

from . import state
from .state import Member
from .waist import SCALARS, WAIST

Tensor = torch.Tensor
_GRADIENT = operator.attrgetter("grad")
#: Patterns of gradients (which parameters have one) whose plans are kept.
PLANS = 8


def step(optimizer: Any) -> None:
    """One step of every parameter that has a gradient."""
    groups = optimizer.param_groups
    settings = [optimizer._setting(i, group) for i, group in enumerate(groups)]
    params = list(chain.from_iterable([group["params"] for group in groups]))
    found = list(map(_GRADIENT, params))
    pattern = (*map(type, found), *[len(group["params"]) for group in groups])
    plan = optimizer._plans.get(pattern)
    if plan is None or not plan.holds(optimizer, settings, params, found):
        if len(optimizer._plans) >= PLANS:
            optimizer._plans.clear()
        plan = optimizer._plans[pattern] = optimizer._all_or_nothing(Plan, settings, params, found)
    plan.run(optimizer)


#: For a compiled training step, in which the kernel is a call that the compiler must not look into.
step_eagerly = torch._disable_dynamo(step)  # type: ignore[attr-defined]


class Plan:
    """What one step needs, as long as `holds` says so."""

    def __init__(self, optimizer: Any, settings: list[Any], params: list[Tensor], found: list[Tensor | None]) -> None:
        self.settings, self.params = settings, params
        self.variants = [s.rule.variant() for s in settings]
        self.kernels = [s.kernel for s in settings]
        self.present = [i for i, g in enumerate(found) if g is not None]
        self.members = self._members(optimizer, found)
        hosts = self._hosts(type(optimizer).__name__)
        self.hosts = [m for m, on_host in zip(self.members, hosts, strict=True) if on_host]
        self.traced = [m for m, on_host in zip(self.members, hosts, strict=True) if not on_host]
        self.position = [i for i, on_host in zip(self.present, hosts, strict=True) if on_host]
        self._count(optimizer)
        self._lay_out([found[i] for i in self.position])
        self._look_at_state(optimizer)
        self.beginners = [m for m in self.members if m.first and m.rule.counts == "first"]
        self.model = [s.name for s in settings[0].rule.model_slots()]
        self._assign()

    def _members(self, optimizer: Any, found: list[Tensor | None]) -> list[Member]:
        """The parameters to step, with memory; one that a group holds twice is stepped once."""
        name, members, seen, i = type(optimizer).__name__, [], set(), 0
        for index, group in enumerate(optimizer.param_groups):
            names = group.get("param_names") or [""] * len(group["params"])
            for p, label in zip(group["params"], names, strict=True):
                g = found[i]
                if g is not None and id(p) not in seen:
                    member = Member(optimizer, p, index, state.leaf_of(p, label), self.settings[index])
                    member.refuse(name, g, group["fused"])
                    members.append(member)
                    seen.add(id(p))
                elif g is not None:
                    self.present.remove(i)
                i += 1
        for m in members:
            m.held = state.remember(optimizer, m.p, m.rule, m.leaf, optimizer.param_groups[m.group])
        return members

    def _hosts(self, name: str) -> list[bool]:
        """For each member, whether the host kernel steps it. A rule that sums over the model takes one path for all."""
        reasons = [m.reason(self.settings[m.group]) for m in self.members]
        if any(s.rule.model_slots() for s in self.settings):
            reasons = [next(filter(None, reasons), None)] * len(reasons)
            if len({m.program for m in self.members}) > 1 and reasons[0]:
                raise ValueError(
                    f"`{name}` sums over the model, so its groups must agree in all flags here: {reasons[0]}."
                )
        return [takes_host(name, self.kernels[m.group], r) for m, r in zip(self.members, reasons, strict=True)]

    def _count(self, optimizer: Any) -> None:
        """Finds where steps are counted: one tensor for all, or, for `step`s of other kinds, each in its own."""
        counting = [m.held for m in self.members if m.rule.counts == "step" and m.held is not None]
        plain = [h for h in counting if state.countable(h["step"])]
        counter = optimizer._counter
        if plain and (counter is None or not all(map(counter.has, plain))):
            counter = optimizer._counter = state.Counter(optimizer)
        self.counter = counter if plain else None
        self.loose = [h["step"] for h in counting if not state.countable(h["step"])]
        self.increment: Any = 1
        if self.counter is not None and len(plain) < len(self.counter.held):
            self.increment = torch.zeros_like(self.counter.flat)
            self.increment[[self.counter.places[id(h)] for h in plain]] = 1

    def _lay_out(self, grads: list[Any]) -> None:
        """The address tables of the host members."""
        entries = [
            (m.program, m.leaf.shape, dict(zip(("p", "g", *m.slots), map(state.name_of, m.arrays()), strict=True)))
            for m in self.hosts
        ]
        planned = host.plan(entries)
        self.batches, self.places = [b for b, _ in planned], [np.array(i) for _, i in planned]
        self.tables = [
            np.array([[x.data_ptr() for x in self.hosts[i].arrays()] for i in where], dtype=np.int64)
            for _, where in planned
        ]
        self.moving = [
            (table, row, self.hosts[i])
            for table, where in zip(self.tables, self.places, strict=True)
            for row, i in enumerate(where)
            if not self.hosts[i].walks()
        ]
        self.fixed = [x for m in self.hosts for k, x in enumerate(m.arrays()) if k != 1]
        self.addresses = list(map(Tensor.data_ptr, self.fixed))
        self.stepped, self.strides = [m.p for m in self.hosts], [m.p.stride() for m in self.hosts]
        self.grads, self.forms = grads, state.forms(grads)
        self.grad_addresses = list(map(Tensor.data_ptr, grads))
        self.empty = sum(x.numel() == 0 for x in (*self.fixed, *grads))
        if (*self.addresses, *self.grad_addresses).count(0) != self.empty:
            raise RuntimeError("A parameter, its gradient or its memory has lost its storage; it cannot be stepped.")
        self.traced_forms = [(m.p.dtype, m.p.shape) for m in self.traced]
        self.empty_grads = self.grad_addresses.count(0)

    def _look_at_state(self, optimizer: Any) -> None:
        self.state = optimizer.state
        self.dicts = list(optimizer.state.values())
        self.memory = list(chain.from_iterable(map(dict.values, self.dicts)))

    def holds(self, optimizer: Any, settings: list[Any], params: list[Tensor], found: list[Tensor | None]) -> bool:
        """Whether every tensor is what and where it was; gradients may be new ones of the same form."""
        held, dicts = optimizer.state, self.dicts
        return (
            _same(params, self.params)
            and held is self.state
            and _same(held.values(), dicts)
            and sum(map(len, dicts)) == len(self.memory)
            and all(map(operator.is_, chain.from_iterable(map(dict.values, dicts)), self.memory))
            and list(map(Tensor.data_ptr, self.fixed)) == self.addresses
            and list(map(Tensor.stride, self.stepped)) == self.strides
            and [(m.p.dtype, m.p.shape) for m in self.traced] == self.traced_forms
            and self._takes(settings)
            and self._reaches(found)
        )

    def _takes(self, settings: list[Any]) -> bool:
        """Whether these settings differ from the last ones in numbers only."""
        if not _same(settings, self.settings):
            if [s.rule.variant() for s in settings] != self.variants or [s.kernel for s in settings] != self.kernels:
                return False
            if any(s.traced for s in (*settings, *self.settings)):
                return False
            self.settings = settings
        return True

    def _reaches(self, found: list[Tensor | None]) -> bool:
        """Whether the gradients are as before, or new ones that the tables can be told of."""
        grads: list[Any] = [found[i] for i in self.position] if len(self.position) < len(found) else found
        try:
            addresses = list(map(Tensor.data_ptr, grads))
        except RuntimeError:  # a sparse one, of which a new plan will complain
            return False
        if addresses == self.grad_addresses and _same(grads, self.grads):
            return True
        if state.forms(grads) != self.forms or addresses.count(0) != self.empty_grads or any(map(Tensor.is_neg, grads)):
            return False
        self.grads, self.grad_addresses = grads, addresses
        for table, where in zip(self.tables, self.places, strict=True):
            table[:, 1] = addresses if len(where) == len(addresses) else np.array(addresses)[where]
        return True

    def _assign(self) -> None:
        """Sorts members by the scalars they need: a row for each group and step, and leaf where the rule asks."""
        values = self.counter.flat.tolist() if self.counter is not None else []
        self.version = self.counter.flat._version if self.counter is not None else 0
        self.takes: dict[Any, int] = {}
        keys = {id(m): (m.group, self._next(m, values), m.varies) for m in self.members}
        self.row_of = {i: self.takes.setdefault(key, len(self.takes)) for i, key in keys.items()}
        self.routed: dict[Any, tuple[Any, Any]] = {}
        self.shift = 0
        self.uses: list[tuple[list[int], np.ndarray | None]] = []
        for where in self.places:
            each = [self.row_of[id(self.hosts[i])] for i in where]
            order = list(dict.fromkeys(each))
            index = None if len(order) == 1 else np.array([order.index(k) for k in each], dtype=np.int64)
            self.uses.append((order, index))

    def _next(self, member: Member, values: Sequence[float]) -> Any:
        """The number of the step that this member is to take."""
        counts, held = member.rule.counts, member.held
        if counts != "step" or held is None:
            return 1 if counts == "none" or member.first else 2
        if self.counter is not None and self.counter.has(held):
            return int(values[self.counter.places[id(held)]]) + 1
        step = held["step"]
        return step.item() + 1 if type(step) is Tensor and step.device.type == "cpu" else step.double() + 1

    def _scalars(self) -> list[dict[str, Any]]:
        """The coefficients of this step, one row for each of `takes`."""
        found = []
        for take in self.takes:
            group, t, leaf = take
            setting = self.settings[group]
            rule = setting.rule if leaf is None else self._routed(take, setting.rule)
            now = t + self.shift if rule.counts == "step" else t
            xp = SCALARS if setting.traced or isinstance(now, Tensor) else HOST_SCALARS
            of_leaf = {} if leaf is None else rule.leaf_coefficients(leaf)
            found.append({**rule.scalars(xp, now), **of_leaf})
        return found

    def _routed(self, take: Any, rule: Any) -> Any:
        """The rule that steps this leaf, made again only where the group's rule has changed."""
        last = self.routed.get(take)
        if last is None or last[0] is not rule:
            last = self.routed[take] = (rule, rule.route(take[2]))
        return last[1]

    def run(self, optimizer: Any) -> None:
        """The step."""
        if self.loose or (self.counter is not None and self.counter.flat._version != self.version):
            self._assign()
        scalars = self._scalars()
        groups = optimizer.param_groups
        model = {name: groups[0][name] for name in self.model}
        new = self._run_host(scalars, model) if self.hosts else {}
        new |= self._run_traced(type(optimizer).__name__, scalars, model) if self.traced else {}
        for group in groups if new else ():
            group |= new
        self._bump()

    def _bump(self) -> None:
        if self.counter is not None:
            self.counter.flat.add_(self.increment)
            self.version = self.counter.flat._version
            self.shift += 1
        for step in self.loose:
            step.add_(1)
        if self.beginners:
            for m in self.beginners:
                m.first = False
            self.beginners = []
            self._assign()

    def _run_host(self, scalars: list[dict[str, Any]], model: dict[str, float]) -> dict[str, float]:
        lent = [(m, m.lend()) for _, _, m in self.moving]
        for (table, row, _), (_, arrays) in zip(self.moving, lent, strict=True):
            table[row] = list(map(Tensor.data_ptr, arrays))
        given = [[scalars[k] for k in order] for order, _ in self.uses]
        rows = [index for _, index in self.uses]
        new = host.run(self.batches, self.tables, given, rows, model, torch.get_num_threads())
        for m, arrays in lent:
            for k, (own, x) in enumerate(zip(m.arrays(), arrays, strict=True)):
                if k != 1 and own is not x:
                    own.copy_(x)
        increment_version(self.stepped)
        return new

    def _run_traced(self, name: str, scalars: list[dict[str, Any]], model: dict[str, float]) -> dict[str, float]:
        for m in self.traced:
            m.refuse(name, m.arrays()[1], False)
        numbers = [scalars[self.row_of[id(m)]] for m in self.traced]
        pairs = list(zip(self.traced, numbers, strict=True))
        new: dict[str, float] = {}
        for together in [pairs] if model else [[pair] for pair in pairs]:
            members = [m for m, _ in together]
            program = members[0].program
            wanted = ["p", *(s.name for s in program.slots)]
            leaves = [m.load() | model for m in members]
            results = interpret(program, WAIST, leaves, [s for _, s in together], wanted)
            for m, values in zip(members, results, strict=True):
                m.store(values)
                new = {k: float(values[k]) for k in model}
        return new


def _same(found: Iterable[Any], known: Sequence[Any]) -> bool:
    """Whether these are the very objects, as many as there were."""
    found = found if isinstance(found, list) else list(found)
    return len(found) == len(known) and all(map(operator.is_, found, known))

"""What a step needs, found out once and kept for as long as nothing has moved."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch

from scirs2_adapters.core.cpu import engine as host
from scirs2_adapters.core.ops import HOST_SCALARS
from scirs2_adapters.core.program.recorded import SCALE
from scirs2_adapters.core.step.options import takes_host

from .. import state
from ..executors.cuda import Engine
from ..executors.foreach import ForeachExecutor
from ..executors.kernel import KernelExecutor, same
from ..executors.sparse_rows import SparseRowsExecutor, is_sparse
from ..ops import SCALARS
from . import sharding as shards
from .param_entry import ParamEntry
from .step_counts import StepCounts

Tensor = torch.Tensor


class Plan:
    """Who steps whom, and with which coefficients, as long as `holds` says so."""

    def __init__(
        self, optimizer: Any, settings: list[Any], params: list[Tensor], found: list[Tensor | None], scaled: bool
    ) -> None:
        self.settings, self.params = settings, params
        self.variants = [s.rule.kernel_key() for s in settings]
        self.kernels = [s.kernel for s in settings]
        self.members = self._members(optimizer, found, scaled)
        self.parts = self._parts(self._hosts(type(optimizer).__name__, found), found)
        self.rows = [part for part in self.parts if isinstance(part, SparseRowsExecutor)]
        self.clock = StepCounts(self.members)
        self.captured = [group["capturable"] for group in optimizer.param_groups]
        self.state = optimizer.state
        self.dicts = _dicts(optimizer)
        self.memory = list(chain.from_iterable(map(dict.values, self.dicts)))
        self.beginners = [m for m in self.members if m.first and m.rule.time_dependence == "first"]
        self.model = [s.name for s in settings[0].rule.model_slots()]
        self._assign()

    def _members(self, optimizer: Any, found: list[Tensor | None], scaled: bool) -> list[ParamEntry]:
        """The parameters to step, with memory; one that a group holds twice is stepped once."""
        name, members, i = type(optimizer).__name__, {}, 0
        for index, group in enumerate(optimizer.param_groups):
            shards.refuse_flat(name, optimizer, group, self.settings[index].rule)
            for p, leaf in zip(group["params"], state.leaves_of(optimizer, group), strict=True):
                g = found[i]
                if g is not None and id(p) not in members:
                    members[id(p)] = ParamEntry(optimizer, p, i, index, leaf, self.settings[index], scaled)
                    members[id(p)].refuse(name, g, group["fused"])
                    per_parameter = self.settings[index].rule.per_parameter
                    shards.refuse(name, p, g, per_parameter, members[id(p)].program, group["max_grad_norm"])
                i += 1
        groups, counting = optimizer.param_groups, [m for m in members.values() if m.rule.time_dependence == "step"]
        state.begin_counts(optimizer, [(m.p, groups[m.group]) for m in counting])
        optimizer._say()
        for m in members.values():
            m.param_state = state.init_state(optimizer, m.p, m.rule, m.leaf, groups[m.group])
        return list(members.values())

    def _hosts(self, name: str, found: list[Any]) -> list[bool]:
        """For each member, whether the host kernel steps it. A rule that sums over the model takes one path for all."""
        reasons = [m.kernel_obstacle(found[m.at], self.settings[m.group]) for m in self.members]
        if any(s.rule.model_slots() for s in self.settings):
            reasons = [next(filter(None, reasons), None)] * len(reasons)
            if len({m.program for m in self.members}) > 1 and reasons[0]:
                raise ValueError(
                    f"`{name}` sums over the model, so its groups must agree in all flags here: {reasons[0]}."
                )
        return [takes_host(name, self.kernels[m.group], r) for m, r in zip(self.members, reasons, strict=True)]

    def _parts(self, hosts: list[bool], found: list[Any]) -> list[Any]:
        """The members by who steps them: the host kernel, a kernel of their device, torch's operations."""
        sorted_: dict[Any, list[ParamEntry]] = {}
        for m, on_host in zip(self.members, hosts, strict=True):
            on_device = not on_host and m.device_kernel(found[m.at], self.settings[m.group])
            who = "host" if on_host else m.p.device if on_device else None
            sorted_.setdefault((who, is_sparse(found[m.at])), []).append(m)
        makes = {who: functools.partial(_part, who) for who, _ in sorted_}
        return [
            SparseRowsExecutor(ms, makes[who]) if sparse else makes[who](ms, found)
            for (who, sparse), ms in sorted_.items()
        ]

    def holds(self, optimizer: Any, settings: list[Any], params: list[Tensor], found: list[Any]) -> bool:
        """Whether every tensor is what and where it was; gradients may be new ones of the same form."""
        held, dicts = optimizer.state, self.dicts
        return (
            same(params, self.params)
            and held is self.state
            and same(_dicts(optimizer), dicts)
            and sum(map(len, dicts)) == len(self.memory)
            and all(map(operator.is_, chain.from_iterable(map(dict.values, dicts)), self.memory))
            and [group["capturable"] for group in optimizer.param_groups] == self.captured
            and self._takes(settings)
            and all(part.holds(found) for part in self.parts)
            and all(rows.allowed(self.settings, optimizer.param_groups) for rows in self.rows)
        )

    def _takes(self, settings: list[Any]) -> bool:
        """Whether these settings differ from the last ones in numbers only."""
        if not same(settings, self.settings):
            if [s.rule.kernel_key() for s in settings] != self.variants or [s.kernel for s in settings] != self.kernels:
                return False
            if any(s.traced for s in (*settings, *self.settings)):
                return False
            self.settings = settings
        return True

    def _assign(self) -> None:
        """Sorts members by the scalars they need: a row for each group and step, and leaf where the rule asks."""
        self.clock.look()
        self.coefficient_keys: dict[Any, int] = {}
        self.examples: list[ParamEntry] = []
        coefficient_row: dict[int, int] = {}
        for m in self.members:
            row = coefficient_row[id(m)] = self.coefficient_keys.setdefault(
                (m.group, self.clock.next(m), m.varies), len(self.coefficient_keys)
            )
            self.examples += [m] * (row == len(self.examples))
        self.others: dict[int, tuple[Any, Any]] = {}
        for part in self.parts:
            part.assign(coefficient_row)

    def _scalars(self, scales: Sequence[Any] | None) -> list[dict[str, Any]]:
        """The coefficients of this step, one row for each of `coefficient_keys`."""
        found = []
        for take, example in zip(self.coefficient_keys, self.examples, strict=True):
            group, t, leaf = take
            setting = self.settings[group]
            rule = self._other(group, setting.rule) if example.elsewhere else setting.rule
            now = t + self.clock.shift if rule.time_dependence == "step" else t
            if self.captured[group] and rule.time_dependence == "step":
                live = self.clock.on_device(example)
                now = now if live is None else live
            xp = SCALARS if setting.traced or isinstance(now, Tensor) else HOST_SCALARS
            of_leaf = {} if leaf is None else rule.leaf_coefficients(leaf)
            row = {**rule.scalars(xp, now), **of_leaf}
            if scales is not None:
                row[SCALE] = scales[group]
            found.append(row)
        return found

    def _other(self, group: int, rule: Any) -> Any:
        """The rule of what this rule does not step, made again only where the group's rule has changed."""
        last = self.others.get(group)
        if last is None or last[0] is not rule:
            last = self.others[group] = (rule, rule.other())
        return last[1]

    def run(self, optimizer: Any, found: list[Any], scales: Sequence[Any] | None) -> None:
        """The step."""
        if self.clock.stale:
            self._assign()
        scalars = self._scalars(scales)
        groups = optimizer.param_groups
        model = {name: groups[0][name] for name in self.model} if self.model else {}
        new: dict[str, float] = {}
        for part in self.parts:
            new |= part.run(found, scalars, model)
        for group in groups if new else ():
            group |= new
        self.clock.advance()
        if self.beginners:
            for m in self.beginners:
                m.first = False
            self.beginners = []
            self._assign()


def _dicts(optimizer: Any) -> list[dict[str, Any]]:
    """The memory of all parameters; other libraries keep numbers of their own beside it."""
    return [held for held in optimizer.state.values() if isinstance(held, dict)]


def _part(who: Any, members: list[ParamEntry], found: list[Any]) -> Any:
    """Steps these members: by the host kernel, by a kernel of their device, or by torch's operations."""
    if who is None:
        return ForeachExecutor(members, one_by_one=torch.is_grad_enabled())
    return KernelExecutor(host if who == "host" else Engine(who), members, found)

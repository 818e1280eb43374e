"""One step of all parameters: which path takes which, and how each is called.

A plan is what a step needs. It is made once and kept for as long as nothing has moved. Its executors step the
parameters: by kernels that get their addresses, or by torch's operations on many tensors at once. `scaling` is the
factor by which gradients are multiplied on their way into the formula.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Hashable, Sequence
from itertools import chain
from typing import cast

import torch

from scirs2_adapters.core.groups import scalars_at
from scirs2_adapters.core.ops import HOST_SCALARS
from scirs2_adapters.core.program.recorded import SCALE
from scirs2_adapters.core.step.options import HALVES, check_rounding, value_scalars
from scirs2_adapters.core.step.plan import COEFFICIENT_KEY, choose_paths, coefficient_rows, grouped, param_entry
from scirs2_adapters.core.step.protocols import Executor, Model, Scalars

from ..executors import cuda
from ..executors.closures import Loss, loss_number
from ..executors.foreach import ForeachExecutor
from ..executors.kernel import HostEngine, KernelExecutor, same
from ..executors.sparse import SparseRowsExecutor, is_sparse, refuse_layout
from ..ops import SCALARS
from ..state.group_rule import GroupRule, refuse_unlike_groups
from ..state.memory import all_or_nothing, begin_counts, init_state
from ..state.origin import TRAIN_MODE, model_numbers, refuse_evaluation
from ..state.protocols import Group, RuleOptimizerLike
from ..state.tensors import Tensor, dtensor_class, leaves_of, on_host
from . import capturing, scaling, sharding
from .param_entry import TensorEntry
from .step_counts import StepCounts

Grads = list[Tensor | None]
GroupRules = list[GroupRule]
_GRADIENT = operator.attrgetter("grad")
#: What a plan takes for granted of a group besides its rule.
_OPTIONS = operator.itemgetter("capturable", "rounding")
_OFFLOAD = operator.itemgetter("offload")
_NEEDS_VALUE = operator.attrgetter("rule.needs_value")
#: Patterns of gradients (which parameters have one) whose plans are kept.
PLANS = 8


class Plan:
    """Which executor steps which parameter, and with which coefficients. A plan is valid as long as `holds` is true."""

    def __init__(
        self, optimizer: RuleOptimizerLike, group_rules: GroupRules, params: list[Tensor], grads: Grads, scaled: bool
    ) -> None:
        self.group_rules, self.params = group_rules, params
        self.kernel_keys = _kernel_keys(group_rules)
        self.begun = 2 if any(_param_states(optimizer)) else 1  # at least so many steps
        before = sum(map(len, _param_states(optimizer)))
        self.entries = self._entries(optimizer, grads, scaled)
        begun = sum(map(len, _param_states(optimizer))) - before
        self.executors = self._executors(type(optimizer).__name__, cast(list[Tensor], grads))
        self.sparse = [e for e in self.executors if isinstance(e, SparseRowsExecutor)]
        self.step_counts = StepCounts(self.entries)
        self.options = list(map(_OPTIONS, optimizer.param_groups))
        self.state = optimizer.state
        self.param_states, self.states = _param_states(optimizer), list(optimizer.state.values())
        #: What is in all memory, as it is at any time, and an end, so that more or less of it differs somewhere.
        self.views = [*map(dict.values, self.param_states), (Plan,)]
        self.memory = list(chain.from_iterable(self.views))
        self.kept: Model = {}
        self.beginners = [entry for entry in self.entries if entry.first and entry.rule.time_dependence == "first"]
        refuse_unlike_groups(type(optimizer).__name__, group_rules)
        self.model = [s.name for s in group_rules[0].rule.model_slots()]
        for group in optimizer.param_groups if self.model else ():
            group |= model_numbers(group_rules[0].rule, [group])
        if capturing.is_capturing(params):
            capturing.refuse_plan(type(optimizer).__name__, self, begun)
        self._assign()

    def _entries(self, optimizer: RuleOptimizerLike, grads: Grads, scaled: bool) -> list[TensorEntry]:
        """The parameters to step, with memory; one that a group holds twice is stepped once."""
        name, groups, entries, index = type(optimizer).__name__, optimizer.param_groups, dict[int, TensorEntry](), 0
        for i, (group, group_rule) in enumerate(zip(groups, self.group_rules, strict=True)):
            sharding.refuse_flat(name, optimizer, group, group_rule.rule)
            check_rounding(name, group["rounding"], HALVES)
            for p, leaf in zip(group["params"], leaves_of(optimizer, group), strict=True):
                g = grads[index]
                if g is not None and id(p) not in entries:
                    place = optimizer._place(p) if group_rule.rule.numbered else None
                    entry = param_entry(index, group_rule.rule, leaf, group=i, scaled=scaled, place=place)
                    entry = entries[id(p)] = TensorEntry(entry, p, optimizer.state.get(p) or {}, group)
                    refuse_layout(name, entry.rule, g, group["fused"])
                    entry.refuse(name, group["fused"])
                    sharding.refuse(name, p, g, group_rule.rule, group["max_grad_norm"])
                index += 1
        counting = [entry for entry in entries.values() if entry.counts]
        begin_counts(optimizer, [(entry.p, groups[entry.group]) for entry in counting])
        optimizer._say()
        for entry in entries.values():
            entry.begin(init_state(optimizer, entry.p, entry.rule, entry.leaf, groups[entry.group]))
            entry.refuse_rows(name, grads[entry.index])
        return list(entries.values())

    def _on_host(self, name: str, grads: list[Tensor]) -> list[bool]:
        """For each parameter, whether the host kernel steps it."""
        obstacles = [entry.kernel_obstacle(grads[entry.index], self.group_rules[entry.group]) for entry in self.entries]
        together = any(entry.program.sums for entry in self.entries)
        kernels = [self.group_rules[entry.group].kernel for entry in self.entries]
        return choose_paths(name, kernels, obstacles, one_path=together)

    @functools.cached_property
    def numbers_stay(self) -> bool:
        """Whether numbers of the whole model stay on their device."""
        return any(isinstance(e, KernelExecutor) and not on_host(e.entries[0].p) for e in self.executors)

    def _executors(self, name: str, grads: list[Tensor]) -> list[Executor[Tensor]]:
        """Those that step the parameters: the host kernel, a kernel of their device, torch's operations."""
        devices: list[torch.device | None] = []
        for entry, by_host in zip(self.entries, self._on_host(name, grads), strict=True):
            by_kernel = by_host or cuda.steps(entry, grads[entry.index], self.group_rules[entry.group].kernel)
            devices.append(entry.p.device if by_kernel else None)
        if len(set(devices)) > 1 and any(entry.program.sums for entry in self.entries):
            devices = [None] * len(devices)  # one executor adds up what is summed over the model
        device_of = dict(zip(map(id, self.entries), devices, strict=True))

        def key(entry: TensorEntry) -> tuple[torch.device | None, bool]:
            return device_of[id(entry)], is_sparse(grads[entry.index])

        executors: list[Executor[Tensor]] = []
        for (device, sparse), entries in grouped(self.entries, key).items():
            make = functools.partial(_executor, device)
            executors.append(SparseRowsExecutor(entries, make) if sparse else make(entries, grads))
        return executors

    def holds(self, optimizer: RuleOptimizerLike, group_rules: GroupRules, params: list[Tensor], grads: Grads) -> bool:
        """Whether every tensor is what and where it was; gradients may be new ones of the same form."""
        return (
            same(params, self.params)
            and optimizer.state is self.state
            and (same(list(self.state.values()), self.states) or same(_param_states(optimizer), self.param_states))
            and all(map(operator.is_, chain.from_iterable(self.views), self.memory))
            and list(map(_OPTIONS, optimizer.param_groups)) == self.options
            and self._takes(type(optimizer).__name__, group_rules)
            and all(executor.holds(cast(list[Tensor], grads)) for executor in self.executors)
            and all(executor.allowed(self.group_rules, optimizer.param_groups) for executor in self.sparse)
        )

    def _takes(self, call: str, group_rules: GroupRules) -> bool:
        """Whether these rules differ from the last ones in numbers only."""
        if same(group_rules, self.group_rules):
            return True
        if _kernel_keys(group_rules) != self.kernel_keys or any(r.traced for r in (*group_rules, *self.group_rules)):
            return False
        refuse_unlike_groups(call, group_rules)
        self.group_rules = group_rules
        return True

    def _assign(self) -> None:
        """Finds out which parameters have the same coefficients, and tells the executors."""
        self.step_counts.look()
        steps = list(map(self.step_counts.next, self.entries))
        counting = [entry.counts for entry in self.entries]  # of two at their first step, one may stay there
        keys = list(zip(map(COEFFICIENT_KEY, self.entries), steps, counting, strict=True))
        pairs = list(zip(self.entries, steps, strict=True))
        self.latest = max([float(t) for t in (*steps, self.begun) if not isinstance(t, Tensor)])
        self.examples, rows = coefficient_rows(keys, pairs.__getitem__)
        coefficient_row = dict(zip(map(id, self.entries), rows, strict=True))
        for executor in self.executors:
            executor.assign(coefficient_row)

    def _scalars(self, scales: Sequence[scaling.Scale] | None, value: float | None) -> list[Scalars]:
        """The coefficients of this step: a row for each of `examples`."""
        rows, shared = list[Scalars](), dict[Hashable, Scalars]()  # what is the same for all parameters of a group
        for entry, now in self.examples:
            group_rule = self.group_rules[entry.group]
            rule = group_rule.other if entry.routed else group_rule.rule
            if entry.counts:
                live = self.step_counts.on_device(entry) if self.options[entry.group][0] else None
                now = now + self.step_counts.shift if live is None else live
            xp = SCALARS if group_rule.traced or isinstance(now, Tensor) else HOST_SCALARS
            key = None if isinstance(now, Tensor) else (entry.group, entry.routed, now)
            latest = now if key is None else max(now, self.latest + (self.step_counts.shift if entry.counts else 0))
            if key is None or key not in shared:
                shared[key] = {**scalars_at(rule, xp, now, latest), **value_scalars(rule, value)}
            row = {**shared[key], **(rule.leaf_coefficients(entry.leaf) if entry.per_parameter else {})}
            if scales is not None:
                row[SCALE] = scales[entry.group]
            rows.append(row)
        return rows

    def run(
        self,
        optimizer: RuleOptimizerLike,
        grads: Grads,
        scales: Sequence[scaling.Scale] | None,
        value: float | None,
    ) -> None:
        """The step; `value` is the loss, if some rule needs it."""
        if self.step_counts.stale:
            self._assign()
        scalars = self._scalars(scales, value)
        groups = optimizer.param_groups
        model = {name: groups[0][name] for name in self.model} if self.model else {}
        if model and not self.numbers_stay:
            model = {name: float(x) for name, x in model.items()}
        new: Group = {}
        for executor in self.executors:
            new |= executor.run(cast(list[Tensor], grads), scalars, model)
        self.kept = new
        for group in groups if new else ():
            group |= new
        if not self.group_rules[0].rule.estimating:
            self.step_counts.advance()
        if self.beginners:
            for entry in self.beginners:
                entry.first = False
            self.beginners = []
            self._assign()


def _kernel_keys(group_rules: GroupRules) -> list[Hashable]:
    """All of the rules that a plan takes for granted."""
    return [(group_rule.rule.kernel_key(), group_rule.kernel) for group_rule in group_rules]


def _param_states(optimizer: RuleOptimizerLike) -> list[Group]:
    """The memory of all parameters, without the numbers that other libraries keep beside it."""
    return [param_state for param_state in optimizer.state.values() if isinstance(param_state, dict)]


def _executor(device: torch.device | None, entries: list[TensorEntry], grads: Sequence[Tensor]) -> Executor[Tensor]:
    """Steps these parameters: by the host kernel, by a kernel of their device, or by torch's operations."""
    if device is None:
        return ForeachExecutor(entries, one_by_one=torch.is_grad_enabled())
    if device.type == "cpu":
        return KernelExecutor(HostEngine(), entries, grads)
    return KernelExecutor(cuda.Engine(device), entries, grads)


def step(optimizer: RuleOptimizerLike, grads: Grads | None = None, value: Loss = None) -> None:
    """One step of every parameter that has a gradient; `grads` are used in place of the gradients of the parameters.
    `value` is the loss that a closure has returned.
    """
    name, groups = type(optimizer).__name__, optimizer.param_groups
    params: list[Tensor] = list(chain.from_iterable([group["params"] for group in groups]))
    if grads is None:
        grads = list(map(_GRADIENT, params))
    if dtensor_class() in list(map(type, grads)):
        grads = sharding.aligned(params, grads)
    if TRAIN_MODE in groups[0]:
        refuse_evaluation(name, groups)
    group_rules = [optimizer._group_rule(i, group) for i, group in enumerate(groups)]  # checks what was written there
    needing = next(filter(_NEEDS_VALUE, group_rules), None)
    if captured := capturing.is_capturing(params):
        capturing.refuse_options(name, vars(optimizer), groups, needing is not None)
    loss = None if needing is None else loss_number(name, needing.rule, value)
    if any(map(_OFFLOAD, groups)):
        optimizer._offloading().step(optimizer, params, grads, group_rules, loss)
        return
    scales = scaling.scales(optimizer, grads, loss)
    if isinstance(scales, str):  # SKIP
        forget_others(optimizer, params)
        return
    plan = plan_of(optimizer, group_rules, params, grads, scales is not None)
    if captured:
        capturing.refuse_plan(name, plan)
        capturing.refuse_numbers(name, plan.kept, {key: groups[0][key] for key in plan.model})
    plan.run(optimizer, grads, scales, loss)


def plan_of(
    optimizer: RuleOptimizerLike, group_rules: GroupRules, params: list[Tensor], grads: Grads, scaled: bool
) -> Plan:
    """A plan that holds, made if there is none; `scaled` if gradients are multiplied by something."""
    pattern = (scaled, *map(type, grads), *[len(group["params"]) for group in optimizer.param_groups])
    plan: Plan | None = optimizer._plans.get(pattern)
    if plan is None or not plan.holds(optimizer, group_rules, params, grads):
        forget_others(optimizer, params)
        if len(optimizer._plans) >= PLANS:
            optimizer._plans = {}
        with all_or_nothing(optimizer):
            plan = Plan(optimizer, group_rules, params, grads, scaled)
        optimizer._plans[pattern] = plan
    return plan


def forget_others(optimizer: RuleOptimizerLike, params: list[Tensor]) -> None:
    """Keeps nothing of parameters that are no longer in the groups."""
    optimizer._plans = {k: plan for k, plan in optimizer._plans.items() if same(plan.params, params)}
    optimizer._parts = {k: part for k, part in optimizer._parts.items() if part.stands(optimizer)}


#: For a compiled training step, in which the kernel is a call that the compiler must not look into.
step_eagerly = torch._disable_dynamo(step)  # type: ignore[attr-defined]

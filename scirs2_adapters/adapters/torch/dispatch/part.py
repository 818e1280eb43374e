"""Some parameters of an optimizer, stepped by themselves.

`step` takes a `Part` in place of the optimizer: the same groups, rules and memory, but of these parameters alone, and
with separate plans. Parts that are stepped one after the other make the step of the optimizer, bit for bit, for rules
that sum over a parameter at most.

Copies in host memory may stand for the parameters, which then have their memory there as well.
"""

from __future__ import annotations

import functools
import weakref
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import cast

from scirs2_adapters.core.fields import Value

from ..state.group_rule import GroupRule
from ..state.protocols import Group, GroupValues, Kept, Names, Offloading, ParamState, RuleOptimizerLike
from ..state.tensors import Tensor, known_names
from .scaling import Scale
from .step import Plan, plan_of, step

#: Sets of parameters whose plans are kept. A model has one for each 2^20 numbers, or for each of its larger parameters.
PARTS = 1024


class Place:
    """A group that has some parameters of a part, and where in its list they are."""

    def __init__(self, index: int, group: Group, at: list[int]) -> None:
        self.index, self.group, self.at = index, group, at
        self.params: list[Tensor] = [group["params"][i] for i in at]

    def stands(self, groups: Sequence[Group]) -> bool:
        """Whether the group and its parameters are where they were."""
        if self.index >= len(groups) or groups[self.index] is not self.group:
            return False
        params = self.group["params"]
        return len(params) > self.at[-1] and all(params[i] is p for i, p in zip(self.at, self.params, strict=True))

    def view(self) -> Group:
        """The group as it is now, with these parameters alone."""
        names, count = self.group.get("param_names") or (), len(self.group["params"])
        some = {"param_names": [names[i] for i in self.at]} if len(names) == count else {}
        return {**self.group, **some, "params": self.params}

    def on_host(self, hosts: Mapping[int, Tensor], known: Names) -> Group:
        """The same with copies for the parameters that have one, under their names, and numbers in host memory."""
        view = {key: _to_host(value) for key, value in self.view().items() if key != "params"}
        names = known_names(known, self.view())
        view |= {"param_names": names} if any(names) else {}
        return {**view, "params": [hosts.get(id(p), p) for p in self.params]}


class Part:
    """Some parameters of an optimizer, as `step` and `Plan` see an optimizer."""

    def __init__(self, optimizer: RuleOptimizerLike, wanted: Sequence[Tensor]) -> None:
        self._optimizer = weakref.ref(optimizer)
        self.places: list[Place] = []
        missing = set(map(id, wanted))
        for index, group in enumerate(optimizer.param_groups):
            at = [i for i, p in enumerate(group["params"]) if id(p) in missing]
            first = {id(group["params"][i]): i for i in reversed(at)}  # a group may hold one twice
            missing -= first.keys()
            if first:
                self.places.append(Place(index, group, sorted(first.values())))
        self.params = [p for place in self.places for p in place.params]
        self.state: defaultdict[Tensor, Group] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self.stepped: list[Tensor] = []
        self.defaults, self._names, self._number = optimizer.defaults, optimizer._names, optimizer._number
        self._plans: Kept = {}
        self._parts: Kept = {}

    @property
    def optimizer(self) -> RuleOptimizerLike:
        """The optimizer, which lives as long as it is stepped."""
        optimizer = self._optimizer()
        if optimizer is None:
            raise ReferenceError("The optimizer of these parameters is no more.")
        return optimizer

    def stands(self, optimizer: RuleOptimizerLike) -> bool:
        """Whether its parameters are still where they were in the groups."""
        return all(place.stands(optimizer.param_groups) for place in self.places)

    def step(self) -> None:
        """Steps the parameters, by the values that their groups have now."""
        self._take([place.view() for place in self.places])
        try:
            step(cast(RuleOptimizerLike, self))
        finally:  # a step that is refused has taken back what memory it began
            self.give()

    def _take(self, groups: list[Group]) -> None:
        """Takes the values of groups, and the memory of those who are stepped."""
        state = self.optimizer.state
        self.param_groups = groups
        self.stepped = [x for group in groups for x in group["params"]]
        for gone in self.state.keys() - {*self.stepped}:
            del self.state[gone]
        for p, x in zip(self.params, self.stepped, strict=True):
            if p in state:
                self.state[x] = state[p]
            else:
                self.state.pop(x, None)

    def give(self) -> None:
        """Gives the optimizer the memory that has begun."""
        state = self.optimizer.state
        for p, x in zip(self.params, self.stepped, strict=True):
            if p not in state and x in self.state:
                state[p] = self.state[x]

    def plan(self, hosts: Mapping[int, Tensor], grads: Mapping[int, Tensor], scaled: bool) -> None:
        """Plans a step in which copies stand for some parameters; both dicts have the `id` of a parameter as keys."""
        known = self.optimizer._names
        self._take([place.on_host(hosts, known) for place in self.places])
        for x in self.stepped:
            if x.device.type == "cpu" and x in self.state:
                self.state[x] |= _memory_to_host(self.state[x])
        group_rules = [self._group_rule(i, group) for i, group in enumerate(self.param_groups)]
        here: list[Tensor | None] = [grads[id(p)] for p in self.params]
        self.planned: Plan = plan_of(cast(RuleOptimizerLike, self), group_rules, self.stepped, here, scaled)

    def run(self, grads: Mapping[int, Tensor], scales: Sequence[Scale] | None, value: float | None) -> None:
        """Makes the step that was planned; `scales` are of all groups of the optimizer, `value` is the loss."""
        mine = scales and [scales[place.index] for place in self.places]
        self.planned.run(cast(RuleOptimizerLike, self), [grads[id(p)] for p in self.params], mine, value)
        for group in self.optimizer.param_groups:
            group |= {name: self.param_groups[0][name] for name in self.planned.model}

    def _group_rule(self, index: int, group: GroupValues) -> GroupRule:
        return self.optimizer._group_rule(self.places[index].index, group)

    def _place(self, p: Tensor) -> int:
        return self.optimizer._place(next(param for param, x in zip(self.params, self.stepped, strict=True) if x is p))

    def _offloading(self) -> Offloading:
        return self.optimizer._offloading()

    def _say(self) -> None:
        self.optimizer._say()


def _to_host(value: Value) -> Value:
    """A value of a group; a tensor is copied to host memory."""
    if isinstance(value, tuple):
        return tuple(map(_to_host, value))
    return value.to("cpu") if isinstance(value, Tensor) else value


def _memory_to_host(param_state: ParamState) -> ParamState:
    """Host copies of the tensors in a parameter's memory that lie elsewhere, as from before it was offloaded."""
    moved = {name: x for name, x in param_state.items() if isinstance(x, Tensor) and x.device.type != "cpu"}
    return {name: x.to("cpu") for name, x in moved.items()}


@functools.cache
def _class_for(name: str) -> type[Part]:
    """The class of this name, which is that of the optimizer: errors of a step say it."""
    return type(name, (Part,), {})


def part_of(optimizer: RuleOptimizerLike, params: Sequence[Tensor]) -> Part:
    """These parameters of an optimizer, but for those that are in none of its groups."""
    return _class_for(type(optimizer).__name__)(optimizer, params)


def kept_part(optimizer: RuleOptimizerLike, params: Sequence[Tensor]) -> Part:
    """The part of these parameters that was stepped before, if nothing has changed, or a new one."""
    key = tuple(map(id, params))
    part: Part | None = optimizer._parts.get(key)
    # A parameter that is in no group is not in the part, because its `id` may become that of another tensor.
    if part is None or len(part.params) < len(params) or not part.stands(optimizer):
        part = part_of(optimizer, params)
        kept = {k: other for k, other in optimizer._parts.items() if other.stands(optimizer)}
        optimizer._parts = {**(kept if len(kept) < PARTS else {}), key: part}
    return part

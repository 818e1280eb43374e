"""What the files of this adapter know of an optimizer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from .group_rule import GroupRule

Tensor = torch.Tensor
#: A parameter group, and one that is only read: torch's type of them.
Group = dict[str, Any]
GroupValues = Mapping[str, Any]
#: The memory of one parameter: `step` and the slots, by torch's names.
ParamState = dict[str, Tensor]
#: What is kept between steps for a set of parameters: plans by pattern, parts by the parameters' `id`s.
Kept = dict[Hashable, Any]
#: A state dict.
Saved = Mapping[str, Any]
#: The name of each parameter that has one; keeps no parameter alive.
Names = WeakTensorKeyDictionary


class Offloading(Protocol):
    """What steps on the host the parameters that lie elsewhere."""

    @property
    def allocated(self) -> int: ...

    def step(
        self,
        optimizer: RuleOptimizerLike,
        params: list[Tensor],
        grads: list[Tensor | None],
        rules: list[GroupRule],
        value: float | None,
    ) -> None:
        """One step of all parameters, wherever they lie."""


class RuleOptimizerLike(Protocol):
    """A torch optimizer that steps by rules: torch's attributes, and those that files of this adapter share."""

    param_groups: list[Group]
    state: defaultdict[Tensor, Any]
    defaults: Group
    _names: Names
    _number: int
    _plans: Kept
    _parts: Kept

    def _group_rule(self, index: int, group: GroupValues) -> GroupRule:
        """The rule of a group as its values are now."""

    def _place(self, p: Tensor) -> int:
        """Where a parameter is among those of all groups."""

    def _offloading(self) -> Offloading:
        """What steps those of its parameters that are offloaded."""

    def _say(self) -> None:
        """Says at the first step what another algorithm steps."""

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> Any: ...

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> Any: ...

"""Optimizers that evaluate the model inside a step: a search over all parameters, and a wrapper around a base.

Both drive the core's generator and answer it by the user's closure. The first keeps its memory under the first
parameter, as torch's L-BFGS does. The second is like any other optimizer, but goes elsewhere for the gradient.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NoReturn

import torch

from scirs2_adapters.core.closures._search import check_closure, drive
from scirs2_adapters.core.closures.lbfgs import UNSEEN
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.fields import Value
from scirs2_adapters.core.memory import Memory
from scirs2_adapters.core.rule import Rule

from ..argument_names import TORCH, arguments_by_name, build, places
from ..dispatch.scaling import count_skipped
from ..dispatch.step import step
from ..executors import closures
from ..executors.closures import Loss
from ..executors.compiled import eagerly
from ..state.group_rule import GroupRule
from ..state.matching import reordered
from ..state.protocols import Group, Saved
from ..state.tensors import Tensor
from . import memory_report
from .hooks import Closure, Hooked, Optimizer
from .released import refuse_closure
from .rules import RuleOptimizer

RETURNS = "clears the gradients, computes the loss, calls backward and returns the loss"
#: The memory of a search in torch's order, and what of it torch has as tensors without axes where the core has numbers.
ORDER = ("func_evals", "n_iter", "al", "d", "t", "old_dirs", "old_stps", "ro", "H_diag", "prev_flat_grad", "prev_loss")
TENSORS = ("al", "ro", "H_diag")


class ClosureOptimizer(Hooked):
    """What both have in common: a step needs a closure."""

    _search: Callable[..., Loss]
    #: The alternative for a user who has passed no closure.
    _also = ""

    def _advance(self, closure: Closure | None = None, **options: object) -> Loss:
        """Perform a single optimization step; `closure` reevaluates the model and returns the loss."""
        closure = check_closure(type(self).__name__, closure, RETURNS, self._also)
        search = functools.partial(self._search, closure, **options)
        return eagerly(search) if torch.compiler.is_compiling() else search()

    _hooked = Optimizer.profile_hook_step(_advance)

    def release_gradients(self) -> NoReturn:
        """Refused: a step needs all gradients of several evaluations."""
        refuse_closure(type(self).__name__)


class AroundOptimizer(ClosureOptimizer, RuleOptimizer):
    """A wrapper that lets its base step by the gradient at another point."""

    _also = ", and `optimizer.step(closure, scaler=scaler)` where the loss is scaled"

    def step(self, closure: Closure | None = None, scaler: torch.amp.GradScaler | None = None) -> Loss:  # type: ignore[override]
        """Perform a single optimization step; `closure` reevaluates the model and returns the loss.

        With a `scaler`, of which the caller calls `update` after the step, the closure is to call
        `scaler.scale(loss).backward()`. Where gradients overflow, nothing is stepped.
        """
        return super().step(closure, **({} if scaler is None else {"scaler": scaler}))

    step.hooked = step.unwrapped = True  # type: ignore[attr-defined]

    def _prepare(self) -> None:
        super()._prepare()
        self._evaluated = closures.Evaluated(), closures.Evaluated()

    def _refuse(self, rule: GroupRule) -> None:
        RuleOptimizer._refuse(self, rule)
        names = {TORCH.spell(k, self.rule_class.fields) for k in self.rule_class.fields}
        both = names & {TORCH.spell(k, rule.rule.fields) for k in rule.rule.fields}
        if both:
            worded = f"must have no argument `{min(both)}`, for {type(self).__name__} has one"
            raise bad_value(type(self).__name__, "base", worded, rule.rule.name)

    def _search(self, closure: Closure, scaler: torch.amp.GradScaler | None = None) -> Loss:
        closures.check_scaler(type(self).__name__, scaler)
        rules: list[Rule] = []
        params: list[Tensor] = []
        for i, group in enumerate(self.param_groups):
            rules += [self._group_rule(i, group).whole] * len(group["params"])
            params += group["params"]
        places = zip((False, True), self._evaluated, strict=True)
        look = functools.partial(closures.unscale, self.param_groups, scaler, places)
        evaluations = closures.Evaluations(type(self).__name__, params, closure, look)
        search = self.rule_class.search  # type: ignore[attr-defined]
        with torch.no_grad():
            try:
                drive(search(closures.SPACE, rules, map(closures.load, params)), evaluations.at_tensors)
            except closures.NotFinite:
                count_skipped(self.param_groups)
                return evaluations.first
            finally:
                evaluations.restore()
            step(self)
        return evaluations.first


class SearchOptimizer(ClosureOptimizer):
    """A search over one vector of all parameters."""

    rule_class: ClassVar[type[Rule]]
    _signature: ClassVar[inspect.Signature]
    #: The point before a step whose end was not evaluated. torch's state dict has no place for it.
    _seen: Mapping[str, Tensor] = {}

    def __init__(self, params: Any, *args: Value, **keywords: Value) -> None:
        call = self.rule_class.__name__
        rule = build(self.rule_class, arguments_by_name(call, self._signature, args, keywords), None)
        settled = rule.settled()  # type: ignore[attr-defined]
        Optimizer.__init__(self, params, TORCH.to_framework(settled, rule.fields))
        self._group()

    def __setstate__(self, saved: Group) -> None:
        Optimizer.__setstate__(self, saved)
        self.defaults.pop("differentiable", None)  # which torch adds to every copy, and is no argument here
        for group in self.param_groups:
            group |= {k: v for k, v in self.defaults.items() if k not in group}

    def _group(self) -> Group:
        """The one group that there may be."""
        if len(self.param_groups) == 1:
            return self.param_groups[0]
        name = type(self).__name__
        worded = f"must be of one group. {name} doesn't support per-parameter options (parameter groups)"
        raise bad_value(name, "params", worded, f"{len(self.param_groups)} groups")

    def _search(self, closure: Closure) -> Loss:
        group = self._group()
        values = {word: group[word] for word in places(self.rule_class, None)}
        numbers = {k: closures.number(v) if isinstance(v, Tensor) and v.numel() == 1 else v for k, v in values.items()}
        search = build(self.rule_class, numbers, None).search  # type: ignore[attr-defined]
        params = group["params"]
        evaluations = closures.Evaluations(type(self).__name__, params, closure)
        with torch.no_grad():
            start = closures.flat(params)
            memory = {k: _core(v, start) for k, v in self.state[params[0]].items() if k in ORDER and v is not None}
            try:
                end, memory = drive(search(closures.SPACE, start, memory | dict(self._seen)), evaluations.at_vector)
                self._seen = {k: x for k, x in memory.items() if k == UNSEEN}
                if end is start:
                    evaluations.restore()
                else:
                    evaluations.place_flat(end)
            except BaseException:
                evaluations.restore()
                raise
            others = {k: v for k, v in self.state[params[0]].items() if k not in ORDER}
            self.state[params[0]] = {k: _torch(k, memory[k], start) for k in ORDER if k in memory} | others
        return evaluations.first

    def memory(self) -> Memory:
        """How many bytes parameters, gradients and state take: the state with all pairs of `history_size`."""
        group = self._group()
        return memory_report.of_search(group, self.state.get(group["params"][0]), self._seen.values())

    def load_state_dict(self, state_dict: Group) -> None:
        """Load a dict of ours or of torch's class of this name. Memory keeps the dtype it was saved in."""
        memory: list[Saved] = []
        names = self._group().get("param_names")

        def restore(_: object) -> None:
            if memory[0]:
                p = self._group()["params"][0]
                self.state[p] = {k: _copied(v, p.device) for k, v in memory[0].items()}
            if names:
                self._group()["param_names"] = names

        with (
            self.register_load_state_dict_pre_hook(lambda _, saved: memory.append(self._checked(saved))),
            self.register_load_state_dict_post_hook(restore, prepend=True),
        ):
            Optimizer.load_state_dict(self, state_dict)

    def _checked(self, saved: Saved) -> Saved:
        """The memory in a state dict; that of another optimizer or model is refused before anything is changed."""
        call = f"{type(self).__name__}.load_state_dict"
        wanted = f"must be a state dict of {type(self).__name__}"
        memory: Saved = saved["state"].get(saved["param_groups"][0]["params"][0]) or {}
        for group in saved["param_groups"]:
            missing = [word for word in places(self.rule_class, None) if word not in group]
            if missing and not memory.keys() & set(ORDER):
                raise bad_value(call, "state_dict", f"{wanted}; its group has no {missing[0]!r}", sorted(group))
        if memory and not memory.keys() & set(ORDER):
            raise bad_value(call, "state_dict", f"{wanted}; its memory has {min(memory)!r}", sorted(map(str, memory)))
        size = sum(p.numel() * (2 if p.is_complex() else 1) for p in self._group()["params"])
        for key, value in memory.items():
            for x in value if isinstance(value, list) else [value]:
                if isinstance(x, Tensor) and x.ndim and x.shape != (size,):
                    raise bad_value(call, f"state_dict['state'][0][{key!r}]", f"must be of {size} elements", x)
        saved_names, names = (g.get("param_names") or () for g in (saved["param_groups"][0], self._group()))
        return reordered(call, memory, saved_names, names, self._group()["params"])


def _core(value: Value, like: Tensor) -> Value:
    """Memory as the core has it: vectors, plain numbers, and lists of them."""
    if isinstance(value, list):
        return [_core(x, like) for x in value]
    if isinstance(value, Tensor):
        return value.to(like) if value.ndim else value.item()
    return value


def _torch(key: str, value: Value, like: Tensor) -> Value:
    """Memory as torch has it."""
    if key in TENSORS and isinstance(value, list):
        known = [x for x in value if x is not None]
        return [*like.new_tensor(known).unbind(), *[None] * (len(value) - len(known))]
    return like.new_tensor(value) if key in TENSORS and isinstance(value, float) else value


def _copied(value: Value, device: torch.device) -> Value:
    if isinstance(value, list):
        return [_copied(x, device) for x in value]
    return value.detach().to(device, copy=True) if isinstance(value, Tensor) else value

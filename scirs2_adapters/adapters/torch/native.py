"""torch optimizers made from rules, one class for each; where torch has the optimizer, a subclass of torch's own.

torch's constructor is passed over and `torch.optim.Optimizer`'s is called: groups, hooks, schedulers and checkpoints
are the base's own. Hyperparameters live in the groups and are read there at every step. Everything private is a cache,
made anew after a copy.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch._C._autograd import _profiler_enabled
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from scirs2_adapters.core.document import document
from scirs2_adapters.core.errors import bad_type
from scirs2_adapters.core.fields import Field, positive
from scirs2_adapters.core.options import check_path, check_state_dtype, takes_host
from scirs2_adapters.core.registry import get
from scirs2_adapters.core.rule import Rule

from . import paths, state
from .dialect import (
    FLAGS,
    NONE_IS_DEFAULT,
    OURS,
    TORCH,
    build,
    given_by_name,
    native_class,
    refuse,
    signature,
    signed,
)
from .paths import rows
from .paths.member import reason_against

Optimizer = torch.optim.Optimizer


LIMIT = positive(None, "largest norm of all gradients together")


class RuleOptimizer(Optimizer):
    """Any rule as a torch optimizer. Its classes are made by `optimizer`, one for each rule."""

    rule_class: ClassVar[type[Rule]]
    _known: ClassVar[inspect.Signature]
    #: `torch.amp.GradScaler` hands its scale and what it found to the step, which divides as it reads.
    _step_supports_amp_scaling = True

    def __init__(self, params: Any, *args: Any, **given: Any) -> None:
        call = self.rule_class.__name__
        given = given_by_name(call, self._known, args, given)
        options = {k: given.pop(k, v) for k, v in {**FLAGS, **OURS}.items()}
        rule = build(self.rule_class, given, options["match"])
        options["match"] = rule.match  # a base that is a rule brings its own
        refuse(rule)
        _check_flags(call, options, given.get("lr"))
        options["state_dtype"] = _named(options["state_dtype"])
        check_path(call, options["kernel"])
        check_state_dtype(call, options["state_dtype"], rule.all_slots())
        LIMIT.check(call, "max_grad_norm", options["max_grad_norm"])
        config = {k: v for k, v in rule.get_config().items() if k in rule.fields}
        base = {"base": rule.base.name} if hasattr(rule, "base") else {}
        defaults = {**base, **TORCH.to_host(config, rule.fields), **options, **signed(rule)}
        defaults |= _numbers(rule)
        self._prepare()
        Optimizer.__init__(self, params, defaults)
        self._check_groups()

    def _check_groups(self) -> None:
        """What the groups ask for is checked at the door as well; numbers of the model are those of the first."""
        rules = [self._setting(i, group).rule for i, group in enumerate(self.param_groups)]
        for group in self.param_groups:
            LIMIT.check(type(self).__name__, "max_grad_norm", group["max_grad_norm"])
            group |= _numbers(rules[0])
            for p in group["params"] if group["kernel"] == "host" else ():
                takes_host(type(self).__name__, "host", reason_against(p))
        rows.check_parameters(type(self).__name__, rules[0], self.param_groups)

    def _prepare(self) -> None:
        self._settings: dict[int, Setting] = {}
        self._plans: dict[Any, Any] = {}
        self._counters: dict[torch.device, Any] = {}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        Optimizer.__setstate__(self, saved)
        self._prepare()
        state.fill(self)

    def _setting(self, index: int, group: Mapping[str, Any]) -> Setting:
        """The rule of a group as its values are now; the same object as long as they do not change."""
        last = self._settings.get(index)
        if last is None or not last.holds(group):
            self._settings[index] = last = Setting(self.rule_class, group, last)
        return last

    def _all_or_nothing(self, make: Callable[..., Any], *args: Any) -> Any:
        """What `make` returns; if it raises, the memory it has begun is taken back, for a refused step leaves none."""
        before = {p: set(held) for p, held in self.state.items()}
        try:
            return make(self, *args)
        except BaseException:
            for p, held in list(self.state.items()):
                for name in held.keys() - before.get(p, set()):
                    del held[name]
                if p not in before:
                    del self.state[p]
            raise

    def state_dict(self) -> dict[str, Any]:
        """Parameters by number, their memory and the groups: what torch's class of this name makes and takes."""
        return state.export(self, Optimizer.state_dict(self))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a dict of ours or of torch's class of this name. Memory keeps the dtype it was saved in."""
        seen: list[dict[str, Any]] = []
        before = [state.options(group) for group in self.param_groups]
        rule = self._setting(0, self.param_groups[0]).rule

        def look(optimizer: Any, saved: dict[str, Any]) -> None:
            state.check(optimizer, rule, saved)
            seen.append(saved)

        hooks = [
            self.register_load_state_dict_pre_hook(look),
            self.register_load_state_dict_post_hook(lambda o: state.restore(o, seen[0], before), prepend=True),
        ]
        try:
            Optimizer.load_state_dict(self, state_dict)
        finally:
            for hook in hooks:
                hook.remove()

    def _advance(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform a single optimization step; `closure` reevaluates the model and returns the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.set_grad_enabled(bool(self.defaults["differentiable"])):
            (paths.step_eagerly if torch.compiler.is_compiling() else paths.step)(self)
        return loss

    _hooked = Optimizer.profile_hook_step(_advance)

    def step(self, *args: Any, **kwargs: Any) -> Any:
        # torch wraps the step of a user's subclass itself; wrapped here as well, hooks would be called twice.
        run = self._hooked if type(self).step is RuleOptimizer.step and _watched(self) else self._advance
        return run(*args, **kwargs)

    functools.update_wrapper(step, _advance)  # as a decorator it would hide the method from type checkers
    step.hooked = True  # type: ignore[attr-defined]


def _watched(optimizer: Any) -> bool:
    """Whether anyone would notice torch's wrapper around a step, which takes as long as the step of a small model."""
    mine = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    return bool(mine or _global_optimizer_pre_hooks or _global_optimizer_post_hooks or _profiler_enabled())


class Setting:
    """A group's rule, and the values it is made of. Values that can change in place are read again at each step."""

    def __init__(self, cls: type[Rule], group: Mapping[str, Any], last: Setting | None) -> None:
        self.kernel, self.match, self.base = group["kernel"], group["match"], group.get("base")
        same = last if last is not None and (last.base, last.match) == (self.base, self.match) else None
        fields = cls.fields_with(self.base) if same is None else same.fields
        self.fields: Mapping[str, Field] = fields
        self.places: list[tuple[str, str, int | None]] = TORCH.places(fields) if same is None else same.places
        hosts = (h for _, h, _ in self.places)
        self.keys: tuple[str, ...] = (*hosts, "base", "match", "kernel") if same is None else same.keys
        self.values = [group.get(k) for k in self.keys]
        self.live = any(map(_changeable, self.values))
        core = self._core(group)
        self.traced = any(isinstance(v, torch.Tensor) for v in core.values())
        self.rule: Rule = (self._checked(cls, group) if same is None else same.rule).revalued(core)

    def _core(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """The group's values under the core's words."""
        found = {c: _number(group[h] if i is None else group[h][i]) for c, h, i in self.places}
        return found | {
            c: self.fields[c].default for c, h, _ in self.places if h in NONE_IS_DEFAULT and found[c] is None
        }

    def _checked(self, cls: type[Rule], group: Mapping[str, Any]) -> Rule:
        hosts = {h: group[h] for _, h, _ in self.places if h not in NONE_IS_DEFAULT or group[h] is not None}
        return build(cls, hosts | ({"base": self.base} if self.base else {}), self.match)

    def holds(self, group: Mapping[str, Any]) -> bool:
        """Whether the group still has these values."""
        return not self.live and [group.get(k) for k in self.keys] == self.values


def _changeable(value: Any) -> bool:
    return isinstance(value, (torch.Tensor, list)) or (isinstance(value, tuple) and any(map(_changeable, value)))


def _number(value: Any) -> Any:
    """A CPU tensor as the number it is now; one that is differentiated, or lies elsewhere, stays a tensor."""
    if not isinstance(value, torch.Tensor):
        return tuple(value) if isinstance(value, list) else value
    plain = type(value) is torch.Tensor and value.device.type == "cpu"
    return value.item() if plain and not (value.requires_grad and torch.is_grad_enabled()) else value.reshape(())


def _named(state_dtype: Any) -> Any:
    """torch dtypes by their names."""
    if isinstance(state_dtype, Mapping):
        return {k: _named(v) for k, v in state_dtype.items()}
    return state.dtype_name(state_dtype) if isinstance(state_dtype, torch.dtype) else state_dtype


def _numbers(rule: Rule) -> dict[str, float]:
    """What a rule keeps for the whole model, before the first step."""
    return {s.name: float(s.first(rule)) for s in rule.model_slots()}


def _check_flags(call: str, options: Mapping[str, Any], lr: Any) -> None:
    for key, default in FLAGS.items():
        if not isinstance(options[key], (bool, type(default))):
            raise bad_type(call, key, "must be True or False" + (" or None" if default is None else ""), options[key])
    if options["fused"] and options["foreach"]:
        raise RuntimeError(f"`{call}`: `fused` and `foreach` cannot be `True` together.")
    if options["fused"] and options["differentiable"]:
        raise RuntimeError(f"`{call}`: `fused` does not support `differentiable`.")
    if isinstance(lr, torch.Tensor) and options["foreach"] and not options["capturable"]:
        raise ValueError(f"`{call}`: lr as a Tensor is not supported for capturable=False and foreach=True.")


def _example(name: str) -> list[str]:
    return [
        ">>> import torch",
        f">>> from {__package__.replace('.adapters', '')} import {name}",
        ">>> model = torch.nn.Linear(2, 2)",
        f">>> optimizer = {name}(model.parameters())",
        ">>> model(torch.ones(3, 2)).sum().backward()",
        ">>> optimizer.step()",
    ]


def _constructor(name: str, known: inspect.Signature) -> Callable[..., None]:
    """A constructor that shows its arguments; on the function, where a subclass with its own does not inherit them."""

    def __init__(self: RuleOptimizer, params: Any, *args: Any, **given: Any) -> None:
        RuleOptimizer.__init__(self, params, *args, **given)

    __init__.__qualname__ = f"{name}.__init__"  # Python's own errors say it
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    __init__.__signature__ = known.replace(parameters=[own, *known.parameters.values()])  # type: ignore[attr-defined]
    return __init__


@functools.cache
def optimizer(name: str) -> type[RuleOptimizer]:
    """The torch class of the rule of this name."""
    rule = get(name)
    fields, theirs = rule.fields_with(), native_class(rule)
    also = (*rule.options, "max_grad_norm", "kernel", "state_dtype")
    body: dict[str, Any] = {
        "__module__": __package__.replace(".adapters", ""),
        "__doc__": document(rule.text, fields, _example(rule.__name__), lambda k: TORCH.spell(k, fields), also),
        "__init__": _constructor(rule.__name__, signature(rule)),
        "_known": signature(rule),
        "rule_class": rule,
    }
    bases = (RuleOptimizer,) if theirs is Optimizer else (RuleOptimizer, theirs)
    return type(rule.__name__, bases, body)

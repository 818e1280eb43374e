"""torch optimizers made from rules, one class for each; where torch has the optimizer, a subclass of torch's own.

torch's constructor is passed over and `torch.optim.Optimizer`'s is called: groups, hooks, schedulers and checkpoints
are those of the base. Hyperparameters live in the groups and are read there at every step. Everything private is a
cache, made anew after a copy.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from itertools import chain
from typing import Any, ClassVar

import torch

from scirs2_adapters.core import routing
from scirs2_adapters.core.argument_names import Values
from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.fields import Value
from scirs2_adapters.core.memory import Memory
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Leaf
from scirs2_adapters.core.step.options import check_rounding, check_state_dtype, takes_host

from ..argument_names import FLAGS, LISTS, OURS, arguments_by_name, build, group_values, plain_group, refuse, tensors
from ..dispatch import scaling, sharding
from ..dispatch.offload import Offload, check_offload, refuse_dtensor
from ..dispatch.param_entry import tensor_obstacle
from ..dispatch.step import step
from ..executors import compiled, sparse
from ..executors.closures import Loss, check_closure
from ..state.group_rule import GroupRule, refuse_unlike_groups, rule_of
from ..state.matching import Report
from ..state.origin import group_marks, model_numbers
from ..state.protocols import Group, GroupValues, Kept, Names
from ..state.state_dict import export, fill, load, of_groups
from ..state.tensors import Tensor, dtype_name, is_offloaded, leaves_of, remember_names
from . import memory_report
from .hooks import Closure, Hooked, Optimizer
from .released import ReleasedGradients, release_gradients

#: Among the rules of groups, the one of the constructor's arguments.
DEFAULTS = -1


class RuleOptimizer(Hooked):
    """Any rule as a torch optimizer. Its classes are made by `optimizer`, one for each rule."""

    rule_class: ClassVar[type[Rule]]
    _signature: ClassVar[inspect.Signature]
    _names: Names
    _group_rules: dict[int, GroupRule]
    _plans: Kept
    _parts: Kept
    _number: int
    _offload: Offload | None
    _said = False
    #: The handle in force, or the last one until a step.
    _released: ReleasedGradients | None = None

    def __init__(self, params: Any, *args: Value, **keywords: Value) -> None:
        call = self.rule_class.__name__
        arguments = arguments_by_name(call, self._signature, args, keywords)
        options = {key: arguments.pop(key, default) for key, default in {**FLAGS, **OURS}.items()}
        rule = build(self.rule_class, arguments, options["match"])
        options["match"] = rule.match  # a base that is a rule has a `match`
        refuse(rule)
        _check_flags(call, options, arguments)
        if options["state_dtype"] is not None:
            options["state_dtype"] = _named(options["state_dtype"])
            check_state_dtype(call, options["state_dtype"], rule.all_slots())
        # Arguments and nothing else: others make a second optimizer by `type(o)(params, **o.defaults)`.
        defaults = {**group_values(rule), **options}
        vars(self).update(defaults=defaults, _names=Names())
        self._prepare()
        self._group_rules[DEFAULTS] = GroupRule(rule, defaults)
        Optimizer.__init__(self, params, defaults)
        first = self._group_rule(0, self.param_groups[0]).rule
        sparse.check_parameters(call, first, self.param_groups)
        sharding.refuse_divided(call, first, self.param_groups)
        scaling.check_skipping(call, self.param_groups)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group to the optimizer's `param_groups`, as torch does; its values are checked first."""
        if isinstance(param_group, dict):
            self._admit(param_group)
        Optimizer.add_param_group(self, param_group)
        group = self.param_groups[-1]
        self._check_params(group)
        remember_names(self._names, group)
        sharding.note(self, group, self._group_rules[len(self.param_groups) - 1].rule)
        for p in group["params"] if group["kernel"] == "host" else ():
            takes_host(type(self).__name__, "host", tensor_obstacle(p, is_offloaded(group, p)))
        if self._released is not None:
            self._released.watch()

    def release_gradients(self) -> ReleasedGradients:
        """Step parameters inside backward, each as soon as its gradient is complete, and free the gradient.

        The numbers are those of usual steps, and the learning rate is that at the time of backward. `optimizer.step()`
        stays in the loop: it calls step hooks, tells schedulers of the step and steps the gradients that are left, if
        any. The returned handle is in force until its `remove()`, or as a context manager to the end of the block;
        where gradients of several backward passes accumulate, only the last pass is in the block.

        Raises where a step needs all gradients at once: `max_grad_norm`, `skip_nonfinite`, `differentiable`, a rule
        that sums over the model, SAM and LBFGS, a `GradScaler`, `DistributedDataParallel`; or where a handle is in
        force.

        >>> import torch
        >>> from scirs2_adapters.torch import AdamW
        >>> model = torch.nn.Linear(2, 2)
        >>> optimizer = AdamW(model.parameters(), lr=1e-3)
        >>> with optimizer.release_gradients():
        ...     model(torch.ones(3, 2)).sum().backward()
        >>> model.weight.grad is None
        True
        >>> optimizer.step()
        """
        self._released = release_gradients(self, self._released)
        return self._released

    def memory(self) -> Memory:
        """How many bytes parameters, gradients and state take in this process, and what steps are planned with.

        State is told before the first step as it will be after it, and nothing is allocated for that: parameters may
        be on the device "meta". Gradients are those that there are now. What the model's activations take is not in it.

        >>> import torch
        >>> from scirs2_adapters.torch import AdamW
        >>> model = torch.nn.Linear(1024, 1024, bias=False, device="meta")
        >>> memory = AdamW(model.parameters(), state_dtype="int8").memory()
        >>> memory.state["exp_avg"], round(memory.bytes_per_parameter, 2)
        ({'int8': 1048576}, 6.03)
        """
        return memory_report.of_rules(self, self.rule_class.needs_closure)

    def _admit(self, group: Group) -> None:
        """Puts plain values into a new group, checks them, and adds what every group says of its optimizer. Numbers of
        the model are those of the first group.
        """
        call = type(self).__name__
        options = plain_group({k: v for k, v in group.items() if k not in LISTS}, self.defaults)
        if options.get("state_dtype") is not None:
            options["state_dtype"] = _named(options["state_dtype"])
        values = {**self.defaults, **options}
        check_offload(call, values)
        group_rule = self._group_rule(DEFAULTS, self.defaults).after(values)
        self._refuse(group_rule)
        scaling.check_skipping(call, [*self.param_groups, values])
        rules = [self._group_rule(i, other) for i, other in enumerate(self.param_groups[:1])]
        refuse_unlike_groups(call, [*rules, group_rule])
        self._group_rules[len(self.param_groups)] = group_rule
        check_state_dtype(call, options.get("state_dtype"), group_rule.rule.all_slots())
        group |= {**options, **group_marks(group_rule.whole), **model_numbers(group_rule.rule, self.param_groups)}

    def _check_params(self, group: Group) -> None:
        """Refuse a group with options that do not fit its parameters, and take it away again."""
        try:
            refuse_dtensor(type(self).__name__, group)
            if group["rounding"] != "nearest":
                check_rounding(type(self).__name__, group["rounding"], [dtype_name(p.dtype) for p in group["params"]])
        except ValueError:
            del self.param_groups[-1]
            raise

    def _place(self, p: Tensor) -> int:
        """Where a parameter is among those of all groups."""
        params = chain.from_iterable([group["params"] for group in self.param_groups])
        return next(i for i, other in enumerate(params) if other is p)

    def _refuse(self, rule: GroupRule) -> None:
        """Refuse what a group asks for and this class cannot do; nothing here."""

    def explain(self) -> str:
        """Which algorithm steps which parameter, a line for each, and why; and whether the host does."""
        away = [is_offloaded(group, p) for group in self.param_groups for p in group["params"]]
        lines = zip(routing.explained(self._routed()), away, strict=True)
        return "\n".join([f"{line}, offloaded to the host" if there else line for line, there in lines])

    def _offloading(self) -> Offload:
        if self._offload is None:
            self._offload = Offload()
        return self._offload

    def _routed(self) -> list[tuple[Rule, Leaf]]:
        """Every parameter, with the rule of its group."""
        pairs = [(self._group_rule(i, group).rule, group) for i, group in enumerate(self.param_groups)]
        return [(rule, leaf) for rule, group in pairs for leaf in leaves_of(self, group)]

    def _say(self) -> None:
        """Says at the first step what another algorithm steps."""
        if not self._said:
            self._said = True
            routing.say(type(self).__name__, self._routed())

    def _prepare(self) -> None:
        scaled = self.defaults.get("fused") or self.defaults.get("offload")
        if scaled and not self.rule_class.needs_closure:
            # `GradScaler` then hands its scale to the step, as to torch's fused classes; nobody else expects to see
            # gradients that are scaled. Offloaded ones are on the host by then, and would have to be copied once more.
            self._step_supports_amp_scaling = True
        vars(self).update(_group_rules={}, _plans={}, _parts={}, _offload=None, _number=compiled.enlist(self))
        self._needs_value = rule_of(self.rule_class, self.defaults).needs_value

    def __setstate__(self, saved: Group) -> None:
        Optimizer.__setstate__(self, saved)
        if "_names" not in vars(self):  # a copy
            self._names = Names()
        self._prepare()
        fill(self)
        sharding.note_again(self)

    def _group_rule(self, index: int, group: GroupValues) -> GroupRule:
        """The rule of a group as its values are now; the same object as long as they do not change."""
        last = self._group_rules.get(index)
        rule = GroupRule(rule_of(self.rule_class, group), group) if last is None else last.after(group)
        self._group_rules[index] = rule
        return rule

    def state_dict(self, *, wide: bool = False) -> Group:
        """Parameters by number, their memory and the groups: what torch's class of this name makes and takes.

        Memory is as it is stored, and the groups say how, so that who loads the dict goes on in the same formats. With
        `wide=True` it is float32 numbers (float64 stays) without a word on formats, and without what rounding took from
        16-bit parameters: torch's class reads it, and an optimizer of ours converts it to its formats.

        >>> import torch
        >>> from scirs2_adapters.torch import AdamW
        >>> layer = torch.nn.Linear(64, 64)
        >>> optimizer = AdamW(layer.parameters(), state_dtype="int8")
        >>> layer(torch.ones(2, 64)).sum().backward()
        >>> optimizer.step()
        >>> [optimizer.state_dict(wide=w)["state"][0]["exp_avg"].dtype for w in (False, True)]
        [torch.int8, torch.float32]
        """
        with of_groups(self):
            saved = Optimizer.state_dict(self)
        return export(self, saved, wide)

    def load_state_dict(self, state_dict: Group, strict: bool = True) -> Report | None:  # type: ignore[override]
        """Load a dict of ours or of torch's class of this name, or one of an 8-bit Adam, AdamW or Lion of bitsandbytes
        or torchao.

        A dict of ours says its formats and brings them along: memory keeps the dtype it was saved in. Where a dict says
        none, as torch's and those of `state_dict(wide=True)`, `state_dtype` and `rounding` stay, and memory is put into
        what `state_dtype` asks for. Codes of other libraries become float32 numbers first.

        Raises before anything is changed: a dict of another optimizer, of other shapes, of formats that are not known,
        or with codes that lack scales.

        Where both have names for their parameters, memory goes by name. With `strict=False` parameters may be others
        than those that were saved, or of other shapes: what fits is loaded, and the report says what is not.
        """
        report = None if strict else Report([], [], [])
        rule = self._group_rule(0, self.param_groups[0]).whole
        load(self, rule, state_dict, report)
        return report

    def _advance(self, closure: Closure | None = None) -> Loss:
        """Perform a single optimization step; `closure` reevaluates the model and returns the loss."""
        loss: Loss = None
        if self._needs_value and torch.compiler.is_compiling():
            return compiled.eagerly(lambda: self._advance(closure))
        if closure is not None:
            with torch.enable_grad():
                loss = check_closure(type(self).__name__, closure, self._needs_value)()
        grad_mode = torch.is_grad_enabled()
        with torch.set_grad_enabled(bool(self.defaults["differentiable"])):
            if torch.compiler.is_compiling():
                compiled.step_compiled(self, grad_mode)
            else:
                if self._released is not None:
                    self._released.before_step(self)
                step(self, value=loss)
        return loss

    _hooked = Optimizer.profile_hook_step(_advance)


def _named(state_dtype: Value) -> Value:
    """torch dtypes by their names."""
    if isinstance(state_dtype, Mapping):
        return {k: _named(v) for k, v in state_dtype.items()}
    return dtype_name(state_dtype) if isinstance(state_dtype, torch.dtype) else state_dtype


def _check_flags(call: str, options: Values, arguments: Values) -> None:
    for key, default in FLAGS.items():
        if not isinstance(options[key], (bool, type(default))):
            raise bad_type(call, key, "must be True or False" + (" or None" if default is None else ""), options[key])
    check_offload(call, options)
    if options["fused"] and options["foreach"]:
        raise RuntimeError(f"`{call}`: `fused` and `foreach` cannot be `True` together.")
    if options["fused"] and options["differentiable"]:
        raise RuntimeError(f"`{call}`: `fused` does not support `differentiable`.")
    if options["fused"] and options["kernel"] == "traced":
        raise bad_value(call, "kernel", "must be the host kernel where `fused=True` asks for it", "traced", "Drop one.")
    for word, _ in tensors(arguments) if options["foreach"] and not options["capturable"] else ():
        raise ValueError(f"`{call}`: {word} as a Tensor is not supported for capturable=False and foreach=True.")

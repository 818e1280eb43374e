"""What code can see of an optimizer, asked of each class of `torch.optim` and of ours of the same name.

A probe looks at one class. Its answers are compared: sets by what only one of them has, anything else as a whole.
"""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import torch

from scirs2_adapters import torch as adapter

from .torch_support import ours, theirs

Class = type[Any]
NAMES = sorted(n for n in adapter.__all__ if n != "SAM" and isinstance(getattr(torch.optim, n, None), type))
#: A value for each argument that stands for a hyperparameter, and is none that its formula could take.
WRONG = (-1.0, float("nan"), "text")
OWN_FORMS = ("foreach", "fused", "capturable", "differentiable", "maximize", "params")


def parameter(cls: Class, *, shape: tuple[int, ...] = (4, 3), dtype: torch.dtype = torch.float32) -> torch.nn.Parameter:
    del cls
    return torch.nn.Parameter(torch.ones(shape, dtype=dtype))


def outcome(run: Callable[[], Any]) -> Any:
    """What it returns, or the type of Python's own that its error is of."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run()
    except Exception as error:
        return next(c.__name__ for c in type(error).__mro__ if c.__module__ == "builtins")


def step(optimizer: Any, grad: torch.Tensor | None = None, times: int = 1) -> Any:
    """Steps with gradients of ones, or this one, in whichever form the class takes; returns the optimizer."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    sparse = type(optimizer).__name__ == "SparseAdam"

    def closure() -> torch.Tensor:
        for p in params:
            g = torch.ones_like(p) if grad is None else grad
            with torch.sparse.check_sparse_tensor_invariants():
                p.grad = g.detach().to_sparse() if sparse and not g.is_sparse else g
        return torch.tensor(1.0)

    for _ in range(times):
        loss = closure()
        if type(optimizer).__name__ == "LBFGS":
            optimizer.step(closure)
        else:
            optimizer.step()
        del loss
    return optimizer


def made(cls: Class, **options: Any) -> Any:
    return cls([parameter(cls)], **options)


def arguments(cls: Class) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(cls).parameters)


def common(cls: Class) -> set[str]:
    """The arguments that both classes of this name have."""
    return arguments(ours(cls.__name__)).keys() & arguments(theirs(cls.__name__)).keys()


def beyond_arguments(cls: Class, keys: Any) -> frozenset[str]:
    """The keys that are none of our arguments, which have a table of their own."""
    return frozenset(set(keys) - arguments(ours(cls.__name__)).keys())


def held(cls: Class) -> frozenset[str]:
    """The memory after a step: names, types, dtypes and shapes."""
    state = step(made(cls)).state_dict()["state"]
    rows = next(iter(state.values()), {}).items()
    return frozenset(f"{k}: {_form(v)}" for k, v in rows)


def _form(value: Any) -> str:
    tensor = isinstance(value, torch.Tensor)
    return f"{value.dtype} {tuple(value.shape)}".removeprefix("torch.") if tensor else type(value).__name__


def flag(cls: Class, **keywords: Any) -> Any:
    """Whether a step can be made with a flag."""
    return outcome(lambda: bool(step(made(cls, **keywords))))


def wrong(cls: Class) -> frozenset[str]:
    """How each argument's wrong values are taken, of those that both classes have."""
    known = {k: arguments(theirs(cls.__name__))[k].default for k in common(cls) - set(OWN_FORMS)}
    replies = set()
    for name, default in known.items():
        for value in WRONG:
            bad = tuple([value] * len(default)) if isinstance(default, tuple) else value
            answer = outcome(lambda name=name, bad=bad: made(cls, **{name: bad}) and "taken")
            replies.add(f"{name}={value}: {answer}")
    return frozenset(replies)


def loads(cls: Class, saved: Any) -> Any:
    optimizer = made(cls)
    return outcome(lambda: optimizer.load_state_dict(copy.deepcopy(saved)) is None)


def loaded_dtype(cls: Class) -> Any:
    """The dtypes of memory after float32 memory was loaded for a bfloat16 parameter."""
    saved = step(made(cls)).state_dict()
    optimizer = cls([parameter(cls, dtype=torch.bfloat16)])
    optimizer.load_state_dict(saved)
    tensors = [x for held in optimizer.state.values() for x in held.values() if isinstance(x, torch.Tensor)]
    return {str(x.dtype) for x in tensors if x.numel() > 1}


def hooks(cls: Class) -> int:
    """How often a hook is called where a subclass's step calls the class's."""
    calls: list[int] = []

    def again(self: Any, closure: Any = None) -> Any:
        return super(mine, self).step(closure)

    mine = type(cls.__name__, (cls,), {"step": again})
    optimizer = made(mine)
    optimizer.register_step_pre_hook(lambda *args: calls.append(1))
    step(optimizer)
    return len(calls)


def scheduled(cls: Class) -> Any:
    """Whether a scheduler can be made after a function was put in the place of the step."""
    optimizer = made(cls)
    optimizer.step = functools.partial(optimizer.step)
    return outcome(lambda: bool(torch.optim.lr_scheduler.StepLR(optimizer, 1)))


def expanded(cls: Class) -> Any:
    """Whether a parameter of which several elements are one place can be stepped."""
    p = torch.ones(1, 3).expand(4, 3).requires_grad_()
    return outcome(lambda: bool(step(cls([p]))))


def rebuilt(cls: Class) -> Any:
    optimizer = made(cls)
    return outcome(lambda: bool(cls([parameter(cls)], **optimizer.defaults)))


def amp(cls: Class, change: Callable[[Any], Any] = lambda o: o) -> Any:
    return outcome(lambda: hasattr(change(made(cls, fused=True)), "_step_supports_amp_scaling"))


def repeated(cls: Class) -> Any:
    return outcome(lambda: bool(step(copy.deepcopy(step(made(cls))))))


#: Title of a row on the page -> what is asked. Sets are compared member by member.
PROBES: dict[str, Callable[[Class], Any]] = {
    "module of the class": lambda cls: cls.__module__.startswith("torch."),
    "public attributes": lambda cls: frozenset(k for k in dir(made(cls)) if not k.startswith("_")),
    "defaults of arguments": lambda cls: {k: arguments(cls)[k].default for k in sorted(common(cls))},
    "positions of arguments": lambda cls: [k for k, p in arguments(cls).items() if p.kind is p.POSITIONAL_OR_KEYWORD],
    "keys of `defaults`": lambda cls: beyond_arguments(cls, made(cls).defaults),
    "keys of groups": lambda cls: beyond_arguments(cls, made(cls).param_groups[0]),
    "signature of `step`": lambda cls: [
        (k, p.default is p.empty) for k, p in inspect.signature(cls.step).parameters.items()
    ],
    "what a pickle holds": lambda cls: frozenset(made(cls).__getstate__()),
    "memory before the first step": lambda cls: len(made(cls).state),
    "memory after a step": held,
    "`foreach=True`": lambda cls: flag(cls, foreach=True),
    "`fused=True`": lambda cls: flag(cls, fused=True),
    "`maximize=True`": lambda cls: flag(cls, maximize=True),
    "`differentiable=True`": lambda cls: outcome(lambda: bool(made(cls, differentiable=True))),
    "`capturable=True` on the CPU": lambda cls: flag(cls, capturable=True),
    "`foreach` and `fused` together": lambda cls: outcome(lambda: bool(made(cls, foreach=True, fused=True))),
    "`_step_supports_amp_scaling` without `fused=True`": lambda cls: hasattr(made(cls), "_step_supports_amp_scaling"),
    "`_step_supports_amp_scaling` with `fused=True`": amp,
    "the same in a copy": lambda cls: amp(cls, copy.deepcopy),
    "the same in an unpickled one": lambda cls: amp(cls, lambda o: pickle.loads(pickle.dumps(o))),
    "wrong values of arguments": wrong,
    "an argument that no one has": lambda cls: outcome(lambda: made(cls, nonsense=1)),
    "no parameters": lambda cls: outcome(lambda: cls([])),
    "vectors as parameters": lambda cls: outcome(lambda: bool(step(cls([parameter(cls, shape=(3,))])))),
    "complex parameters": lambda cls: outcome(lambda: bool(step(cls([parameter(cls, dtype=torch.complex64)])))),
    "sparse gradients": lambda cls: outcome(
        lambda: bool(step(made(cls), torch.sparse_coo_tensor([[1]], torch.ones(1, 3), (4, 3), check_invariants=True)))
    ),
    "parameters that overlap in memory": expanded,
    "state dict of SGD": lambda cls: loads(cls, step(torch.optim.SGD([parameter(cls)], momentum=0.9)).state_dict()),
    "state dict of AdamW": lambda cls: loads(cls, step(torch.optim.AdamW([parameter(cls)])).state_dict()),
    "float32 memory loaded for 16-bit parameters": loaded_dtype,
    "`type(o)(params, **o.defaults)`": rebuilt,
    "hooks of a subclass whose step calls the class's": hooks,
    "a scheduler over a function put in the place of `step`": scheduled,
    "a step of a copy": repeated,
}


def differences(title: str, name: str) -> set[str]:
    """What differs between the two classes of this name; the title itself where the answer has no members."""
    mine, other = (PROBES[title](cls) for cls in (ours(name), theirs(name)))
    if isinstance(mine, dict) and isinstance(other, dict):
        return {k for k in mine.keys() | other.keys() if mine.get(k) != other.get(k)}
    if isinstance(mine, frozenset) and isinstance(other, frozenset):
        return {re.split("[:=]", word)[0] for word in mine ^ other}
    return set() if mine == other else {title}


def answers(title: str, name: str) -> tuple[Any, Any]:
    """Both answers, for a message."""
    mine, other = (PROBES[title](cls) for cls in (ours(name), theirs(name)))
    if isinstance(mine, frozenset):
        return sorted(mine - other), sorted(other - mine)
    return mine, other

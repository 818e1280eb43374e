"""The step inside a compiled program: one operation, which the compiler need not look into.

Its arguments are the tensors, so that the compiler knows what is read and what is written, and the optimizer's number,
by which it looks up the optimizer when it runs. Hyperparameters, loss scale and memory are read then: none is a
constant of the compiled program, and no scheduler makes it compile anew.
"""

from __future__ import annotations

import itertools
import threading
import weakref

import torch

from ..dispatch.step import step, step_eagerly
from ..state.protocols import RuleOptimizerLike

Tensor = torch.Tensor

#: A step that calls a closure, in a compiled program which must not look into it.
eagerly = torch._disable_dynamo(lambda run: run())  # type: ignore[attr-defined]

_numbers = itertools.count(1)
_optimizers: weakref.WeakValueDictionary[int, RuleOptimizerLike] = weakref.WeakValueDictionary()
_lock = threading.Lock()
#: What torch's dispatcher does for code outside any program.
_ORDINARY = (torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set())


def enlist(optimizer: RuleOptimizerLike) -> int:
    """The number by which compiled programs find this optimizer, for as long as it lives."""
    with _lock:
        number = next(_numbers)
        _optimizers[number] = optimizer
    return number


def step_compiled(optimizer: RuleOptimizerLike, grad_mode: bool) -> None:
    """The step as the compiler reads it; what the operation does not take stays outside the program. `grad_mode` is
    that of the caller.
    """
    # As an attribute, `param_groups` would be guarded whole: every new learning rate would be a new program.
    every = [p for group in optimizer.__dict__["param_groups"] for p in group["params"]]
    where = [i for i, p in enumerate(every) if p.grad is not None]
    params = [every[i] for i in where]
    grads = [p.grad for p in params]
    if torch.is_grad_enabled() or not all(map(_plain, params)) or not all(map(_plain, grads)):
        step_eagerly(optimizer)
    elif params:
        advance(params, grads, where, optimizer._number, grad_mode)


def _plain(x: Tensor) -> bool:
    """Whether the operation and every compiler take this tensor; subclasses may compute in another way."""
    return type(x) in (Tensor, torch.nn.Parameter) and x.layout is torch.strided and not x.is_complex()


def _advance(params: list[Tensor], grads: list[Tensor], where: list[int], number: int, grad_mode: bool) -> None:
    """The operation: the optimizer's step with these gradients, written to these parameters.

    Programs of some compilers run it with torch's bookkeeping of views, versions and conjugates turned off. A step
    needs it: its count is a view of which the version tells who has written to it.

    A program that has turned gradients off does not turn them on again when an operation raises, so that is done here.
    """
    try:
        with torch._C._ForceDispatchKeyGuard(*_ORDINARY), torch.no_grad():
            _advance_one(_optimizers[number], params, grads, where)
    except BaseException:
        torch.set_grad_enabled(grad_mode)
        raise


def _advance_one(optimizer: RuleOptimizerLike, params: list[Tensor], grads: list[Tensor], where: list[int]) -> None:
    """Steps the parameters, or the copies that a compiler passes which keeps operations pure: only these may change
    before the program ends. Plans know the optimizer's parameters by address, so the copies take their places."""
    # Schedulers ask for it, and see no step of a program compiled before they were made.
    vars(optimizer)["_opt_called"] = True
    real = [p for group in optimizer.param_groups for p in group["params"]]
    all_grads: list[Tensor | None] = [None] * len(real)
    for i, g in zip(where, grads, strict=True):
        all_grads[i] = g
    pairs = [(p, real[i]) for p, i in zip(params, where, strict=True) if p.data_ptr() != real[i].data_ptr()]
    if not pairs:
        step(optimizer, all_grads)
        return
    copies, places = map(list, zip(*pairs, strict=True))
    before = [p.clone() for p in places]
    torch._foreach_copy_(places, copies)
    try:
        step(optimizer, all_grads)
        torch._foreach_copy_(copies, places)
    finally:
        torch._foreach_copy_(places, before)


_LIBRARY = torch.library.Library("scirs2_adapters", "FRAGMENT")
#: Captured in a CUDA graph, it would repeat the learning rate and the count that it saw.
_TAGS = tuple(filter(None, [getattr(torch.Tag, "cudagraph_unsafe", None)]))
_LIBRARY.define(
    "step(Tensor(a!)[] params, Tensor[] grads, SymInt[] where, SymInt number, bool grad_mode) -> ()", tags=_TAGS
)
_LIBRARY.impl("step", torch._disable_dynamo(_advance), "CompositeExplicitAutograd")  # type: ignore[attr-defined]
torch.library.register_fake("scirs2_adapters::step", lambda *arguments: None, lib=_LIBRARY)
advance = torch.ops.scirs2_adapters.step.default

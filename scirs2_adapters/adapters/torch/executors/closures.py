"""The model at the points of a search: parameters are put there, the user's closure is called, and they come back.

A point is one vector of all parameters, or a list of tensors like them. Complex parameters are their real views, and
16-bit ones are computed with in float32. Parameters that are put back are the very bits they were.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from scirs2_adapters.core.closures._search import Space
from scirs2_adapters.core.errors import bad_type
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.step.options import check_value

from ..dispatch.scaling import all_finite, skipping
from ..state.protocols import Group
from ..state.tensors import Tensor, is_dtensor

#: What a closure returns.
Loss = Any


def number(x: Tensor) -> float:
    """A tensor of one element as a number, summed over its shards."""
    return float((x.full_tensor() if is_dtensor(x) else x).detach())


def loss_number(call: str, rule: Rule, loss: Loss) -> float:
    """The loss as a number, which this rule needs; a step without one is refused."""
    value = number(loss) if isinstance(loss, Tensor) and loss.numel() == 1 and not loss.is_complex() else loss
    words = "closure", "must be a function that computes the gradients and returns the loss"
    return float(check_value(f"{call}.step", rule, value, *words, "Write `optimizer.step(closure)`."))


SPACE = Space(
    dot=lambda a, b: number(torch.dot(a, b)),
    largest=lambda a: number(a.abs().max()) if a.numel() else 0.0,
    total=lambda a: number(a.abs().sum()),
    plus=lambda x, c, d: x.add(d, alpha=c),
    into=lambda x, c, d: x.add_(d, alpha=c),
    norm=lambda a: number(torch.linalg.vector_norm(a)),
    abs=torch.abs,
    epsilon=lambda a: torch.finfo(a.dtype).eps,
)


def real(x: Tensor) -> Tensor:
    """The tensor itself, dense and real."""
    x = x.detach()
    x = x.to_dense() if x.layout is not torch.strided else x
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def load(x: Tensor) -> Tensor:
    """The same in the dtype that is computed with."""
    x = real(x)
    return x if x.dtype == torch.float64 else x.float()


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """One vector of them all, in new memory."""
    return torch.cat([real(x).reshape(-1) for x in tensors])


class NotFinite(Exception):
    """The gradients at a point do not allow a step."""


class Evaluated:
    """The gradients of one evaluation, in the place of an optimizer: a `GradScaler` divides them by its scale, and
    steps unless one of them has overflowed. It keeps an account for each object until its next update.
    """

    def __init__(self) -> None:
        self.param_groups: list[Group] = []
        self.finite = False

    def step(self) -> None:
        self.finite = True


def unscale(groups: list[Group], scaler: torch.amp.GradScaler | None, places: Iterator[tuple[bool, Evaluated]]) -> None:
    """Unscale the gradients of the evaluation that has just been made; NotFinite if the step ends with it. Each of the
    `places` comes with whether it is the last, at which the step itself looks at the gradients.
    """
    last, evaluated = next(places)
    if scaler is not None:
        evaluated.param_groups, evaluated.finite = groups, False
        scaler.step(evaluated)  # type: ignore[arg-type]
    else:
        evaluated.finite = last or not skipping(groups) or all_finite(groups)
    if not evaluated.finite:
        raise NotFinite


def check_scaler(name: str, scaler: object) -> None:
    """Refuse an object that is no scaler, and a scaler that calls this step: it would leave the second point scaled."""
    if scaler is not None and not isinstance(scaler, torch.amp.GradScaler):
        raise bad_type(f"{name}.step", "scaler", "must be a torch.amp.GradScaler or None", scaler)
    if scaler is None and _scaler_calls():
        way = "Write `optimizer.step(closure, scaler=scaler)`, then `scaler.update()`."
        worded = "must be the scaler, which cannot call this step itself"
        raise bad_type(f"{name}.step", "scaler", worded, None, way)


def _scaler_calls() -> bool:
    """Whether a `GradScaler` calls the step."""
    frame = sys._getframe()
    while frame is not None:
        caller = frame.f_locals.get("self") if frame.f_code.co_name in ("step", "_maybe_opt_step") else None
        if isinstance(caller, torch.amp.GradScaler) and caller.is_enabled():
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def check_closure(name: str, closure: Callable[[], Loss], needs_value: bool) -> Callable[[], Loss]:
    """The closure of a step by gradients; refused before it is called, if it is none, or if its gradients would stay
    scaled beside a loss that is not.
    """
    if not callable(closure):
        worded = "must be a function that computes the gradients and returns the loss"
        raise bad_type(f"{name}.step", "closure", worded, closure, "Write `optimizer.step(closure)`.")
    if needs_value and _scaler_calls():
        worded = "must not come through `GradScaler.step`, which leaves its gradients scaled"
        way = "Train in bfloat16, which needs no scaler, and write `optimizer.step(closure)`."
        raise bad_type(f"{name}.step", "closure", worded, closure, way)
    return closure


class Evaluations:
    """The evaluations of one step, during which nothing else changes the parameters. Of their losses the first is
    kept, which the step returns: a loss keeps its graph.
    """

    def __init__(
        self, name: str, params: list[Tensor], closure: Callable[[], Loss], look: Callable[[], None] = lambda: None
    ) -> None:
        self.name, self.params, self.closure, self.look = name, params, closure, look
        self.saved: list[Tensor] = []
        self.count = 0
        self.first: Loss = None

    def place(self, tensors: Iterable[Tensor]) -> None:
        for p, x in zip(self.params, tensors, strict=True):
            (torch.view_as_real(p) if p.is_complex() and not x.is_complex() else p).copy_(x)

    def place_flat(self, point: Tensor) -> None:
        views = [real(p) for p in self.params]
        parts = point.split([x.numel() for x in views])
        self.place(part.view(x.shape) for part, x in zip(parts, views, strict=True))

    def restore(self) -> None:
        """Put the parameters back if they were moved."""
        if self.saved:
            self.place(self.saved)

    def call(self) -> Loss:
        with torch.enable_grad():
            loss = self.closure()
        self.count += 1
        if self.count == 1:
            self.first = loss
        self.look()
        return loss

    def leave(self) -> bool:
        """Whether the next point is another than that of the parameters, which are then saved."""
        if self.count and not self.saved:
            self.saved = [p.detach().clone() for p in self.params]
        return bool(self.count)

    def at_tensors(self, point: Iterable[Tensor]) -> tuple[Loss, list[Tensor | None]]:
        """The loss as the closure returns it, and each parameter's gradient or None."""
        if self.leave():
            self.place(point)
        loss = self.call()
        return loss, [None if p.grad is None else load(p.grad) for p in self.params]

    def at_vector(self, point: Tensor) -> tuple[float, Tensor]:
        """The loss as a number, and the gradient as one vector; a parameter without one has zeros."""
        if self.leave():
            self.place_flat(point)
        loss = self.call()
        if not isinstance(loss, Tensor) and not isinstance(loss, (int, float)):
            raise bad_type(f"{self.name}.step", "closure", "must return the loss", loss)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.params]
        return number(torch.as_tensor(loss)), flat(grads)

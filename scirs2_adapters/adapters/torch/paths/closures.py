"""The model at the points of a search: parameters are put there, the user's closure is called, and they come back.

A point is one vector of all parameters, or a list of tensors like them. Complex parameters are their real views, and
16-bit ones are computed with in float32. Parameters that are put back are the very bits they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from scirs2_adapters.core.closures._search import Space
from scirs2_adapters.core.errors import bad_type

Tensor = torch.Tensor


def number(x: Any) -> float:
    """A tensor of one element as a number, summed over its shards."""
    return float((x.full_tensor() if hasattr(x, "full_tensor") else x).detach())


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
    """One vector of them all, in memory of its own."""
    return torch.cat([real(x).reshape(-1) for x in tensors])


class Evaluations:
    """The evaluations of one step, during which parameters are changed by nobody else."""

    def __init__(self, name: str, params: list[Tensor], closure: Callable[[], Any]) -> None:
        self.name, self.params, self.closure = name, params, closure
        self.saved: list[Tensor] = []
        self.losses: list[Any] = []

    def place(self, tensors: Iterable[Tensor]) -> None:
        for p, x in zip(self.params, tensors, strict=True):
            (torch.view_as_real(p) if p.is_complex() and not x.is_complex() else p).copy_(x)

    def place_flat(self, point: Tensor) -> None:
        views = [real(p) for p in self.params]
        parts = point.split([x.numel() for x in views])
        self.place(part.view(x.shape) for part, x in zip(parts, views, strict=True))

    def restore(self) -> None:
        """Put the parameters back, if they have been anywhere."""
        if self.saved:
            self.place(self.saved)

    def call(self) -> Any:
        with torch.enable_grad():
            self.losses.append(self.closure())
        return self.losses[-1]

    def leave(self) -> bool:
        """Whether the next point is another than where the parameters are; then these are remembered."""
        if self.losses and not self.saved:
            self.saved = [p.detach().clone() for p in self.params]
        return bool(self.losses)

    def each(self, point: Iterable[Tensor]) -> tuple[Any, list[Tensor | None]]:
        """The loss as the closure returns it, and each parameter's gradient or None."""
        if self.leave():
            self.place(point)
        loss = self.call()
        return loss, [None if p.grad is None else load(p.grad) for p in self.params]

    def whole(self, point: Tensor) -> tuple[float, Tensor]:
        """The loss as a number, and the gradient as one vector; a parameter without one has zeros."""
        if self.leave():
            self.place_flat(point)
        loss = self.call()
        if not isinstance(loss, Tensor) and not isinstance(loss, (int, float)):
            raise bad_type(f"{self.name}.step", "closure", "must return the loss", loss)
        return number(torch.as_tensor(loss)), flat(
            torch.zeros_like(p) if p.grad is None else p.grad for p in self.params
        )

"""torch: parameters in one group, gradients put in place as autograd would, state through `torch.save`."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch

from ..driver import ArrayRun, Driver
from ..outcome import NotApplicable, SubjectError
from ..problem import Array, Arrays, Grads, Problem
from ..subject import NOTHING, Changes, Subject

Tensors = list[torch.Tensor]


#: What every training loop asks of an optimizer.
_METHODS = ("step", "zero_grad", "param_groups", "state_dict", "load_state_dict")


class TorchRun(ArrayRun):
    """Parameters and their optimizer."""

    def __init__(self, driver: TorchDriver, walked: Problem, params: Tensors, changes: Changes) -> None:
        super().__init__(walked)
        self.tensors, self.sparse = params, driver.sparse
        self.optimizer = driver.create(params, changes)
        self.scheduler: torch.optim.lr_scheduler.LRScheduler | None = None

    def params(self) -> Arrays:
        return [self.numbers(p) for p in self.tensors]

    def numbers(self, x: object) -> Array:
        assert isinstance(x, torch.Tensor)
        return np.array(x.detach().to_dense().to(torch.float64).numpy())

    def native(self, grads: Grads) -> Sequence[object]:
        pairs = zip(self.tensors, grads, strict=True)
        return [g if g is None else self.tensor(g, p.dtype) for p, g in pairs]

    def tensor(self, g: Array, dtype: torch.dtype) -> torch.Tensor:
        """One gradient, with all rows named where the optimizer takes no dense one."""
        values = torch.tensor(g, dtype=dtype)
        if not self.sparse:
            return values
        index = torch.arange(len(g))[None] if g.ndim else torch.empty(0, 1)
        return torch.sparse_coo_tensor(index, values if g.ndim else values[None], g.shape, check_invariants=True)

    def apply(self, grads: Sequence[object]) -> None:
        for p, g in zip(self.tensors, grads, strict=True):
            p.grad = cast("torch.Tensor | None", g)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()

    def forget(self) -> None:
        self.optimizer.zero_grad()

    def saved(self) -> object:
        buffer = io.BytesIO()
        torch.save([[p.detach() for p in self.tensors], self.optimizer.state_dict(), self.at], buffer)
        return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)

    def restore(self, saved: object) -> None:
        params, state, self.at = cast("tuple[Tensors, dict[str, object], int]", saved)
        with torch.no_grad():
            for p, kept in zip(self.tensors, params, strict=True):
                p.copy_(kept)
        self.optimizer.load_state_dict(state)

    def owned(self) -> object:
        return self.tensors, self.optimizer

    def adopt(self, owned: object) -> None:
        self.tensors, self.optimizer = cast("tuple[Tensors, torch.optim.Optimizer]", owned)

    def dtypes(self) -> set[str]:
        return {str(p.dtype).removeprefix("torch.") for p in self.tensors}

    def set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def optimizer_object(self) -> object:
        return self.optimizer


class TorchDriver(Driver):
    """torch, on the CPU."""

    framework, takes, layout = "torch", ("params", "named_parameters"), "outputs_first"
    gaps = {
        "state.shared": "torch's load_state_dict takes the dict's own tensors; copy the dict first",
        "running.compiled": "steps run as they are",
        "running.compiled_once": "steps run as they are",
    }

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.sparse = False
        p = torch.nn.Parameter(torch.ones(2, 2))
        optimizer = self.create([p])
        if lacking := [word for word in _METHODS if not hasattr(optimizer, word)]:
            worded = f"must make a torch.optim.Optimizer, or what has its `{lacking[0]}`"
            raise SubjectError(f"`{subject.path}` {worded}. Received: {type(optimizer).__name__}.")
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:
            raise SubjectError(f"`{subject.path}` steps by a closure; such optimizers are not checked.")
        self.sparse = self._only_sparse(optimizer, p)

    def _only_sparse(self, optimizer: torch.optim.Optimizer, p: torch.Tensor) -> bool:
        """Whether it refuses dense gradients, as torch's SparseAdam does."""
        p.grad = torch.ones(2, 2)
        try:
            optimizer.step()
        except Exception as error:
            return "dense" in str(error)
        return False

    def create(self, params: Sequence[object], changes: Changes = NOTHING) -> torch.optim.Optimizer:
        """An optimizer over parameters or groups."""
        optimizer = self.subject.factory(params, **self.subject.arguments(self.takes, changes))
        trains = getattr(optimizer, "train", None)
        if callable(trains):  # those without a schedule evaluate other weights than they train
            trains()
        return cast("torch.optim.Optimizer", optimizer)

    def start(self, changes: Changes = NOTHING, walked: Problem | None = None, dtype: str = "float32") -> TorchRun:
        walked = walked or self.problem
        params: Tensors = [torch.nn.Parameter(torch.tensor(p, dtype=getattr(torch, dtype))) for p in walked.params]
        return TorchRun(self, walked, params, changes)

    def over(self, params: Tensors, changes: Changes = NOTHING) -> TorchRun:
        """One over parameters that are there already."""
        return TorchRun(self, self.problem, params, changes)

    def kind(self) -> tuple[str, bool]:
        return "a torch.optim.Optimizer", isinstance(self.start().optimizer, torch.optim.Optimizer)

    def scheduled(self, factors: Sequence[float]) -> TorchRun:
        run, known = self.start(), cast("Callable[[int], float]", lambda step: factors[step % len(factors)])
        run.scheduler = torch.optim.lr_scheduler.LambdaLR(run.optimizer, known)
        return run

    def rebuilt(self, changes: Changes) -> TorchRun:
        run = self.start(changes)
        run.optimizer = type(run.optimizer)(run.tensors, **run.optimizer.defaults)
        return run

    def set_threads(self, count: int) -> int:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        return before

    def dense(self) -> None:
        """Checks of layouts need dense gradients."""
        if self.sparse:
            raise NotApplicable("it takes sparse gradients only")


DRIVER = TorchDriver

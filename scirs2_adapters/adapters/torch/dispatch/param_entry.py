"""A parameter with a gradient, and how its arrays are handed to a path."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from scirs2_adapters.core.cpu.kernel import kernel_obstacle as dtype_obstacle
from scirs2_adapters.core.cpu.kernel import uses_rows
from scirs2_adapters.core.ops import Scalar
from scirs2_adapters.core.step.options import counts_steps
from scirs2_adapters.core.step.plan import ParamEntry

from ..state import coded
from ..state.group_rule import GroupRule
from ..state.memory import arrays_of
from ..state.protocols import GroupValues, ParamState
from ..state.tensors import Tensor, dtype_name, is_dtensor, local
from . import sharding


class TensorEntry(ParamEntry):
    """A parameter with a gradient and its memory."""

    def __init__(self, entry: ParamEntry, p: Tensor, memory: Mapping[str, object], group: GroupValues) -> None:
        super().__init__(**vars(entry))
        self.p = p
        self.slots = [s.name for s in arrays_of(self.rule, self.leaf)]
        self.companions: list[str] = []
        self.is_dtensor = is_dtensor(p) and not torch.is_grad_enabled()
        self.by_axes = uses_rows(self.program) or any(n.op == "matrix" for n in self.program.nodes)
        self.per_parameter = self.rule.per_parameter
        self.first = not any(memory.get(name) is not None for name in self.slots)
        #: Whether its step depends on how many there were.
        self.counts = counts_steps(self.rule, self.leaf, group["rounding"], group["state_dtype"])
        self.param_state: ParamState | None = None

    def begin(self, param_state: ParamState | None) -> None:
        """Takes its memory, which says how it is stored."""
        self.param_state = param_state
        self.companions = coded.companions(self.slots, param_state) if param_state else []

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its arrays, in the order of a kernel's table."""
        return ("p", "g", *self.slots, *self.companions)

    @property
    def contiguous(self) -> bool:
        """Whether its arrays must lie as a contiguous tensor does: for rows and columns, and for codes."""
        return self.by_axes or bool(self.companions)

    def refuse(self, name: str, fused: bool) -> None:
        """What no path can step."""
        if fused and not self.p.is_floating_point():
            requires = "`fused=True` requires all the params to be floating point Tensors of supported devices"
            raise RuntimeError(f"`{name}`: {requires}. Received: {self.p.dtype}. Use `fused=None`.")
        if not (self.p.is_floating_point() or self.p.is_complex()):
            raise RuntimeError(f"`{name}` steps floating point and complex parameters. Received: {self.p.dtype}.")
        if self.p.is_complex() and self.by_axes:
            raise RuntimeError(f"{name} does not support complex parameters. Received: {self.p.dtype}.")
        if self.p.numel() and any(n > 1 and s == 0 for n, s in zip(self.p.shape, self.p.stride(), strict=True)):
            raise RuntimeError(
                f"`{name}` cannot step a parameter of which several elements are one place in memory. Use `p.clone()`."
            )

    def refuse_rows(self, name: str, g: Tensor | None) -> None:
        """Codes and rounding errors cannot be stepped row by row."""
        if self.companions and g is not None and g.layout is not torch.strided:
            raise RuntimeError(
                f"`{name}` cannot step a parameter with codes of 8 bits, a rounding error or stochastic rounding by a "
                'sparse gradient. Use state_dtype=None and rounding="nearest" for it, or a dense gradient.'
            )

    def memory(self) -> list[Tensor]:
        """Its slots that are tensors, and their companions."""
        return [self.param_state[name] for name in (*self.slots, *self.companions)]  # type: ignore[index]

    def arrays(self, g: Tensor) -> list[Tensor]:
        """The parameter, its gradient and its slots, in the order of a kernel's table; of each the part here."""
        tensors = [self.p, g, *self.memory()]
        return list(map(local, tensors)) if self.is_dtensor else tensors

    def kernel_obstacle(self, g: Tensor, group_rule: GroupRule) -> str | None:
        """Why the host kernel cannot step it, or None."""
        if torch.is_grad_enabled():
            return "differentiable=True needs torch's own operations"
        if group_rule.traced:
            return "a hyperparameter is a tensor on another device"
        if reason := self.divided or self.program.kernel_obstacle:
            return reason
        if reason := next(filter(None, map(_place_obstacle, (self.p, *self.memory()))), None):
            return reason
        return dtype_obstacle(self.dtypes(self.arrays(g)))

    def dtypes(self, arrays: list[Tensor]) -> dict[str, str]:
        """The dtypes of its arrays by name; companions have those that follow."""
        named = zip(("p", "g", *self.slots), arrays, strict=False)
        dtypes = {name: dtype_name(x.dtype) for name, x in named}
        if self.param_state and self.companions:
            dtypes["p"] = coded.storage_of("p", self.p, self.param_state)
        return dtypes

    def walks(self, g: Tensor) -> bool:
        """Whether the kernel can go through its memory from one end to the other."""
        pairs = zip(self.contiguous_arrays(g), self.arrays(g), strict=True)
        return all(contiguous is x for contiguous, x in pairs)

    def contiguous_arrays(self, g: Tensor) -> list[Tensor]:
        """Its arrays as memory in one and the same order: each as it is where it can be, else a copy."""
        p, *others = self.arrays(g)
        form = torch.contiguous_format if self.contiguous else torch.preserve_format
        if not (p.is_contiguous() or (not self.contiguous and dense(p))):
            p = torch.empty_like(p, memory_format=form).copy_(p)
        return [p, *(x if _parallel(x, p) else _copy(x, p) for x in others)]

    def load(self, g: Tensor) -> dict[str, Tensor]:
        """Its arrays by name, as numbers of the arithmetic's dtype, complex ones with an axis for their parts."""
        arrays = {}
        for name, x in zip(("p", "g", *self.slots), self.arrays(g), strict=False):
            x = self.parts(name, x.resolve_conj() if x.is_complex() else x)
            if self.companions and name != "g":
                x = coded.load(name, x, self.param_state or {})
            arrays[name] = x.to(self.compute, copy=torch.is_grad_enabled())
        return arrays

    @property
    def divided(self) -> str | None:
        """Why the ranks cannot step their parts of it separately, or None."""
        p = self.p
        return sharding.division_obstacle(p, self.program) if self.is_dtensor and is_dtensor(p) else None

    @property
    def compute(self) -> torch.dtype:
        """The dtype of the arithmetic."""
        return torch.float64 if self.leaf.dtype == "float64" else torch.float32

    def store(self, values: Mapping[str, Tensor], dither: Scalar = 0.5) -> None:
        """Write new values into the slots and, last, the parameter, rounded to their dtypes; `dither` is the step's. A
        slot may take the gradient as it is, whose memory may be the parameter's.
        """
        for name, x in reversed(list(zip(("p", *self.slots), self.written(), strict=True))):
            if self.companions:
                coded.store(name, x, values[name], self.param_state or {}, dither)
            else:
                x.copy_(values[name])

    def written(self) -> list[Tensor]:
        """The parameter and its slots, complex ones as real numbers."""
        p, _, *memory = self.arrays(self.p)
        return [self.parts(n, x) for n, x in zip(("p", *self.slots), (p, *memory), strict=False)]

    def parts(self, name: str, x: Tensor) -> Tensor:
        """A complex array as a real one with one axis more; moduli are in the first place of that axis."""
        if not x.is_complex():
            return x
        return torch.view_as_real(x)[..., :1] if name in self.program.moduli else torch.view_as_real(x)


def tensor_obstacle(p: Tensor, offloaded: bool) -> str | None:
    """Why the host kernel cannot step this parameter, or its copy in host memory, or None."""
    return (None if offloaded else _place_obstacle(p)) or dtype_obstacle({"p": dtype_name(p.dtype)})


def _place_obstacle(p: Tensor) -> str | None:
    p = local(p)
    if type(p).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return f"the parameter is a {type(p).__name__}, which computes in its own way"
    if p.device.type != "cpu" or p.layout is not torch.strided:
        return f"the parameter is on {p.device} in layout {p.layout}"
    if p.is_neg():
        return "the parameter is a negated view"
    return None


def dense(x: Tensor) -> bool:
    """Whether its elements fill one stretch of memory, in any order of its axes."""
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(x.stride(), x.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def _parallel(x: Tensor, p: Tensor) -> bool:
    if x.is_neg():
        return False
    if x.shape != p.shape:  # a row or column of numbers
        return x.is_contiguous()
    return x.stride() == p.stride() or (x.is_contiguous() and p.is_contiguous())


def _copy(x: Tensor, p: Tensor) -> Tensor:
    return torch.empty_like(p, dtype=x.dtype).copy_(x) if x.shape == p.shape else x.contiguous()

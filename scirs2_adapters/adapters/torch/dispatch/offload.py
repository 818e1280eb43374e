"""Parameters on an accelerator whose memory and step are the host's: `offload=True`.

A parameter has a copy in host memory, which is stepped there as any CPU tensor is, by a `Part` of the optimizer in
which copies stand for parameters; then the copy is sent back. A hook sends each gradient to the host while backward
goes on.

Nothing is taken for granted between two calls: what was copied counts only if the tensor on the device still has the
bits that it had then. Another backward, a scaler or a write through `.data` changes them, and no version tells of all
of these.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Iterable, Sequence

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from scirs2_adapters.core.argument_names import Values
from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.groups import sums
from scirs2_adapters.core.step.plan import grouped

from ..argument_names import FLAGS
from ..executors.transfers import Transfers, Wait, transfers
from ..state.memory import all_or_nothing
from ..state.protocols import GroupValues, RuleOptimizerLike
from ..state.tensors import Tensor, is_dtensor, is_offloaded
from . import scaling
from .param_entry import dense
from .part import Part, kept_part
from .step import Grads, GroupRules, forget_others

#: Numbers that are stepped together. The host computes with these while gradients of the next ones, and parameters of
#: the last, are on their way.
TOGETHER = 1 << 22
#: Places apart whose bits are added up. A prime number: rows of a matrix that change places are noticed.
WIDTH = 1021
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def check_offload(call: str, values: Values) -> None:
    """Refuse options that are for steps on the device."""
    if not isinstance(values["offload"], bool):
        raise bad_type(call, "offload", "must be True or False", values["offload"])
    for flag, default in FLAGS.items() if values["offload"] else ():
        if values[flag]:
            worded = f"must be False where {flag}=True, which is of steps on the device"
            raise bad_value(call, "offload", worded, True, f"Use {flag}={default}.")


def refuse_dtensor(call: str, group: GroupValues) -> None:
    """What lies in parts on several devices keeps its memory there."""
    if group["offload"] and any(map(is_dtensor, group["params"])):
        hint = "Use `fully_shard(..., offload_policy=CPUOffloadPolicy())`, which keeps the parts in host memory."
        raise bad_value(call, "offload", "must be False for parameters that are a DTensor", True, hint)


def bits(x: Tensor) -> Tensor:
    """A fingerprint of a tensor: the bits of a short one, and sums of the bits of a long one."""
    x = torch.view_as_real(x) if x.is_complex() else x
    flat = (x.as_strided((x.numel(),), (1,)) if dense(x) else x.reshape(-1)).view(_BITS[x.itemsize])
    rows = flat.numel() // WIDTH
    if rows < 2:
        return flat.clone()
    return torch.cat([flat[: rows * WIDTH].view(rows, WIDTH).sum(0), flat[rows * WIDTH :]])


def _plain(x: Tensor) -> Tensor:
    return x.detach().resolve_conj().resolve_neg()


def _form(x: Tensor) -> tuple[object, ...]:
    return x.device, x.dtype, x.shape, x.stride()


class HostCopy:
    """A tensor of a device in host memory, and what it looked like when it was copied."""

    def __init__(self, x: Tensor, ways: Transfers) -> None:
        self.form, self.ways = _form(x), ways
        self.host = ways.host_memory(x)
        self.bits: Tensor | None = None
        self.wait: Wait | None = None

    def fetch(self, x: Tensor) -> None:
        """Begins to copy it."""
        self.bits = bits(x)
        self.wait = self.ways.to_host(x, self.host)

    def send(self, x: Tensor) -> None:
        """Begins to copy it back."""
        self.wait = self.ways.to_device(self.host, x)

    def ready(self) -> None:
        """Waits until nothing is on its way, to the host or from it."""
        if self.wait is not None:
            self.wait()
            self.wait = None


class Offloaded:
    """The copies of a parameter and of its gradient, and how often a gradient came since the last step. Of several
    backward passes between two steps, the last is the one to copy after.
    """

    def __init__(self, p: Tensor, ways: Transfers) -> None:
        self.ways, self.param = ways, HostCopy(_plain(p), ways)
        self.grad: HostCopy | None = None
        self.arrived, self.expected, self.ahead = 0, 1, False

    def of_grad(self, g: Tensor) -> HostCopy:
        """The copy of a gradient of this form."""
        if self.grad is None or self.grad.form != _form(g):
            self.grad = HostCopy(g, self.ways)
        return self.grad

    def arrive(self, g: Tensor) -> None:
        """Copies a gradient while backward goes on, if it looks as if it were the last before the step."""
        self.arrived += 1
        if self.arrived >= self.expected:
            self.of_grad(g).fetch(g)
            self.ahead = True

    def settle(self, in_vain: bool) -> None:
        """The step: after how many gradients to copy next time, or one too late where it was in vain, as someone
        changes gradients after backward.
        """
        self.expected = max(1, self.arrived + (self.ahead and in_vain))
        self.arrived, self.ahead = 0, False


class Offload:
    """The parameters of an optimizer that are offloaded. Neither they nor their hooks keep it alive."""

    def __init__(self) -> None:
        self._known = WeakTensorKeyDictionary()
        self._hooks = WeakTensorKeyDictionary()
        self._ways: dict[torch.device, Transfers] = {}
        self._ids: list[int] = []

    @property
    def allocated(self) -> int:
        """Bytes of all copies."""
        copies = [copy for known in self._known.values() for copy in (known.param, known.grad) if copy is not None]
        return sum(copy.host.nbytes + (0 if copy.bits is None else copy.bits.nbytes) for copy in copies)

    def step(
        self, optimizer: RuleOptimizerLike, params: list[Tensor], grads: Grads, rules: GroupRules, value: float | None
    ) -> None:
        """One step: all is planned before anything moves, then part after part is stepped and sent back."""
        self._forget(optimizer, params)
        pairs = list({id(p): (p, g) for p, g in zip(params, grads, strict=True) if g is not None}.values())
        away = self._fetch(optimizer, pairs)
        here = {id(p): _here(g, away.get(id(p))) for p, g in pairs}
        for known in away.values():
            known.param.ready()  # memory that begins may begin with the parameter
        if scaling.looks(optimizer.param_groups):
            _await(away.values())
        scales = scaling.scales(optimizer, [here.get(id(p)) for p in params], value)
        if isinstance(scales, str):  # SKIP
            return
        parts = _parts(optimizer, [p for p, _ in pairs], any(sums(rule.rule) for rule in rules))
        hosts = {key: known.param.host for key, known in away.items()}
        with all_or_nothing(optimizer.optimizer if isinstance(optimizer, Part) else optimizer):
            for part in parts:
                part.plan(hosts, here, scales is not None)
        for part in parts:
            part.give()
        offloaded = [[(p, away[id(p)]) for p in part.params if id(p) in away] for part in parts]
        for part, moving in zip(parts, offloaded, strict=True):
            _await(known for _, known in moving)
            for _, known in moving:
                known.param.bits = None  # until it is sent: an error leaves what is on the device
            part.run(here, scales, value)
            for p, known in moving:
                known.param.send(p)
        self._sent(itertools.chain.from_iterable(offloaded))

    def _sent(self, offloaded: Iterable[tuple[Tensor, Offloaded]]) -> None:
        """Lets the devices wait for their parameters, and notes what these are."""
        for ways in self._ways.values():
            ways.wait()
        for p, known in offloaded:
            known.param.bits = bits(_plain(p))

    def _fetch(self, optimizer: RuleOptimizerLike, pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[int, Offloaded]:
        """What is offloaded, by the `id` of the parameter, with all that has changed on its way to the host."""
        groups, name = optimizer.param_groups, type(optimizer).__name__
        for group in groups:
            refuse_dtensor(name, group)
        ids = {id(p) for group in groups for p in group["params"] if is_offloaded(group, p)}
        away = {id(p): self._of(p) for p, _ in pairs if id(p) in ids}
        copies = [(away[id(p)].param, _plain(p)) for p, _ in pairs if id(p) in ids]
        dense_grads = [(away[id(p)], _plain(g)) for p, g in pairs if id(p) in ids and g.layout is torch.strided]
        copies += [(known.of_grad(g), g) for known, g in dense_grads]
        unchanged = _unchanged(copies)
        for (copy, x), is_there in zip(copies, unchanged, strict=True):
            if not is_there:
                copy.ready()
                copy.fetch(x)
        for (known, _), is_there in zip(dense_grads, unchanged[len(away) :], strict=True):
            known.settle(not is_there)
        return away

    def _of(self, p: Tensor) -> Offloaded:
        """The copies of a parameter, which has a hook from now on."""
        known: Offloaded | None = self._known.get(p)
        if known is None or known.param.form != _form(p):
            if p.device not in self._ways:
                self._ways[p.device] = transfers(p.device)
            known = self._known[p] = Offloaded(p, self._ways[p.device])
        if p.requires_grad and p.is_leaf and p not in self._hooks:
            arrived = weakref.WeakMethod(self._arrived)
            self._hooks[p] = p.register_post_accumulate_grad_hook(functools.partial(_call, arrived))
        return known

    def _arrived(self, p: Tensor) -> None:
        """The hook: a backward pass has added to the gradient of this parameter."""
        known: Offloaded | None = self._known.get(p)
        if known is not None and p.grad is not None and p.grad.layout is torch.strided and p.grad.device == p.device:
            with torch.no_grad():
                known.arrive(_plain(p.grad))

    def _forget(self, optimizer: RuleOptimizerLike, params: list[Tensor]) -> None:
        """Keeps nothing of parameters that are no longer in the groups."""
        ids = list(map(id, params))
        if isinstance(optimizer, Part) or ids == self._ids:
            return
        forget_others(optimizer, params)
        self._ids = ids
        for p in [p for p in self._known if id(p) not in {*ids}]:
            del self._known[p]
            if (hook := self._hooks.pop(p, None)) is not None:
                hook.remove()


def _call(method: Callable[[], Callable[[Tensor], None] | None], p: Tensor) -> None:
    if (arrived := method()) is not None:
        arrived(p)


def _here(g: Tensor, known: Offloaded | None) -> Tensor:
    """The gradient in host memory; rows of a sparse one are waited for."""
    if known is None:
        return g
    return known.grad.host if g.layout is torch.strided and known.grad is not None else g.cpu()


def _await(away: Iterable[Offloaded]) -> None:
    """Waits for gradients."""
    for known in away:
        if known.grad is not None:
            known.grad.ready()


def _parts(optimizer: RuleOptimizerLike, params: Sequence[Tensor], whole: bool) -> list[Part]:
    """What is stepped one after the other, beginning with the last parameters, whose gradients come first; `whole`:
    all in one.
    """
    if isinstance(optimizer, Part):
        return [optimizer]
    chunks: list[list[Tensor]] = [[]]
    size = 0
    for p in reversed(params):
        chunks[-1].append(p)
        size += p.numel()
        if size >= TOGETHER and not whole:
            chunks.append([])
            size = 0
    return [kept_part(optimizer, chunk) for chunk in chunks if chunk]


def _unchanged(copies: Sequence[tuple[HostCopy, Tensor]]) -> list[bool]:
    """For each copy, whether the tensor still has the bits that were copied. Each device is waited for once."""
    answers = [x.numel() == 0 for _, x in copies]
    asked = [i for i, (copy, x) in enumerate(copies) if copy.bits is not None and x.numel()]
    for places in grouped(asked, lambda i: copies[i][1].device).values():
        before = torch.cat([x for x in [copies[i][0].bits for i in places] if x is not None])
        now = [bits(copies[i][1]) for i in places]
        ends = torch.tensor(list(itertools.accumulate(map(Tensor.numel, now))))
        differing = before.ne(torch.cat(now)).cumsum(0)
        counts = [0, *differing[ends.to(before.device) - 1].tolist()]
        for i, (start, end) in zip(places, itertools.pairwise(counts), strict=True):
            answers[i] = start == end
    return answers

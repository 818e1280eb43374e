"""A device for tests, "late": its memory is the host's under another name, so every operation runs on the CPU, and
copies on a stream of its own are made as late as the rules of streams allow. Importing this file registers it for the
whole process, so it is for processes of its own.

Hooks of its tensors run in a thread of autograd's, as they do on an accelerator.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from scirs2_adapters.adapters.torch.executors.transfers import StreamTransfers

NAME = "late"
_aten, _C = torch.ops.aten, torch._C
_CPU = _C.DispatchKeySet(_C.DispatchKey.CPU)
#: Operations that make another tensor of the same memory.
_VIEWS = {
    "as_strided",
    "view",
    "_reshape_alias",
    "unfold",
    "set_",
    "resize_",
    "view_as_real",
    "view_as_complex",
    "alias",
}
_ORDINARY = (_C._dispatch_tls_local_include_set(), _C._dispatch_tls_local_exclude_set())
#: Memory is never freed: a tensor that is "freed" too early would be read all the same.
_memory: list[torch.UntypedStorage] = []
_thread = threading.local()


class Stream(torch.Stream):
    """Copies that wait to be made."""

    def __new__(cls, device: Any = None) -> Stream:
        return super().__new__(cls, stream_id=1, device_index=0, device_type=20)  # type: ignore[call-arg]

    def __init__(self, device: Any = None) -> None:
        self.queue: list[Callable[[], object]] = []

    def run(self, most: int | None = None) -> None:
        """Makes the first copies, or all."""
        most = len(self.queue) if most is None else most
        for i, copy in enumerate(self.queue[:most]):
            self.queue[i] = int
            copy()

    def wait_stream(self, other: Stream) -> None:
        other.run()

    def record_event(self) -> Event:  # type: ignore[override]
        return Event(self, len(self.queue))


class Event:
    """A place in a stream."""

    def __init__(self, stream: Stream, place: int) -> None:
        self.stream, self.place = stream, place

    def synchronize(self) -> None:
        self.stream.run(self.place)


class Module:
    """What `torch.cuda` is for CUDA. Where everything else is computed, it is at once."""

    Stream = Stream
    main = Stream()
    #: Calls of `record_stream`.
    recorded = 0

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    @classmethod
    def current_stream(cls, device: Any = None) -> Stream:
        return getattr(_thread, "stream", cls.main)

    @staticmethod
    @contextlib.contextmanager
    def stream(stream: Stream) -> Iterator[None]:
        _thread.stream = stream
        try:
            yield
        finally:
            del _thread.stream


def _same_memory(x: torch.Tensor, device: str) -> torch.Tensor:
    """The tensor as one of another device."""
    memory = x.untyped_storage()
    there = _C._construct_storage_from_data_pointer(memory.data_ptr(), torch.device(device), memory.nbytes())
    empty = torch.empty(0, dtype=x.dtype) if device == "cpu" else _C._acc.create_empty_tensor((0,), x.dtype)
    return _placed(empty, there, x)


def _placed(empty: torch.Tensor, memory: Any, like: torch.Tensor) -> torch.Tensor:
    place = (like.storage_offset(), like.size(), like.stride())
    return _aten.set_.source_Storage_storage_offset.redispatch(_CPU, empty, memory, *place)


def _lifted(x: torch.Tensor) -> torch.Tensor:
    """A result of the CPU's as a tensor of the device."""
    _memory.append(x.untyped_storage())
    return _same_memory(x, f"{NAME}:0")


class _Call:
    """One operation, run on the CPU."""

    def __init__(self, op: Any, args: Any, kwargs: Any) -> None:
        self.op, self.known = op, dict[int, tuple[torch.Tensor, torch.Tensor]]()
        self.args, self.kwargs = tree_map(self.lower, (args, kwargs))
        if "pin_memory" in self.kwargs:
            self.kwargs["pin_memory"] = False

    def lower(self, x: Any) -> Any:
        if isinstance(x, torch.Tensor) and x.device.type == NAME:
            host = _same_memory(x, "cpu")
            self.known[id(host)] = host, x
            return host
        return torch.device("cpu") if isinstance(x, torch.device) else x

    def lift(self, x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return self.known[id(x)][1] if id(x) in self.known else _lifted(x)

    def run(self) -> Any:
        grown = []
        for a in self.op._schema.arguments:  # results whose memory the operation makes itself
            if a.kwarg_only and a.alias_info is not None and a.name in self.kwargs and not self.kwargs[a.name].numel():
                empty = self.known[id(self.kwargs[a.name])][1]
                self.kwargs[a.name] = new = torch.empty(0, dtype=empty.dtype)
                self.known[id(new)] = new, empty
                grown.append((new, empty))
        with _C._ForceDispatchKeyGuard(*_ORDINARY):
            result = self.op(*self.args, **self.kwargs)
        for new, empty in grown:
            _placed(empty, _lifted(new).untyped_storage(), new)
        return tree_map(self.lift, result)

    def copy(self) -> torch.Tensor:
        source, target, *_ = self.args
        stream = Module.current_stream()
        if stream is not Module.main and id(target) not in self.known:
            assert source.stride() == target.stride(), "a copy to the host with other strides is not made beside it"
        stream.queue.append(lambda: target.copy_(source))
        if stream is Module.main:
            stream.run()
            stream.queue.clear()
        return self.known[id(target)][1] if id(target) in self.known else target


def _fallback(op: Any, *args: Any, **kwargs: Any) -> Any:
    name = op._schema.name.partition("::")[2]
    if name == "record_stream":
        Module.recorded += 1
        return None
    if name in _VIEWS:
        return op.redispatch(_CPU, *args, **kwargs)
    call = _Call(op, args, kwargs)
    return call.copy() if name == "_copy_from" else call.run()


_setup_privateuseone_for_python_backend(NAME, backend_module=Module())
_library = torch.library.Library("_", "IMPL")
_library.fallback(_fallback, "PrivateUse1")
# Pinned memory is an accelerator's, and here is none.
StreamTransfers.host_memory = lambda self, x: torch.empty_like(x, device="cpu")  # type: ignore[method-assign]

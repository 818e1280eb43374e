"""Numbers on their way between a device and host memory, beside what the device computes.

Each direction has a separate stream. The device waits only through its streams. The host waits for what it is about to
read: `to_host` and `to_device` return a function that does this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

Tensor = torch.Tensor
#: Waits until a copy has been made.
Wait = Callable[[], object]


class Transfers(Protocol):
    """What copies between one device and the host."""

    def host_memory(self, x: Tensor) -> Tensor:
        """Host memory for a tensor of the device, of its dtype and strides."""

    def to_host(self, x: Tensor, host: Tensor) -> Wait:
        """Copies a tensor as what has been queued until now will leave it; `x` may be freed at once."""

    def to_device(self, host: Tensor, x: Tensor) -> Wait:
        """Copies into a tensor after what has been queued until now, which may read it."""

    def wait(self) -> None:
        """Lets what is queued from now on wait for all that was sent to the device."""


class StreamTransfers:
    """Through streams and pinned memory, as CUDA has them."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.module = device, torch.get_device_module(device)
        self.down, self.up = self.module.Stream(device), self.module.Stream(device)

    def host_memory(self, x: Tensor) -> Tensor:
        return torch.empty_like(x, device="cpu", pin_memory=True)

    def to_host(self, x: Tensor, host: Tensor) -> Wait:
        x = x if x.stride() == host.stride() else x.contiguous()
        self.down.wait_stream(self.module.current_stream(self.device))
        with self.module.stream(self.down):
            host.copy_(x, non_blocking=True)
        x.record_stream(self.down)
        wait: Wait = self.down.record_event().synchronize
        return wait

    def to_device(self, host: Tensor, x: Tensor) -> Wait:
        self.up.wait_stream(self.module.current_stream(self.device))
        with self.module.stream(self.up):
            x.copy_(host, non_blocking=True)
        wait: Wait = self.up.record_event().synchronize
        return wait

    def wait(self) -> None:
        self.module.current_stream(self.device).wait_stream(self.up)


class PlainTransfers:
    """On devices without streams: each copy is made at once."""

    def host_memory(self, x: Tensor) -> Tensor:
        return torch.empty_like(x, device="cpu")

    def to_host(self, x: Tensor, host: Tensor) -> Wait:
        host.copy_(x)
        return _no_wait

    def to_device(self, host: Tensor, x: Tensor) -> Wait:
        x.copy_(host)
        return _no_wait

    def wait(self) -> None:
        return None


def _no_wait() -> None:
    """Nothing to wait for."""


def transfers(device: torch.device) -> Transfers:
    """What copies between this device and the host."""
    module = torch.get_device_module(device)
    streams = all(hasattr(module, name) for name in ("Stream", "stream", "current_stream"))
    return StreamTransfers(device) if streams else PlainTransfers()

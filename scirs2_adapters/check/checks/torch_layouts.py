"""How torch's tensors lie in memory must not change a walk."""

from __future__ import annotations

import numpy as np
import torch

from ..drivers.torch import Tensors, TorchDriver
from ..outcome import expect
from ..problem import Array, Arrays, distance

#: Sums over a tensor may go in another order.
_CLOSE = 1e-5


def _numbers(*shape: int) -> list[Array]:
    """First values and gradients of three steps."""
    rng = np.random.default_rng(11)
    return [rng.standard_normal(shape) for _ in range(4)]


def _walked(driver: TorchDriver, p: torch.Tensor, grads: Tensors) -> Arrays:
    driver.dense()
    parameter = torch.nn.Parameter(p)
    run = driver.over([parameter])
    for g in grads:
        run.apply([g])
    expect(parameter.stride() == p.stride(), "strides kept", "others")
    return run.params()


def _same(driver: TorchDriver, lies: Tensors, plain: Tensors) -> None:
    one = _walked(driver, lies[0], lies[1:])
    other = _walked(driver, plain[0], plain[1:])
    expect(distance(one, other) < _CLOSE, "the walk of contiguous tensors", "another walk")


def _plain(*shape: int) -> Tensors:
    return [torch.tensor(x, dtype=torch.float32) for x in _numbers(*shape)]


def transposed(driver: TorchDriver) -> None:
    """A transposed parameter walks as a contiguous one."""
    plain = _plain(6, 4)
    _same(driver, [x.t().contiguous().t() for x in plain], plain)


def channels_last(driver: TorchDriver) -> None:
    """A parameter in channels_last walks as a contiguous one."""
    plain = _plain(4, 3, 2, 5)
    _same(driver, [x.clone(memory_format=torch.channels_last) for x in plain], plain)


def strided(driver: TorchDriver) -> None:
    """A parameter that is a view with gaps walks as a contiguous one, and what lies in the gaps is unchanged."""
    plain = _plain(6, 4)
    wide = torch.full((6, 8), 7.0)
    wide[:, ::2] = plain[0]
    _same(driver, [wide[:, ::2], *plain[1:]], plain)
    expect(bool((wide[:, 1::2] == 7.0).all()), "the gaps unchanged", "a change")


def gradient_lies_otherwise(driver: TorchDriver) -> None:
    """A gradient that lies in another order than its parameter is the same gradient."""
    plain = _plain(6, 4)
    _same(driver, [plain[0].clone(), *(x.t().contiguous().t() for x in plain[1:])], plain)


def expanded_gradient(driver: TorchDriver) -> None:
    """A gradient whose numbers share memory, as that of a sum, is the same gradient."""
    start = _plain(6, 4)[0]
    _same(driver, [start.clone(), *[torch.ones(()).expand(6, 4)] * 3], [start, *[torch.ones(6, 4)] * 3])


CHECKS = (transposed, channels_last, strided, gradient_lies_otherwise, expanded_gradient)

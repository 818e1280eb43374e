"""A model of the service: its parameters, the optimizer that steps them, and the file that holds both.

The file is one of `scirs2_adapters.state`. The parameters lie in it as one slot more, and `source` says how the
optimizer was made and which request was acknowledged last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scirs2_adapters.core import HostOptimizer, get
from scirs2_adapters.core.numpy_arrays import all_finite, carried
from scirs2_adapters.core.portable import host
from scirs2_adapters.core.portable.state import loaded, save

from .bodies import from_carrier
from .refusals import Refusal, refusing


def digest(*parts: bytes) -> str:
    """What tells a request that is sent again from another one."""
    lengths = b"".join(len(part).to_bytes(8, "little") for part in parts)
    return hashlib.sha256(lengths + b"".join(parts)).hexdigest()


@dataclass
class Model:
    """Steps are numbered from 1, and `optimizer.step_count` is the last one. `request` is the digest of the request
    that brought the model to where it is.
    """

    name: str
    hyperparameters: dict[str, object]
    params: dict[str, np.ndarray]
    optimizer: HostOptimizer
    request: str

    @property
    def step_count(self) -> int:
        """How many steps have been taken."""
        return self.optimizer.step_count

    def describe(self) -> dict[str, object]:
        """What there is, as JSON."""
        params = {k: {"shape": list(p.shape), "dtype": p.dtype.name} for k, p in self.params.items()}
        return {
            "optimizer": self.name, "hyperparameters": self.hyperparameters, "step": self.step_count,
            "parameters": params, "state_bytes": self.optimizer.memory().state_bytes,
        }  # fmt: skip

    def step(self, number: int, grads: Mapping[str, np.ndarray], value: float | None, request: str) -> bool:
        """Take the step of this number; whether it was taken now. The last one may be asked for again."""
        if number == self.step_count and request == self.request:
            return False
        if number != self.step_count + 1:
            raise _conflict(number, self.step_count)
        if not grads:
            raise Refusal(422, "invalid_gradients", "The body must hold a gradient at least. Received: none.")
        check_finite("gradient", grads)
        if value is not None and not np.isfinite(value):
            raise Refusal(422, "not_finite", f"`value` must be a finite number. Received: {value}.")
        with refusing("invalid_gradients"):
            self.optimizer.step(grads, value=value)
        self.request = request
        return True

    def save(self, path: Path) -> None:
        """Write all of it; it is on the disk when this returns."""
        origin = {"request": self.request, "made": json.dumps([self.name, self.hyperparameters])}
        params = {name: host.array(carried(p)) for name, p in self.params.items()}
        state = host.with_parameters(host.read(self.optimizer), params)
        save(replace(state, source={**state.source, **origin}), path)


def created(name: str, hyperparameters: dict[str, object], params: dict[str, np.ndarray], request: str) -> Model:
    """A model before its first step."""
    with refusing("unknown_optimizer"):
        rule = get(name)
    with refusing("invalid_hyperparameters"):
        instance = rule(**hyperparameters)
    with refusing("invalid_parameters"):
        optimizer = HostOptimizer(instance, params)
    return Model(name, hyperparameters, params, optimizer, request)


def opened(path: Path) -> Model:
    """The model in a file."""
    with loaded("scirs2 serve", path) as state:
        name, hyperparameters = json.loads(state.source["made"])
        kept, stored = host.apart(state)
        params = {key: from_carrier(x.read(), x.dtype) for key, x in stored.items()}
        model = created(name, hyperparameters, params, state.source["request"])
        model.optimizer.load_state_dict(host.as_dict(model.optimizer, kept))
        return model


def check_finite(kind: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse infinities and NaN, which no step would ever get rid of."""
    wrong = [name for name, x in arrays.items() if not all_finite([x])]
    if wrong:
        message = f"The {kind} {wrong[0]!r} must be finite. Received: infinite or NaN elements."
        raise Refusal(422, "not_finite", message)


def _conflict(number: int, now: int) -> Refusal:
    message = (
        f"The next step of this model is {now + 1}. Received: step {number}, or step {now} again with another body. "
        "Get the parameters and compute the gradients anew."
    )
    return Refusal(409, "step_conflict", message, step=now)

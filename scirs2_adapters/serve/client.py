"""A client of `scirs2 serve`, which repeats what got no answer and never steps twice."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Self
from urllib.parse import urlencode, urlsplit

import numpy as np

from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.portable.file import replacing

from .bodies import MEDIA_TYPE, decode, encode

_CALL = "Client"
#: Statuses after which the same request may do better.
_LATER = (408, 429, 503)


class ServiceError(RuntimeError):
    """The service refused a request: `status` is HTTP's, `code` a word for programs, `facts` the whole answer."""

    def __init__(self, status: int, facts: Mapping[str, object]) -> None:
        super().__init__(str(facts.get("message", f"The service answered with status {status}.")))
        self.status, self.code, self.facts = status, str(facts.get("error", "")), dict(facts)


class Client:
    """The model of a token, in a service.

    A request that gets no answer, or is told to come later, is sent again until it has waited for `patience`. Steps are
    numbered, so that one which was taken before its answer got lost is not taken again.

    Arguments:
      address: `http://HOST:PORT` or `https://HOST:PORT`, as `scirs2 serve` prints it, with a path if a proxy adds one.
      token: one of the service's.
      patience: seconds to try for, >= 0.
      timeout: seconds that a connection may be silent, > 0.

    Raises `ServiceError` for what the service refuses, and `ConnectionError` if there is no answer for too long.
    """

    def __init__(self, address: str, token: str, *, patience: float = 60.0, timeout: float = 120.0) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise bad_value(_CALL, "address", "must be http://HOST:PORT or https://HOST:PORT", address)
        if not token or not token.isascii() or not token.isprintable():
            raise bad_value(_CALL, "token", "must be the text of a token", f"{len(token)} characters")
        if patience < 0 or timeout <= 0:
            raise bad_value(_CALL, "patience", "must be >= 0, and `timeout` > 0", (patience, timeout))
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout)
        self._path, self._patience = parts.path.rstrip("/"), patience
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": MEDIA_TYPE}
        self._step: int | None = None  # the last one; None until it is asked for

    def create(self, optimizer: str, params: Mapping[str, np.ndarray], /, **hyperparameters: object) -> None:
        """Make the model: an optimizer as `scirs2 list` names it, and the parameters it begins with.

        Arguments:
          optimizer: a name such as "adamw".
          params: float64, float32, float16 or bfloat16 arrays by name; they are copied, and stay as they are.
          hyperparameters: the optimizer's, such as `learning_rate=0.01`; the rest are its defaults.
        """
        for name, value in hyperparameters.items():
            _check_json(name, value)
        words = {"optimizer": optimizer, "hyperparameters": json.dumps(hyperparameters)}
        self._ask("PUT", f"/model?{urlencode(words)}", encode("Client.create", "params", params))
        self._step = 0

    def step(self, grads: Mapping[str, np.ndarray], value: float | None = None) -> dict[str, np.ndarray]:
        """Take a step; the new parameters by name. It is on the service's disk when this returns.

        Arguments:
          grads: gradients by the names of parameters, of their shapes; a parameter without one stays as it is.
          value: the loss, for an optimizer whose step depends on it.
        """
        body = encode("Client.step", "grads", grads)
        number = (self.step_count() if self._step is None else self._step) + 1
        words = "" if value is None else f"?{urlencode({'value': float(value)})}"
        self._step = None  # where it stands is not known until there is an answer
        answer = decode(self._ask("POST", f"/model/steps/{number}{words}", body))
        self._step = number
        return answer

    def step_count(self) -> int:
        """How many steps the model has taken."""
        count = self.describe()["step"]
        assert isinstance(count, int)
        return count

    def describe(self) -> dict[str, object]:
        """The model: `optimizer`, `hyperparameters`, `step`, `parameters` with shapes and dtypes, `state_bytes`."""
        facts: dict[str, object] = json.loads(self._ask("GET", "/model"))
        return facts

    def parameters(self) -> dict[str, np.ndarray]:
        """The parameters by name."""
        return decode(self._ask("GET", "/model/parameters"))

    def save_state(self, path: str | PathLike[str]) -> None:
        """Write the optimizer's state to a file that `scirs2_adapters.state.load` takes, in any framework."""
        state = self._ask("GET", "/model/state")
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(state)

    def delete(self) -> None:
        """Delete the model; no error if there is none."""
        try:
            self._ask("DELETE", "/model")
        except ServiceError as error:
            if error.status != 404:
                raise
        self._step = None

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The body of the answer, after as many tries as it takes."""
        until, pause = time.monotonic() + self._patience, 0.05
        while True:
            try:
                status, wait, answer = self._once(method, path, body)
                if status < 300:
                    return answer
                if status not in _LATER or time.monotonic() > until:
                    raise ServiceError(status, _facts(answer))
                wait = wait or pause
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                if time.monotonic() > until:
                    at = f"{self._connection.host}:{self._connection.port}"
                    worded = (
                        f"There is no answer from {at} within {self._patience:g} s ({error or type(error).__name__})."
                    )
                    raise ConnectionError(worded) from error
                wait = pause
            time.sleep(max(0.0, min(wait, until - time.monotonic())))
            pause = min(2 * pause, 2.0)

    def _once(self, method: str, path: str, body: bytes | None) -> tuple[int, float, bytes]:
        """Status, seconds to wait if the service says so, and body of the answer to one try."""
        self._connection.request(method, self._path + path, body, self._headers)
        answer = self._connection.getresponse()
        wait = answer.getheader("Retry-After") or ""
        return answer.status, float(wait) if wait.isdecimal() else 0.0, answer.read()


def _facts(answer: bytes) -> dict[str, object]:
    """What the service says, or a proxy before it."""
    try:
        facts = json.loads(answer)
    except ValueError:
        facts = None
    return facts if isinstance(facts, dict) else {"message": answer[:200].decode(errors="replace")}


def _check_json(name: str, value: object) -> None:
    try:
        json.dumps(value)
    except TypeError as error:
        worded = "must be a number, a bool, a text or None, which travel as JSON; functions and schedules do not"
        raise bad_type(f"{_CALL}.create", name, worded, value) from error

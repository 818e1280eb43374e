"""A service as a process of its own on the loopback, and raw requests to it."""

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from scirs2_adapters import state
from scirs2_adapters.serve import Client
from scirs2_adapters.serve.store import file_key
from tests.boundaries.support import ROOT

TOKENS = [f"token-of-model-number-{i}" for i in range(7)]


class Service:
    """`scirs2 serve` in a folder, with every warning an error. Started again, it listens where it did before."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self._options, self._port = folder, options, "0"
        self._clients: list[Client] = []
        folder.mkdir(exist_ok=True)
        (folder / "tokens").write_text("\n".join(TOKENS))
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-W", "error", "-m", "scirs2_adapters.cli", "serve", str(self.folder)]
        command += ["--port", self._port, *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().split()[2].rstrip(";")
        self._port = self.address.rpartition(":")[2]

    def end(self, with_signal: int = signal.SIGTERM) -> None:
        self._process.send_signal(with_signal)
        self._process.communicate(timeout=60)
        if with_signal == signal.SIGTERM:
            self.close_clients()

    def on_disk(self, model: int) -> int:
        """The number of the last step in the file of a model, of a service that has ended."""
        return state.describe(self.folder / f"{file_key(TOKENS[model])}.safetensors").step_count

    def client(self, model: int = 0) -> Client:
        self._clients.append(Client(self.address, TOKENS[model], patience=120.0))
        return self._clients[-1]

    def close_clients(self) -> None:
        while self._clients:
            self._clients.pop().close()

    def ask(
        self, method: str, path: str, body: bytes = b"", token: str = TOKENS[0], **headers: str
    ) -> tuple[int, Mapping[str, str], dict[str, object]]:
        """Status, headers and JSON of the answer to one request."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self._port), timeout=30)
        defaults = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
        try:
            connection.request(method, path, body, defaults | {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers, json.loads(answer.read())
        finally:
            connection.close()


def parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"bias": (4,), "scale": (), "weight": (6, 4)}
    return {name: np.asarray(rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}


def gradients(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step + 1)
    return {k: np.asarray(rng.normal(size=p.shape)).astype(p.dtype) for k, p in parameters().items()}


def same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    """Whether the arrays are the same in every bit."""
    return {k: (x.dtype, x.shape, x.tobytes()) for k, x in one.items()} == {
        k: (x.dtype, x.shape, x.tobytes()) for k, x in other.items()
    }

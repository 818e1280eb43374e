"""Flower's own processes on the loopback: a server that is killed and started again ends with the file, to the byte, of
a run in this process.

`make test-flower` runs it. The app is the one in examples/flower; in this process a stand-in for Flower's grid calls
its clients.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower has an environment to itself: make test-flower")

from flwr.app import Message

from scirs2_adapters import state
from tests.adapters.flower_support import identity  # noqa: F401
from tests.boundaries.support import ROOT

APP = ROOT / "examples/flower"
CLIENTS, ROUNDS = 2, 4
#: Nothing is sent to anyone, and sums of products have one order.
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "OPENBLAS_NUM_THREADS": "1"}


def run_config(folder: Path) -> dict[str, object]:
    return {"rounds": ROUNDS, "path": str(folder / "server.safetensors"), "model": str(folder / "model.npz")}


class Deployment:
    """A SuperLink and SuperNodes, each a process with processes of its own, and `flwr run`."""

    def __init__(self, folder: Path, processes: ExitStack) -> None:
        self.folder, self._processes = folder, processes
        self._environment = {**os.environ, **QUIET, "FLWR_HOME": str(folder), "PYTHONPATH": str(ROOT)}
        self._environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._port, *ports = free_ports(1 + CLIENTS)
        address = f"127.0.0.1:{self._port}"
        (folder / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{address}"\ninsecure = true\n'
        )
        self.start_server()
        for i, port in enumerate(ports):
            config = f"partition-id={i} num-partitions={CLIENTS}"
            node = ["--insecure", "--superlink", address, "--port", str(port), "--node-config", config]
            self._start("flower-supernode", *node)

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{command[0]}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment, cwd=self.folder)
        self._processes.callback(stopped, process)
        return process

    def start_server(self) -> None:
        """The database is what SuperNodes are known by after a restart."""
        options = [
            "--insecure",
            "--disable-runtime-dependency-installation",
            "--database",
            str(self.folder / "link.db"),
        ]
        self._server = self._start("flower-superlink", "--port", str(self._port), *options)
        until(lambda: answers(self._port), self)

    def kill_server(self) -> None:
        self._server.send_signal(signal.SIGKILL)
        self._server.wait()

    def run(self) -> None:
        """Begin a run of the app; it goes on in processes of the SuperLink and the SuperNodes."""
        words = [f"{key}={value!r}" for key, value in run_config(self.folder).items()]
        command = ["flwr", "run", str(APP), "here", "--run-config", " ".join(words)]
        done = subprocess.run(command, env=self._environment, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def free_ports(count: int) -> list[int]:
    with ExitStack() as taken:
        sockets = [taken.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]


def answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def stopped(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def until(there: Callable[[], bool], deployment: Deployment, most: float = 600) -> None:
    """Wait; what the processes have said is the error if it takes longer than that."""
    end = time.monotonic() + most
    while not there():
        logs = "\n".join(f"{log.name}:\n{log.read_text()}" for log in deployment.folder.glob("*.log"))
        assert time.monotonic() < end, logs
        time.sleep(0.05)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The modules of the example, as Flower's processes import them."""
    monkeypatch.syspath_prepend(str(APP))
    from digits import client, server, task

    yield SimpleNamespace(client=client, server=server, task=task)
    for name in [name for name in sys.modules if name.partition(".")[0] == "digits"]:
        del sys.modules[name]


class InProcess:
    """Flower's grid for clients that are called here."""

    def __init__(self, train: Callable[[Message, object], Message]) -> None:
        self._train = train

    def get_node_ids(self) -> list[int]:
        return list(range(CLIENTS))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return [self._train(message, context(message.metadata.dst_node_id)) for message in messages]


def context(node: int) -> SimpleNamespace:
    return SimpleNamespace(node_config={"partition-id": node, "num-partitions": CLIENTS})


def test_a_killed_server_goes_on_to_the_bytes_of_a_run_in_one_process(app: SimpleNamespace, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    written = there / "server.safetensors"
    with ExitStack() as processes:
        deployment = Deployment(there, processes)
        deployment.run()
        until(lambda: written.exists() and state.describe(written).step_count >= 1, deployment)
        deployment.kill_server()
        done = state.describe(written).step_count
        assert 1 <= done < ROUNDS
        deployment.start_server()
        deployment.run()
        until((there / "model.npz").exists, deployment)
    defaults = {"optimizer": "adam", "learning-rate": 0.1}
    app.server.main(InProcess(app.client.train), SimpleNamespace(run_config={**defaults, **run_config(here)}))
    assert written.read_bytes() == (here / "server.safetensors").read_bytes()
    for name, x in np.load(here / "model.npz").items():
        assert np.load(there / "model.npz")[name].tobytes() == x.tobytes()


def test_the_example_learns_digits_that_each_client_has_few_of(app: SimpleNamespace, tmp_path: Path) -> None:
    words = {"optimizer": "adam", "learning-rate": 0.1, **run_config(tmp_path), "rounds": 20}
    app.server.main(InProcess(app.client.train), SimpleNamespace(run_config=words))
    assert app.task.accuracy(dict(np.load(tmp_path / "model.npz")), *app.task.test_rows()) > 0.9

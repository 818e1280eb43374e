#!/usr/bin/env bash
# flwr 1.42.0: a SuperNode waits while its SuperLink is away, without a limit by default, but ends with status 0 once a SuperLink
# is back that was started without --database, as that one does not know it.
# Seen: after SIGKILL and a new start on the same port, with --database the SuperNode runs on; without, it says "SuperNode
# terminated gracefully" and ends.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check flwr==1.42.0
export PATH="$folder/venv/bin:$PATH" FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 FLWR_HOME="$folder"
python - "$folder" <<'PYTHON'
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

folder = Path(sys.argv[1])


def ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    numbers = [s.getsockname()[1] for s in taken]
    for s in taken:
        s.close()
    return numbers


def until(log: Path, words: str) -> None:
    end = time.monotonic() + 300
    while words not in log.read_text():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


def node_after_restart(name: str, *options: str) -> int | None:
    """The status of a SuperNode a minute after its SuperLink is back; None if it runs."""
    here, there = ports(2)
    logs = [folder / f"{name}-{i}.log" for i in range(3)]

    def start(log: Path, *command: str) -> subprocess.Popen:
        return subprocess.Popen([*command, "--insecure"], stdout=log.open("wb"), stderr=subprocess.STDOUT)

    link = start(logs[0], "flower-superlink", "--port", str(here), *options)
    until(logs[0], "Uvicorn running")
    node = start(logs[1], "flower-supernode", "--superlink", f"127.0.0.1:{here}", "--port", str(there))
    until(logs[0], "Activated node_id")
    link.kill()
    link.wait()
    link = start(logs[2], "flower-superlink", "--port", str(here), *options)
    until(logs[2], "Uvicorn running")
    try:
        return node.wait(timeout=60)
    except subprocess.TimeoutExpired:
        return None
    finally:
        for process in (node, link):
            process.terminate()
            process.wait()


print(f"flwr {version('flwr')}")
kept = node_after_restart("with", "--database", str(folder / "link.db"))
print(f"with a database: status of the SuperNode {kept}")
lost = node_after_restart("without")
print(f"without a database: status of the SuperNode {lost}")
assert version("flwr") == "1.42.0"
assert (kept, lost) == (None, 0)
assert "SuperNode terminated gracefully" in (folder / "without-1.log").read_text()
print("as seen before: SuperNodes end, without an error, when a SuperLink without a database starts again")
PYTHON

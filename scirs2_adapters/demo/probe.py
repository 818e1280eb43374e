"""Which paths run in an adapter on this machine: each is tried with one step. `python -m scirs2_adapters.demo.probe
ADAPTER` prints the answer as JSON.

An answer deduced from versions could differ from what the adapters decide.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from scirs2_adapters.adapters import adapters

from .data import MODULES


def path_taken(adapter: str) -> str:
    """The path of an ordinary AdamW on float32 in this process: "host" where the kernel runs, else "traced"."""
    return "traced" if obstacle(step_once, adapter, "host") else "host"


def step_once(adapter: str, kernel: str) -> None:
    """One step of this adapter's AdamW in this process."""
    import_module(f".{MODULES[adapter]}", __package__).step_once(kernel)


def obstacle(attempt: Callable[..., object], *arguments: str) -> str | None:
    """Why an attempt fails, or None when it succeeded."""
    try:
        attempt(*arguments)
    except Exception as error:  # of any kind: it is the answer
        return " ".join(str(error).split()) or type(error).__name__
    return None


def loaded_libraries() -> list[str]:
    """The names of the shared libraries that are loaded; nothing where the system does not say."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    return sorted({line.rpartition("/")[2] for line in lines if ".so" in line.rpartition("/")[2]})


def main() -> None:
    """Import the adapter and step once on each path."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what frameworks print is not part of the answer
    adapter = sys.argv[1]
    assert adapter in adapters()
    answer: dict[str, object] = {"missing": obstacle(import_module, f"scirs2_adapters.{adapter}")}
    if answer["missing"] is None and adapter in MODULES:
        answer |= {kernel: obstacle(step_once, adapter, kernel) for kernel in ("host", "traced")}
    json.dump(answer | {"loaded": loaded_libraries()}, out)
    out.close()


if __name__ == "__main__":
    main()

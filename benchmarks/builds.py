"""Compares this build with another checkout in one process: `python -m benchmarks.builds ../other`.

Both packages have the same name. Before a function of a build runs, the modules of that build are put into
`sys.modules`, so that imports inside functions find the right ones. The cases are small, so that they show what an
optimizer costs apart from arithmetic. A ratio above 1 means that this build is slower.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch

from scirs2_adapters.demo.timing import seconds

PACKAGE = "scirs2_adapters"
FRAMEWORKS = ("torch", "jax", "core")
NAMES = ("adamw", "sgd", "lamb", "muon", "adafactor", "prodigy")


class Build:
    """The modules of one checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder.resolve())
        self.modules: dict[str, ModuleType] = {}
        self.use()
        if not Path(str(importlib.import_module(PACKAGE).__file__)).is_relative_to(self.folder):
            raise ImportError(f"{self.folder} is no checkout of this package.")
        with _operators_dropped():
            for name in FRAMEWORKS:
                importlib.import_module(f"{PACKAGE}.{name}")
        self.keep()
        for module in self.modules.values():
            if hasattr(module, "TARGET"):  # XLA takes a name only once
                module.TARGET += self.folder.replace("/", "_")

    def use(self) -> None:
        """Make this the build that imports find."""
        for name in [n for n in sys.modules if n.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
        sys.modules.update(self.modules)
        sys.path[:] = [self.folder, *(p for p in sys.path if p != self.folder)]

    def keep(self) -> None:
        """Take the modules that have been imported meanwhile."""
        self.modules = {n: m for n, m in sys.modules.items() if n.partition(".")[0] == PACKAGE}


@contextmanager
def _operators_dropped() -> Iterator[None]:
    """Take back the operators that a build registers in torch. torch takes each name only once, and no eager step needs
    them.
    """
    library = torch.library.Library
    libraries: list[torch.library.Library] = []

    def register(*arguments: Any) -> torch.library.Library:
        libraries.append(library(*arguments))
        return libraries[-1]

    torch.library.Library = register  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        torch.library.Library = library  # type: ignore[misc]
        for registered in libraries:
            registered._destroy()


class Case(NamedTuple):
    """A function of a build: what it is, how to make it, how many calls make one measurement."""

    name: str
    make: Callable[[], Callable[[], object]]
    repeat: int


def cases() -> Iterator[Case]:
    """What is measured, for several kinds of rules."""
    for name in NAMES:
        yield from _torch(name)
    for name in NAMES:
        yield Case(f"numpy {name}, step of 10 x 64", _numpy(name), 50)
    for name in ("adamw", "lamb"):
        yield Case(f"jax {name}, step of 10 x 64", _jax(name), 20)


def _optimizer(name: str, count: int) -> torch.optim.Optimizer:
    """The build's torch class of this name, with `count` parameters of 64 numbers."""
    adapter = importlib.import_module(f"{PACKAGE}.torch")
    rule = importlib.import_module(PACKAGE).get(name)
    params = [torch.nn.Parameter(torch.ones(8, 8)) for _ in range(count)]
    for p in params:
        p.grad = torch.full((8, 8), 1e-3)
    optimizer: torch.optim.Optimizer = getattr(adapter, rule.__name__)(params, lr=1e-6)
    return optimizer


def _construct(name: str) -> Callable[[], object]:
    optimizer = _optimizer(name, 1_000)
    params = optimizer.param_groups[0]["params"]
    return lambda: type(optimizer)(params, lr=1e-6)  # type: ignore[call-arg]


def _scheduled(name: str) -> Callable[[], object]:
    optimizer = _optimizer(name, 10)

    def step() -> None:
        optimizer.param_groups[0]["lr"] *= 0.9999
        optimizer.step()

    return step


def _save(name: str) -> Callable[[], object]:
    optimizer = _optimizer(name, 10)
    optimizer.step()
    return optimizer.state_dict


def _load(name: str) -> Callable[[], object]:
    optimizer = _optimizer(name, 10)
    optimizer.step()
    state = optimizer.state_dict()
    return lambda: optimizer.load_state_dict(state)


def _torch(name: str) -> Iterator[Case]:
    yield Case(f"torch {name}, construct 1,000", partial(_construct, name), 1)
    yield Case(f"torch {name}, step of 10 x 64", lambda: _optimizer(name, 10).step, 50)
    yield Case(f"torch {name}, step of 10 x 64, new lr", partial(_scheduled, name), 50)
    yield Case(f"torch {name}, state_dict of 10", partial(_save, name), 20)
    yield Case(f"torch {name}, load_state_dict of 10", partial(_load, name), 5)


def _numpy(name: str) -> Callable[[], Callable[[], object]]:
    def make() -> Callable[[], object]:
        core = importlib.import_module(f"{PACKAGE}.core")
        rule = importlib.import_module(PACKAGE).get(name)
        params = {str(k): np.ones((8, 8), np.float32) for k in range(10)}
        grads = {k: np.full((8, 8), 1e-3, np.float32) for k in params}
        optimizer = core.HostOptimizer(rule(learning_rate=1e-6), params)
        return lambda: optimizer.step(grads)

    return make


def _jax(name: str) -> Callable[[], Callable[[], object]]:
    def make() -> Callable[[], object]:
        import jax.numpy as jnp

        adapter = importlib.import_module(f"{PACKAGE}.jax")
        tx = getattr(adapter, name)(learning_rate=1e-6)
        params = [jnp.ones((8, 8)) for _ in range(10)]
        grads = [jnp.full((8, 8), 1e-3) for _ in range(10)]
        state = tx.init(params)
        return lambda: tx.update(grads, state, params)

    return make


def measure(builds: Sequence[Build], case: Case, rounds: int) -> list[list[float]]:
    """Seconds of one call in each build, in turn."""
    functions: list[Callable[[], object]] = []
    times: list[list[float]] = [[] for _ in builds]
    for build in builds:
        build.use()
        functions.append(case.make())
        for _ in range(3):
            functions[-1]()
        build.keep()
    for i in range(rounds):
        for k in range(len(builds)):
            which = (i + k) % len(builds)
            builds[which].use()
            functions[which]()
            times[which].append(seconds(functions[which], case.repeat))
    return times


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.builds", description=__doc__)
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument("--only", default="", help="part of the names of the cases")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    builds = [Build(folder) for folder in (Path(__file__).parents[1], options.other)]
    print("| case | this build, µs | the other, µs | ratio |\n|---|---:|---:|---:|")
    for case in cases():
        if options.only in case.name:
            ours, theirs = measure(builds, case, options.rounds)
            ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
            print(f"| {case.name} | {median(ours) * 1e6:.1f} | {median(theirs) * 1e6:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()

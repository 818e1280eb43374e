"""Threads, forks, nested programs and donated memory: nothing hangs, nothing crashes, the numbers are the same bits.

Each scene is played by a process of its own, which ends itself and says where it stood if it is not done in time; the
processes that it forks are ended by an alarm, for a child that hangs would keep its parent's pipes open.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scirs2_adapters
from scirs2_adapters import jax as adapter
from tests.boundaries.support import fresh
from tests.conformance.cells import by_rows
from tests.sampling import taken

Tree = Any
THREADS, STEPS, SECONDS = 8, 4, 120
#: The variable that says to a scene with which optimizers it is played, by comma.
NAMES = "SCIRS2_TEST_OPTIMIZERS"


def made(seed: int) -> Tree:
    random = np.random.default_rng(seed)
    return {k: jnp.array(random.standard_normal(s), jnp.float32) for k, s in {"w": (64, 33), "b": (7,)}.items()}


def digest(tree: Tree) -> str:
    return hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(tree))).hexdigest()


def stepper(name: str) -> tuple[Any, Callable[..., Any]]:
    tx = getattr(adapter, name)(1e-2)
    return tx, lambda params, state, grads: adapter.step(tx, grads, state, params)


def walk(tx: Any, step: Callable[..., Any]) -> str:
    params, grads = made(0), made(1)
    state = tx.init(params)
    for _ in range(STEPS):
        params, state = step(params, state, grads)
    return digest((params, state))


def together() -> None:
    """All threads step by the same programs, each by another first: they compile, load and register at once. Then a
    jitted step runs in a scan in a jitted function to which everything is donated.
    """
    steppers = {n: stepper(n) for n in os.environ[NAMES].split(",")}
    jitted = {n: (tx, jax.jit(step, donate_argnums=(0, 1))) for n, (tx, step) in steppers.items()}
    names, digests = list(jitted), [dict[str, str]() for _ in range(THREADS)]

    def work(i: int) -> None:
        first = i * len(names) // THREADS
        for name in names[first:] + names[:first]:
            digests[i][name] = walk(*jitted[name])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(json.dumps([digests, {n: nested(*jitted[n]) for n in names}]))


def nested(tx: Any, step: Callable[..., Any]) -> list[Any]:
    """What all steps in one program find, and whether it has given back what it was given."""

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def all_steps(params: Tree, state: Tree, grads: Tree) -> Any:
        body = lambda carry, _: (step(*carry, grads), None)  # noqa: E731
        return *jax.lax.scan(body, (params, state), None, STEPS)[0], grads

    params, grads = made(0), made(1)
    state = tx.init(params)
    buffers = jax.tree.leaves((params, state, grads))
    whole = all_steps(params, state, grads)
    return [digest(whole[:2]), all(x.is_deleted() for x in buffers)]


def batch(seed: int) -> float:
    """What a data loader's process does; an alarm ends it if it hangs."""
    signal.alarm(SECONDS)
    return norm(seed)


def norm(seed: int) -> float:
    x = np.random.default_rng(seed).standard_normal((64, 64))
    return float(np.linalg.norm(x @ x.T))


def put(seed: int, queue: Any) -> None:
    queue.put(batch(seed))


def spawned(name: str, queue: Any) -> None:
    """A process that knows nothing yet."""
    queue.put(walk(*stepper(name)))


def collected(method: str, target: Callable[..., None], args: list[Any]) -> tuple[list[Any], list[int | None]]:
    """What processes hand back, in any order, and how they have ended."""
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    children = [context.Process(target=target, args=(arg, queue)) for arg in args]
    for child in children:
        child.start()
    answers = [queue.get(timeout=SECONDS) for _ in children]
    for child in children:
        child.join(SECONDS)
    return answers, [child.exitcode for child in children]


def loaders() -> None:
    """Data loaders: children forked while other threads step, and a pool that works beside the steps; and a spawned
    process, which steps as its parent does.
    """
    tx, step = stepper("adamw")
    jitted = jax.jit(step)
    ends, done = [walk(tx, jitted)], threading.Event()

    def keep_stepping() -> None:
        while not done.is_set():
            ends.append(walk(tx, jitted))

    stepping = [threading.Thread(target=keep_stepping) for _ in range(2)]
    for thread in stepping:
        thread.start()
    batches, codes = collected("fork", put, list(range(8)))
    done.set()
    for thread in stepping:
        thread.join()
    loaded = []
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for value in pool.imap(batch, range(8)):
            ends.append(walk(tx, jitted))
            loaded.append(value)
    theirs, last = collected("spawn", spawned, ["adamw"])
    print(json.dumps([codes + last, sorted(batches) == sorted(loaded), loaded, len({*ends, *theirs})]))


def alone() -> None:
    print(json.dumps(walk(*stepper("adamw"))))


def played(scene: Callable[[], None], **env: str) -> Any:
    """What a process of its own prints for a scene."""
    code = f"from tests.adapters.test_jax_concurrency import played_here; played_here({scene.__name__!r})"
    return json.loads(fresh(code, **env).stdout.splitlines()[-1])


def played_here(scene: str) -> None:
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    globals()[scene]()


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> tuple[list[dict[str, str]], dict[str, Any]]:
    threads, whole = played(together, **{NAMES: ",".join(taken(request, scirs2_adapters.names()))})
    return threads, whole


@pytest.mark.slow
def test_eight_threads_that_step_for_the_first_time_at_once_find_the_same_bits(runs: Any) -> None:
    assert len(runs[0]) == THREADS
    assert runs[0][0]
    assert all(f == runs[0][0] for f in runs[0])


@pytest.mark.slow
def test_steps_nested_in_a_program_that_owns_everything_are_steps_one_by_one(runs: Any) -> None:
    same = {n for n, (bits, _) in runs[1].items() if bits == runs[0][0][n]}
    differing = runs[0][0].keys() - same
    assert {n for n in differing if not by_rows(n)} == set()  # sums of rows XLA puts together otherwise
    assert same
    assert [n for n, (_, released) in runs[1].items() if not released] == []


@pytest.mark.slow
def test_processes_are_forked_and_spawned_while_steps_run() -> None:
    codes, alike, loaded, kinds_of_ends = played(loaders)
    assert codes == [0] * 9
    assert alike
    assert loaded == pytest.approx([norm(i) for i in range(8)])
    assert kinds_of_ends == 1


@pytest.mark.slow
def test_where_no_kernel_can_be_kept_a_process_compiles_its_own(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("in the way of the directory, also for the superuser, to whom nothing is read-only")
    assert played(alone, SCIRS2_CACHE_DIR=str(taken)) == walk(*stepper("adamw"))

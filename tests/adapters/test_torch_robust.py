"""Threads, processes, places without permission, numbers that are none: what a long run meets sooner or later."""

from __future__ import annotations

import copy
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from scirs2_adapters import get
from scirs2_adapters.core.registry import plain as plain_name
from tests.boundaries.support import fresh
from tests.conformance.cells import matrix_functions
from tests.sampling import taken

from .torch_support import (
    ALL,
    alike,
    distance,
    each_optimizer,
    each_path,
    each_variant,
    ours,
    params_of,
    plain,
    same,
    walk,
)

pytestmark = pytest.mark.usefixtures("one_thread")

#: For forked children, in which torch's own threads are gone: each tensor is less than torch shares out among them,
#: all of them together more than one thread of ours is given.
FORKABLE = ((170, 180),) * 9
#: Some work for more than one thread, and some that is less than a work item.
SHAPES = ((400, 300), (513,), (3, 2, 5))
NOT_FINITE = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


def walked(name: str, shapes: tuple[tuple[int, ...], ...] = SHAPES, steps: int = 2, **options: Any) -> Any:
    """An optimizer after some steps; children of other processes call it too."""
    optimizer = ours(name)(plain(shapes=shapes), **options)
    walk(optimizer, steps=steps)
    return optimizer


@pytest.mark.usefixtures("threads_for_little_work")
@each_optimizer
def test_the_number_of_threads_changes_no_bit(name: str) -> None:
    """But for those that torch computes: its products of matrices are rounded in another order."""
    before, ends = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            ends.append(walked(name))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert alike(name, ends[0], ends[1])
    assert alike(name, ends[0], ends[2])


@each_path
def test_eight_threads_step_eight_optimizers_of_every_kind_at_once(kernel: str) -> None:
    few = ((40, 30), (7,))
    expected = {name: walked(name, few, steps=3, kernel=kernel) for name in ALL}
    start, finished, errors = threading.Barrier(8), [], []

    def run(turn: int) -> None:
        try:
            start.wait()
            for name in (*ALL[turn:], *ALL[:turn]):  # at any moment different ones, and some the same
                finished.append((name, walked(name, few, steps=3, kernel=kernel)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert errors == []
    assert len(finished) == 8 * len(ALL)
    assert all(same(expected[name], optimizer) for name, optimizer in finished)


FORKED = """
import os, torch, warnings
warnings.simplefilter("ignore")
from tests.adapters.test_torch_robust import FORKABLE, alike, walk, walked
from tests.threads import for_little_work
for_little_work()
torch.set_num_threads(2)
parents = {{name: walked(name, FORKABLE, 1, kernel="host") for name in {names}}}
child = os.fork()
if child == 0:
    kept = all(alike(name, parents[name], walked(name, FORKABLE, 1, kernel="host")) for name in {names})
    for optimizer in parents.values():  # the parent's own objects go on in the child
        walk(optimizer, steps=1)
    os._exit(0 if kept else 1)
assert os.waitpid(child, 0)[1] == 0
assert all(alike(name, parents[name], walked(name, FORKABLE, 1, kernel="host")) for name in {names})  # its own still
"""


@pytest.mark.slow
def test_a_forked_child_goes_on_after_its_parent_has_stepped(request: pytest.FixtureRequest) -> None:
    fresh(FORKED.format(names=taken(request, ALL)))


SPAWNED = """
import torch
from torch import multiprocessing as mp
from tests.adapters.test_torch_robust import child
if __name__ == "__main__":
    torch.set_num_threads(1)
    mp.spawn(child, nprocs=1)
"""


def child(rank: int) -> None:
    """Steps an optimizer that has come through a pickle, and one of its own."""
    optimizer = walked("AdamW", steps=1)
    again = copy.deepcopy(optimizer)
    walk(optimizer, again, steps=1, seed=rank)
    assert same(optimizer, again)


@pytest.mark.slow
def test_spawned_children_step(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(SPAWNED)
    fresh(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')")


PLACES = """
import warnings
from tests.adapters.test_torch_robust import same, walked
assert same(walked("AdamW", kernel="host"), walked("AdamW"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["cache directory", "home"])
def test_where_nothing_can_be_written_it_steps_all_the_same(tmp_path: Path, place: str) -> None:
    """Below a file nobody can make a folder, not even root, for whom permissions mean nothing."""
    (tmp_path / "file").write_text("in the way")
    closed = str(tmp_path / "file" / "inside")
    if place == "home":
        done = fresh(PLACES, SCIRS2_CACHE_DIR="", HOME=closed, XDG_CACHE_HOME="")
    else:
        done = fresh(PLACES, SCIRS2_CACHE_DIR=closed)
    assert done.stderr.count("cannot be written") == 1
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.slow
def test_a_cache_that_may_only_be_read_is_used(tmp_path: Path) -> None:
    fresh(PLACES, SCIRS2_CACHE_DIR=str(tmp_path))
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    for path in (*kept, tmp_path):
        path.chmod(0o555 if path == tmp_path else 0o444)
    try:
        done = fresh(f"{PLACES}\nimport sys\nassert 'numba' not in sys.modules", SCIRS2_CACHE_DIR=str(tmp_path))
    finally:
        tmp_path.chmod(0o755)
    assert done.stderr == ""
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == kept


@pytest.mark.parametrize("value", NOT_FINITE)
@each_variant
def test_numbers_that_are_not_finite_do_the_same_on_both_paths(name: str, options: dict[str, Any], value: str) -> None:
    """Wherever a formula lets them through, and wherever it does not; nothing hangs or raises."""

    def struck(g: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        g.view(-1)[2:3] = NOT_FINITE[value]
        return g if p.ndim == 1 else g.nan_to_num(0, 1, -1)

    pair = [ours(name)(plain(shapes=((5, 3), (7,))), kernel=kernel, **options) for kernel in ("host", "traced")]
    walk(*pair, steps=1)
    walk(*pair, steps=1, seed=2, lay=struck)
    walk(*pair, steps=2, seed=3)
    ends = [[p.detach() for p in params_of(optimizer)] for optimizer in pair]
    # Without memory the parameter is infinite now: weight decay of 0 times it is NaN, where it is not left out.
    if not {slot for memory in pair[0].state.values() for slot in memory} - {"step"}:
        ends = [[torch.where(p.isinf(), torch.nan, p) for p in params] for params in ends]
    for p, q in zip(*ends, strict=True):
        torch.testing.assert_close(p, q, equal_nan=True, rtol=1e-4, atol=1e-5)
    whole, broken = params_of(pair[0])
    if not get(name)().model_slots():  # whose sums over the model take part in every step
        assert torch.isfinite(whole).all()
        if value == "nan":
            assert torch.isnan(broken[2])


@each_path
@each_variant
def test_gradients_and_random_states_are_left_alone(name: str, options: dict[str, Any], kernel: str) -> None:
    optimizer = walked(name, ((5, 3), (7,)), kernel=kernel, **options)
    grads = [p.grad for p in params_of(optimizer)]
    copied, random = [g.clone() for g in grads], torch.get_rng_state()
    known = [(g.data_ptr(), g._version) for g in grads]
    optimizer.step()
    assert all(p.grad is g for p, g in zip(params_of(optimizer), grads, strict=True))
    assert all(map(torch.equal, grads, copied))
    assert [(g.data_ptr(), g._version) for g in grads] == known
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("name", [name for name in ALL if not matrix_functions(plain_name(name))])
def test_a_step_of_the_kernel_takes_no_memory_of_the_models_size(name: str) -> None:
    """What torch's allocator hands out during a step, of many parameters. Functions of matrices need such memory."""
    optimizer = walked(name, ((64, 64),) * 20, kernel="host")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiled:
        optimizer.step()
    taken = sum(max(0, row.self_cpu_memory_usage) for row in profiled.key_averages())
    assert taken < sum(p.numel() * p.element_size() for p in params_of(optimizer)) / 4


@each_optimizer
def test_an_error_within_a_step_leaves_everything_as_it_was(name: str) -> None:
    optimizer = walked(name, ((5, 3), (7,)))
    before = copy.deepcopy(optimizer)
    p = params_of(optimizer)[-1]
    p.grad = torch.ones(7).to_sparse()
    try:
        optimizer.step()
    except RuntimeError as error:
        assert "sparse" in str(error)  # noqa: PT017  # some take them
        assert distance(before, optimizer) == 0

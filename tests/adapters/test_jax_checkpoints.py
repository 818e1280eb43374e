"""A run that is saved in the middle goes on as if it had not been: Orbax, safetensors, Flax, and from path to path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import numpy as np
import orbax.checkpoint as orbax
import pytest
import safetensors.numpy

import scirs2_adapters
from scirs2_adapters import jax as adapter

from .jax_support import gap, gradients, kinds, one_call, same_bits, tree, walk

each_rule = pytest.mark.parametrize("name", scirs2_adapters.names())
Tree = Any


def by_orbax(saved: Tree, like: Tree, folder: Path) -> Tree:
    """Restored into abstract arrays, as a job that starts anew does."""
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "run", saved)
    with orbax.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder / "run", like)


def by_safetensors(saved: Tree, like: Tree, folder: Path) -> Tree:
    """Every leaf under its path in the tree."""
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [jax.tree_util.keystr(path) for path, _ in paths]
    arrays = dict(zip(names, map(np.asarray, jax.tree.leaves(saved)), strict=True))
    safetensors.numpy.save_file(arrays, folder / "run.safetensors")
    loaded = safetensors.numpy.load_file(folder / "run.safetensors")
    return structure.unflatten([jax.numpy.asarray(loaded[name]) for name in names])


def by_msgpack(saved: Tree, like: Tree, folder: Path) -> Tree:
    """Flax's own format, which restores into a tree of the same structure."""
    (folder / "run.msgpack").write_bytes(flax.serialization.to_bytes(saved))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    restored = flax.serialization.from_bytes(zeros, (folder / "run.msgpack").read_bytes())
    return jax.tree.map(jax.numpy.asarray, restored)


FORMATS: list[Callable[[Tree, Tree, Path], Tree]] = [by_orbax, by_safetensors, by_msgpack]


@pytest.mark.slow
@each_rule
@pytest.mark.parametrize("form", FORMATS)
def test_a_run_goes_on_from_a_checkpoint(name: str, form: Callable[..., Tree], tmp_path: Path) -> None:
    tx, start, grads = getattr(adapter, name)(1e-2), tree(0), gradients(4)
    start = {k: v for k, v in start.items() if k != "e"}  # a checkpoint of Orbax holds no array of size 0
    grads = [{k: v for k, v in g.items() if k != "e"} for g in grads]
    wanted = walk(one_call(tx), tx.init(start), start, grads)
    saved = walk(one_call(tx), tx.init(start), start, grads[:2])
    params, state = form(saved, jax.eval_shape(lambda p: (p, tx.init(p)), start), tmp_path)
    assert same_bits((params, state), saved)
    assert same_bits(walk(one_call(tx), state, params, grads[2:]), wanted)


@each_rule
def test_a_checkpoint_of_one_path_goes_on_on_the_other(name: str) -> None:
    start, grads = tree(0), gradients(4)
    auto, traced = getattr(adapter, name)(1e-2), getattr(adapter, name)(1e-2, kernel="traced")
    wanted = walk(one_call(traced), traced.init(start), start, grads)
    params, state = walk(one_call(auto), auto.init(start), start, grads[:2])
    assert kinds(state) == kinds(traced.init(start))
    assert gap(walk(one_call(traced), state, params, grads[2:])[0], wanted[0], start) < 1e-5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_memory_of_fewer_bits_is_kept_as_it_is(dtype: str, tmp_path: Path) -> None:
    tx, start = adapter.adamw(state_dtype=dtype), {"w": tree(0)["w"]}
    saved = walk(one_call(tx), tx.init(start), start, [{"w": tree(1)["w"]}])
    for form in FORMATS:
        restored = form(saved, jax.eval_shape(lambda p: (p, tx.init(p)), start), tmp_path)
        assert same_bits(restored, saved), form

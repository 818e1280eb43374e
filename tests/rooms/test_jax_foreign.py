"""The foreign call where it cannot be made: another layout of its frames, no compiler, programs that leave the process.

Under `auto` the formula is traced then, and the same numbers come out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import scirs2_adapters
from scirs2_adapters import jax as room
from scirs2_adapters.adapters.jax import paths
from scirs2_adapters.core.execute import ffi

from .jax_support import KERNEL, gap, one_call, tree

each_kernel = pytest.mark.parametrize("name", KERNEL)


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As before the first step of a process; XLA, which takes a name once, is not told again."""
    monkeypatch.setattr(jax.ffi, "register_ffi_target", lambda *args, **given: None)
    paths._register.cache_clear()
    yield monkeypatch
    paths._register.cache_clear()


def test_another_layout_of_frames_is_traced_with_one_warning(
    unregistered: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unregistered.setattr(ffi, "frame_bytes", lambda: ffi.FRAME_BYTES - 8)
    with caplog.at_level(logging.WARNING, "scirs2"):
        for name in scirs2_adapters.names():
            assert "the host kernel" not in room.explain(
                getattr(room, name)(), {"w": jnp.ones(3), "m": jnp.ones((2, 2))}
            )
    assert [r.message for r in caplog.records if "another layout" in r.message] == [
        "scirs2: this jaxlib's foreign calls have another layout than is known; steps are traced"
    ]
    with pytest.raises(ValueError, match=r'host.*another layout.*Use kernel="traced"'):
        room.explain(room.adamw(kernel="host"), {"w": jnp.ones(3)})


@each_kernel
def test_without_a_compiler_every_rule_is_traced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "reason_against", lambda dtypes: "numba's compiler cannot be loaded")
    assert "traced: numba's compiler" in room.explain(getattr(room, name)(), {"w": jnp.ones(3)})
    with pytest.raises(ValueError, match=r'host.*numba.*Use kernel="traced"'):
        room.explain(getattr(room, name)(kernel="host"), {"w": jnp.ones(3)})


def exported(tx: Any) -> Any:
    params = tree(0)
    return jax.export.export(jax.jit(one_call(tx)))(params, tx.init(params), params)


def test_a_program_with_a_call_into_this_process_is_not_exported() -> None:
    with pytest.raises(ValueError, match="scirs2_step"):
        exported(room.adamw())


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_a_traced_program_is_exported(name: str) -> None:
    tx, params, grads = getattr(room, name)(kernel="traced"), tree(0), tree(1)
    leaves, form = jax.tree.flatten(tx.init(params))  # JAX writes no named tuples

    def step(grads: Any, leaves: Any, params: Any) -> Any:
        return jax.tree.leaves(one_call(tx)(grads, jax.tree.unflatten(form, leaves), params))

    written = jax.export.export(jax.jit(step), platforms=("cpu", "tpu"))(grads, leaves, params).serialize()
    found, wanted = jax.export.deserialize(written).call(grads, leaves, params), step(grads, leaves, params)
    assert gap(found, wanted, jax.tree.map(jnp.zeros_like, wanted)) < 1e-6

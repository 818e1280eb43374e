"""The foreign call where it cannot be made: another layout of its frames, no compiler, programs that leave the process.

Under `auto` the formula is traced then, and the same numbers come out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import scirs2_adapters
from scirs2_adapters import jax as adapter
from scirs2_adapters.adapters._xla import kernel_step
from scirs2_adapters.core.cpu import xla_calls as ffi
from tests.boundaries.support import fresh
from tests.sampling import asked_for

from .jax_support import KERNEL, SMALL, gap, one_call

each_kernel = pytest.mark.parametrize("name", KERNEL)


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As before the first step of a process; XLA, which takes a name once, is not told again."""
    monkeypatch.setattr(jax.ffi, "register_ffi_target", lambda *args, **keywords: None)
    kernel_step._register.cache_clear()
    yield monkeypatch
    kernel_step._register.cache_clear()


def test_another_layout_of_frames_is_traced_with_one_warning(
    unregistered: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unregistered.setattr(ffi, "frame_bytes", lambda: ffi.FRAME_BYTES - 8)
    with caplog.at_level(logging.WARNING, "scirs2"):
        for name in scirs2_adapters.names():
            assert "the host kernel" not in adapter.explain(
                getattr(adapter, name)(), {"w": jnp.ones(3), "m": jnp.ones((2, 2))}
            )
    assert [r.message for r in caplog.records if "another layout" in r.message] == [
        "scirs2: this jaxlib's foreign calls have another layout than is known; steps are traced"
    ]
    with pytest.raises(ValueError, match=r'host.*another layout.*Use kernel="traced"'):
        adapter.explain(adapter.adamw(kernel="host"), {"w": jnp.ones(3)})


@each_kernel
def test_without_a_compiler_every_rule_is_traced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_step, "kernel_obstacle", lambda dtypes: "numba's compiler cannot be loaded")
    assert "traced: numba's compiler" in adapter.explain(getattr(adapter, name)(), {"w": jnp.ones(3)})
    with pytest.raises(ValueError, match=r'host.*numba.*Use kernel="traced"'):
        adapter.explain(getattr(adapter, name)(kernel="host"), {"w": jnp.ones(3)})


@pytest.fixture(scope="module")
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A step of each optimizer, written as a program that takes and gives states in their own classes."""
    folder = tmp_path_factory.mktemp("exported")
    for name in asked_for(request, scirs2_adapters.names()):
        tx = getattr(adapter, name)(learning_rate=lambda count: 1e-2, skip_nonfinite=True)
        program = jax.export.export(jax.jit(one_call(tx)), platforms=("cpu", "tpu"))(SMALL, tx.init(SMALL), SMALL)
        (folder / name).write_bytes(program.serialize())
        flat, form = jax.tree.flatten((SMALL, tx.init(SMALL), SMALL))
        flat_step = lambda *x, tx=tx, form=form: jax.tree.leaves(one_call(tx)(*jax.tree.unflatten(form, x)))  # noqa: E731
        (folder / f"{name}.flat").write_bytes(jax.export.export(jax.jit(flat_step))(*flat).serialize())
        np.savez(folder / f"{name}.npz", *flat)
        wanted = jax.tree.leaves(jax.jit(one_call(adapter_traced(name)))(SMALL, tx.init(SMALL), SMALL))
        np.savez(folder / f"{name}.wanted.npz", *wanted)
    return folder


def adapter_traced(name: str) -> Any:
    return getattr(adapter, name)(learning_rate=lambda count: 1e-2, skip_nonfinite=True, kernel="traced")


READ = """
import sys, numpy as np, jax, jax.export
for name in {names}:
    program = jax.export.deserialize(open("{folder}/" + name + ".flat", "rb").read())
    flat, wanted = (np.load("{folder}/" + name + end) for end in (".npz", ".wanted.npz"))
    reached = program.call(*(flat[k] for k in flat.files))
    for a, k in zip(reached, wanted.files, strict=True):
        np.testing.assert_allclose(a, wanted[k], rtol=1e-5, atol=1e-6, err_msg=name)
assert not any(m.startswith("scirs2") for m in sys.modules)
"""


def test_a_step_is_exported_and_runs_where_nobody_has_imported_this_package(written: Path) -> None:
    """Flat, as JAX knows no classes of optax's there."""
    names = [file.stem for file in written.glob("*.flat")]
    assert names
    fresh(READ.format(names=names, folder=written))


@pytest.mark.parametrize("name", scirs2_adapters.names())
def test_a_program_that_takes_a_state_is_read_back(name: str, written: Path) -> None:
    state = adapter_traced(name).init(SMALL)
    program = jax.export.deserialize((written / name).read_bytes())
    called = program.call(SMALL, state, SMALL)
    assert jax.tree.structure(called) == jax.tree.structure((SMALL, state))
    expected = jax.jit(one_call(adapter_traced(name)))(SMALL, state, SMALL)
    assert gap(called, expected, jax.tree.map(jnp.zeros_like, expected)) < 1e-6


def test_a_kernel_asked_for_in_an_exported_program_is_refused() -> None:
    tx = adapter.adamw(kernel="host")
    with pytest.raises(ValueError, match=r'host.*the program is exported.*Use kernel="traced"'):
        jax.export.export(jax.jit(one_call(tx)))(SMALL, tx.init(SMALL), SMALL)

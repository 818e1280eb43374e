"""What a traced step is made of: how many operations for a parameter, and what is made once for all of them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from scirs2_adapters import jax as adapter
from scirs2_adapters.core.cpu import xla_calls as ffi
from tests.boundaries.support import fresh

PAIRS = [("adamw", {}), ("lion", {}), ("sgd", {"momentum": 0.9})]


def traced(tx: Any, count: int, size: int = 5) -> Any:
    """`update` with `apply_updates` for so many parameters, all of different shapes."""

    def step(grads: Any, state: Any, params: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = [jax.ShapeDtypeStruct((size + k,), jnp.float32) for k in range(count)]
    return jax.jit(step, donate_argnums=(1, 2)).trace(params, jax.eval_shape(tx.init, params), params)


def operations(tx: Any, count: int) -> Counter[str]:
    """Those of the program that XLA gets, by name; numbers and their broadcasts are nothing to compute."""
    text = traced(tx, count).lower().as_text()
    names = Counter(re.findall(r"stablehlo\.([a-z_]+)", text))
    return Counter({n: k for n, k in names.items() if n not in ("constant", "broadcast_in_dim", "return")})


@pytest.mark.parametrize(("name", "options"), PAIRS)
def test_a_further_parameter_adds_no_more_operations_than_in_optax(name: str, options: dict[str, Any]) -> None:
    mine = getattr(adapter, name)(1e-3, kernel="traced", **options)
    theirs = getattr(optax, name)(1e-3, **options)
    more = [operations(tx, 5) - operations(tx, 3) for tx in (mine, theirs)]
    assert more[0].total() <= more[1].total() + 2 * (name == "sgd")  # optax folds the sign into the rate
    assert not {"convert", "exponential_minus_one", "power", "compare", "select"} & more[0].keys()


def test_the_count_is_increased_once_and_not_copied() -> None:
    """The bias corrections are made of the new count, so that it can be written where the old one was."""
    program = traced(adapter.adamw(1e-3, kernel="traced"), 3).lower().compile().as_text()
    assert not re.search(r"= s32\[\][^=]* copy\(", program)


@pytest.mark.parametrize("size", [8, 1 << 17])
def test_a_program_for_another_device_waits_for_no_compiler(size: int, tmp_path: Path) -> None:
    """The handler of the host kernel takes seconds to compile where no cache has it."""
    code = f"""
import sys, jax, jax.numpy as jnp
from scirs2_adapters import jax as adapter
jax.default_backend = lambda: "cuda"
tx, p = adapter.adamw(1e-3), jax.ShapeDtypeStruct(({size},), jnp.float32)
step = jax.jit(lambda p, s, g: tx.update(g, s, p))
step.trace(p, jax.eval_shape(tx.init, p), p).lower(lowering_platforms=("cuda",))
assert not {{"numba", "llvmlite", "llvmlite.binding"}} & sys.modules.keys()
"""
    fresh(code, SCIRS2_CACHE_DIR=str(tmp_path))


def test_a_large_change_is_traced_without_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def handler() -> int:
        raise AssertionError("compiled")

    monkeypatch.setattr(ffi, "handler", handler)
    traced(adapter.adamw(1e-3), 1, size=1 << 17).lower()


@pytest.mark.parametrize(("name", "options"), PAIRS)
def test_a_program_for_a_gpu_donates_as_optax_does_and_makes_numbers_once(name: str, options: dict[str, Any]) -> None:
    """Every parameter and slot goes back to where it was, and a further parameter has no number of its own made."""
    texts = []
    for tx in (getattr(adapter, name)(1e-3, **options), getattr(optax, name)(1e-3, **options)):
        programs = [traced(tx, count, size=1 << 17) for count in (3, 5)]
        texts.append([program.lower(lowering_platforms=("cuda",)).as_text() for program in programs])
    mine, theirs = texts
    assert [x.count("tf.aliasing_output") for x in mine] == [x.count("tf.aliasing_output") for x in theirs]
    made = [re.findall(r"= stablehlo\.(?!constant).* tensor<f32>$", text, re.MULTILINE) for text in mine]
    assert len(made[0]) == len(made[1]) == (9 if name == "adamw" else 0)

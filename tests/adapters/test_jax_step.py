"""`step` on chains that it sees through and on those that it does not; `explain`; sums over a mapped axis."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import scirs2_adapters
from scirs2_adapters import jax as adapter
from scirs2_adapters.core import get
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf
from tests.boundaries.support import fresh
from tests.sampling import taken
from tests.xla import flags

from .jax_support import gap, gradients, one_call, tree, two_calls, walk

TARGET = "scirs2_step"
#: What may stand before an optimizer, or around it; the limits of norms are below and above those of the gradients.
BEFORE: dict[str, list[optax.GradientTransformation]] = {
    "clipped": [optax.clip_by_global_norm(0.5)],
    "not clipped": [optax.clip_by_global_norm(1e6)],
    "scaled and clipped": [optax.scale(0.25), optax.identity(), optax.clip_by_global_norm(0.5)],
    "nested": [optax.chain(optax.clip_by_global_norm(0.5), optax.scale(3.0))],
}
CHAINS = [(name, "clipped") for name in scirs2_adapters.names()] + [("adamw", kind) for kind in BEFORE]


def in_one_pass(tx: Any) -> bool:
    """Whether the step is a kernel's for parameters so large that their change alone would be left to XLA."""
    params = jax.ShapeDtypeStruct((1 << 25,), jnp.float32)
    state = jax.eval_shape(tx.init, params)
    return TARGET in jax.jit(one_call(tx)).lower(params, state, params).as_text()


@pytest.mark.parametrize(("name", "kind"), list(dict.fromkeys(CHAINS)))
def test_a_chain_that_only_scales_is_stepped_in_one_pass(name: str, kind: str) -> None:
    start, tx = tree(0), optax.chain(*BEFORE[kind], getattr(adapter, name)())
    first = walk(one_call(tx), tx.init(start), start, gradients())
    second = walk(two_calls(tx), tx.init(start), start, gradients())
    assert jax.tree.structure(first) == jax.tree.structure(second)
    assert gap(first[0], second[0], start) < 1e-4  # a change added to a number of size 1 is rounded once more
    assert gap(first[1], second[1], jax.tree.map(jnp.zeros_like, second[1])) < 1e-5
    vector = Leaf((1 << 25,), "float32")
    of_matrices = any(node.op == "matrix" for node in record(get(name)().route(vector), vector).nodes)
    assert in_one_pass(tx) != of_matrices


def test_a_chain_within_a_chain_is_seen_through_and_keeps_its_state() -> None:
    start = tree(0)
    tx = optax.chain(optax.clip_by_global_norm(0.5), optax.chain(optax.scale(2.0), adapter.adamw()))
    first = walk(one_call(tx), tx.init(start), start, gradients())
    second = walk(two_calls(tx), tx.init(start), start, gradients())
    assert jax.tree.structure(first) == jax.tree.structure(second)
    assert gap(first[0], second[0], start) < 1e-4
    assert in_one_pass(tx)


@pytest.mark.parametrize(
    "tx",
    [
        optax.chain(optax.clip(0.1), adapter.adamw()),
        optax.chain(adapter.adamw(), optax.scale(0.5)),
        optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(1e-3)),
        optax.masked(adapter.adamw(), {"w": True, "b": False, "s": True, "t": {"c": False}, "e": True}),
    ],
    ids=["clipped elementwise", "scaled behind", "optax", "masked"],
)
def test_anything_else_is_run_as_optax_runs_it(tx: optax.GradientTransformation) -> None:
    start = tree(0)
    first = walk(one_call(tx), tx.init(start), start, gradients())
    second = walk(two_calls(tx), tx.init(start), start, gradients())
    assert gap(first, second, (start, jax.tree.map(jnp.zeros_like, second[1]))) < 1e-6
    if not isinstance(tx.init(start), optax.MaskedState):  # its mask has the form of another tree
        assert not in_one_pass(tx)


def test_a_schedule_and_a_mask_of_weight_decay_stay_one_pass() -> None:
    start = tree(0)
    mask = {"w": True, "b": False, "s": False, "t": {"c": True}, "e": True}
    ours = adapter.adamw(optax.cosine_decay_schedule(1e-2, 10), weight_decay=0.1, mask=mask)
    tx = optax.chain(optax.clip_by_global_norm(0.5), ours)
    theirs = optax.adamw(optax.cosine_decay_schedule(1e-2, 10), weight_decay=0.1, mask=mask)
    peer = optax.chain(optax.clip_by_global_norm(0.5), theirs)
    first = walk(one_call(tx), tx.init(start), start, gradients())
    second = walk(two_calls(peer), peer.init(start), start, gradients())
    assert gap(first[0], second[0], start) < 1e-4
    free = optax.chain(optax.clip_by_global_norm(0.5), adapter.adamw(optax.cosine_decay_schedule(1e-2, 10), mask=True))
    assert in_one_pass(free)


def test_explain_says_which_path_and_why() -> None:
    shapes = jax.eval_shape(lambda: {"w": jnp.ones((4, 4)), "b": jnp.ones(4)})
    assert adapter.explain(adapter.adamw(), shapes) == (
        "adamw: 2 leaves of float32 (20 numbers): the host kernel on the CPU, traced elsewhere"
    )
    assert "rows, columns or whole matrices" in adapter.explain(adapter.muon(), shapes)
    assert 'asked for by kernel="traced"' in adapter.explain(adapter.lamb(kernel="traced"), shapes)
    assert "has dtype complex64" in adapter.explain(adapter.adamw(), jnp.ones(3, jnp.complex64))
    assert adapter.explain(optax.adam(1e-3), shapes) == "none of it is a step of scirs2: optax computes it"


def test_the_choice_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    params, tx = {"a": jnp.ones((3, 5, 7))}, adapter.adamw()
    with caplog.at_level("DEBUG", "scirs2"):
        jax.jit(one_call(tx)).lower(params, tx.init(params), params)
    assert "adamw: 1 leaf of float32 (105 numbers): the host kernel on the CPU" in caplog.text


MAPPED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, PartitionSpec as P
from scirs2_adapters import jax as adapter
from tests.conformance.cells import by_rows
mesh, random = Mesh(np.array(jax.devices()), ("x",)), np.random.default_rng(0)
def made(): return {"w": jnp.asarray(random.standard_normal((16, 8)), jnp.float32), "b": jnp.ones(8), "s": jnp.ones(3)}
params, grads = made(), made()
spec = lambda tree: jax.tree.map(lambda x: P("x") if x.ndim and x.shape[0] % 8 == 0 else P(), tree)
for name in NAMES:
    make = getattr(adapter, name)
    def walked(tx, mapped):
        p, s = params, tx.init(params)
        f = lambda g, s, p: adapter.step(tx, g, s, p)
        specs = {"in_specs": (spec(p), spec(s), spec(p)), "out_specs": (spec(p), spec(s))}
        f = jax.jit(jax.shard_map(f, mesh=mesh, **specs) if mapped else f)
        for _ in range(3):
            p, s = f(grads, s, p)
        return p, s
    expected = walked(make(), False)
    try:
        reached = walked(make(axis_name="x"), True)
    except ValueError as error:
        assert by_rows(name) and "axis_name" in str(error), error
        continue
    for a, b in zip(jax.tree.leaves(reached), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7, err_msg=name)
"""


@pytest.mark.slow
def test_sums_go_over_a_named_axis(request: pytest.FixtureRequest) -> None:
    fresh(f"NAMES = {taken(request, scirs2_adapters.names())}\n{MAPPED}", XLA_FLAGS=flags(8))


def test_an_axis_name_must_be_one() -> None:
    with pytest.raises(TypeError, match=r"`lamb\(axis_name=\.\.\.\)` must be None, the name of an axis"):
        adapter.lamb(axis_name=3)


def test_the_mean_over_a_mapped_axis_counts_every_part() -> None:
    from scirs2_adapters.adapters._xla.ops import over

    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    means = jax.vmap(lambda row: over("i").mean(row, None), axis_name="i")(x)
    np.testing.assert_allclose(means, [2.5, 2.5])

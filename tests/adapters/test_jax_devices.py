"""On eight devices: what is sharded stays sharded and where it is, and no rule steps differently for it.

Everything that needs eight devices runs in one other process, as JAX decides at its start how many there are; what it
found comes back as JSON, a list of complaints for each optimizer.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import scirs2_adapters
from scirs2_adapters import jax as adapter
from scirs2_adapters.adapters._xla.ops import over
from scirs2_adapters.adapters.jax.argument_names import argument_names
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf
from tests.boundaries.support import fresh
from tests.conformance.options import brisk, turned
from tests.sampling import taken
from tests.xla import QUICK, flags

from .jax_support import one_call

Tree = Any
Complaints = dict[str, list[str]]
#: Shapes, and along which of their axes they are split.
SPLIT = {"rows": ((16, 8), 0), "columns": ((3, 16), 1), "vector": ((16,), 0), "whole": ((3,), None), "one": ((), None)}
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
each_rule = pytest.mark.parametrize("name", scirs2_adapters.names())


def spec(name: str) -> PartitionSpec:
    shape, axis = SPLIT[name]
    return (
        PartitionSpec(*("x" if i == axis else None for i in range(len(shape)))) if axis is not None else PartitionSpec()
    )


def mesh_of(kind: AxisType) -> Mesh:
    return jax.make_mesh((8,), ("x",), axis_types=(kind,))


def made(seed: int, mesh: Mesh | None) -> Tree:
    """A tree of numbers, on a mesh or on the first device."""
    random = np.random.default_rng(seed)
    tree = {name: random.standard_normal(shape).astype(np.float32) for name, (shape, _) in SPLIT.items()}
    place = {name: NamedSharding(mesh, spec(name)) if mesh else jax.devices()[0] for name in tree}
    return {name: jax.device_put(x, place[name]) for name, x in tree.items()}


def factory(name: str, options: Callable[..., Any], **keywords: Any) -> Any:
    cls = scirs2_adapters.get(name)
    return getattr(adapter, name)(**argument_names(cls).to_framework(options(cls), cls.fields_with()), **keywords)


def elementwise(name: str) -> bool:
    """Whether no parameter's step waits for a sum."""
    rule = scirs2_adapters.get(name)(**brisk(scirs2_adapters.get(name)))
    return all(record(rule.route(leaf), leaf).levels == 0 for leaf in (Leaf(shape) for shape, _ in SPLIT.values()))


def differing(reached: Tree, wanted: Tree, like: Callable[[Any, Any], bool]) -> list[str]:
    pairs = zip(jax.tree_util.tree_leaves_with_path(reached), jax.tree.leaves(wanted), strict=True)
    return [jax.tree_util.keystr(path) for (path, x), y in pairs if not like(x, y)]


def placed_alike(x: jax.Array, y: jax.Array) -> bool:
    """Counts and other numbers may be anywhere."""
    return x.ndim == 0 or x.sharding.is_equivalent_to(y.sharding, x.ndim)


def close(x: jax.Array, y: jax.Array) -> bool:
    return np.allclose(np.asarray(x), np.asarray(y), rtol=2e-5, atol=1e-6)


def misplaced(params: Tree, state: Tree) -> list[str]:
    """Slots like a parameter that are not where it is."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    named = [(jax.tree_util.keystr(path), x, params.get(getattr(path[-1], "key", None))) for path, x in leaves]
    return [n for n, x, p in named if p is not None and x.shape == p.shape and not placed_alike(x, p)]


def under_jit(name: str) -> tuple[list[str], Tree]:
    """A step on eight devices; beside the same on one, where it sums."""
    tx, faults = factory(name, brisk), []
    params, grads = (made(seed, mesh_of(AxisType.Auto)) for seed in (0, 1))
    state = tx.init(params)
    faults += [f"slot of init at {n}" for n in misplaced(params, state)]
    program = jax.jit(one_call(tx)).lower(grads, state, params).compile(compiler_options=QUICK)
    faults += [f"{word} in the program" for word in COLLECTIVES if word in program.as_text() and elementwise(name)]
    sided = any(slot.side for slot in scirs2_adapters.get(name)().all_slots())  # eigenvectors are calls of JAX's own
    faults += ["a foreign call in the program"] * ("custom-call" in program.as_text() and not sided)
    ends = program(grads, state, params)
    faults += [f"new parameter at {n}" for n in differing(ends[0], params, placed_alike)]
    faults += [f"slot at {n}" for n in misplaced(params, ends[1])]
    if not elementwise(name):
        params, grads = made(0, None), made(1, None)
        alone = jax.jit(one_call(tx))(grads, tx.init(params), params)
        faults += [f"another number at {n}" for n in differing(ends, alone, close)]
    return faults, ends


def kind(x: Any) -> tuple[Any, ...]:
    """The type of an array, which says how it is split on a mesh with explicit axes."""
    aval = getattr(x, "aval", x)
    return aval.shape, aval.dtype, aval.weak_type, aval.sharding.spec


def explicit(name: str) -> list[str]:
    """The types of everything that a step hands on."""
    faults: list[str] = []
    same = lambda x, y: kind(x) == kind(y)  # noqa: E731
    mesh = mesh_of(AxisType.Explicit)
    with jax.set_mesh(mesh):
        params, grads = made(0, mesh), made(1, mesh)
        for options in (brisk, turned):
            tx = factory(name, options)
            state = tx.init(params)
            for what, f, args, wanted in (
                ("init", tx.init, (params,), state),
                ("update", tx.update, (grads, state, params), (grads, state)),
                ("step", one_call(tx), (grads, state, params), (params, state)),
            ):
                types = jax.tree.unflatten(jax.tree.structure(wanted), jax.jit(f).trace(*args).jaxpr.out_avals)
                faults += [f"jitted {what}{n}" for n in differing(types, wanted, same)]
            if options is brisk:
                eager = tx.update(grads, state, params)
                faults += [f"eager update{n}" for n in differing(eager, (grads, state), same)]
    return faults


def mapped(name: str, wanted: Tree) -> list[str]:
    """A rule that asks for no sum is stepped by the kernel inside `shard_map`, on each device by itself."""
    mesh, faults = mesh_of(AxisType.Auto), []
    tx, params, grads = factory(name, brisk), made(0, mesh), made(1, mesh)
    state = tx.init(params)
    place = lambda path, x: spec(n) if (n := getattr(path[-1], "key", "")) in SPLIT and x.ndim else PartitionSpec()  # noqa: E731
    into = jax.tree_util.tree_map_with_path(place, (grads, state, params))
    step = jax.shard_map(one_call(tx), mesh=mesh, in_specs=into, out_specs=(into[2], into[1]))
    lowered = jax.jit(step).lower(grads, state, params)
    program = lowered.compile(compiler_options=QUICK)
    faults += ["no kernel"] * ("scirs2_step" not in lowered.as_text())
    faults += [f"{word} in the program" for word in COLLECTIVES if word in program.as_text()]
    places = jax.tree.map(lambda where: NamedSharding(mesh, where), into)
    ends = program(*jax.device_put((grads, state, params), places))
    return faults + [f"another number at {n}" for n in differing(ends, wanted, close)]


def unsummed(name: str) -> list[str]:
    """Gradients of which each device has its own part, where parameters are the same everywhere: JAX must notice."""
    params, tx = {"w": jnp.ones(8)}, factory(name, brisk)
    state, whole, part = tx.init(params), PartitionSpec(), PartitionSpec("x")
    step = jax.shard_map(
        one_call(tx), mesh=mesh_of(AxisType.Auto), in_specs=({"w": part}, whole, whole), out_specs=whole
    )
    try:
        jax.jit(step).lower({"w": jnp.ones(64)}, state, params)
    except ValueError as error:
        return [] if "replicat" in str(error) else [str(error)]
    return ["parameters that differ by device pass for equal ones"]


def counted() -> list[float]:
    """Sums over a mapped axis of an array that is split along it and of one that is not."""
    split, whole = PartitionSpec("x"), PartitionSpec()
    sums = lambda a, b: [over("x", [a, b]).sum(x, None) for x in (a, b)]  # noqa: E731
    mapped_sums = jax.shard_map(sums, mesh=mesh_of(AxisType.Auto), in_specs=(split, whole), out_specs=whole)
    return [float(x) for x in jax.jit(mapped_sums)(jnp.ones(16), jnp.ones(3))]


def forced() -> str:
    """What is said where a kernel is asked for in a program for several devices."""
    params = made(0, mesh_of(AxisType.Auto))
    tx = adapter.adamw(kernel="host")
    try:
        jax.jit(one_call(tx))(params, tx.init(params), params)
    except ValueError as error:
        return str(error)
    return "nothing"


def examine(names: list[str]) -> None:
    """What the other process runs."""
    report: dict[str, Any] = {
        "forced": forced(),
        "counted": counted(),
        "under_jit": {},
        "explicit": {},
        "mapped": {},
        "unsummed": {},
    }
    for name in names:
        report["under_jit"][name], ends = under_jit(name)
        report["explicit"][name] = explicit(name)
        if elementwise(name):
            report["mapped"][name], report["unsummed"][name] = mapped(name, ends), unsummed(name)
    print(json.dumps(report))


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest) -> dict[str, Any]:
    names = taken(request, scirs2_adapters.names())
    code = f"from tests.adapters.test_jax_devices import examine; examine({names})"
    return {"names": names} | json.loads(fresh(code, XLA_FLAGS=flags(8)).stdout.splitlines()[-1])


def test_under_jit_everything_stays_where_it_is_and_is_what_one_device_computes(report: dict[str, Any]) -> None:
    assert {n: c for n, c in report["under_jit"].items() if c} == {}
    assert list(report["under_jit"]) == report["names"]


def test_on_a_mesh_with_explicit_axes_types_are_kept(report: dict[str, Any]) -> None:
    assert {n: c for n, c in report["explicit"].items() if c} == {}


def test_in_shard_map_each_device_runs_the_kernel_by_itself(report: dict[str, Any]) -> None:
    assert {n: c for n, c in report["mapped"].items() if c} == {}
    assert list(report["mapped"]) == [name for name in report["names"] if elementwise(name)] != []


def test_gradients_that_nobody_has_summed_are_noticed(report: dict[str, Any]) -> None:
    assert {n: c for n, c in report["unsummed"].items() if c} == {}


def test_what_is_the_same_on_every_device_is_summed_once(report: dict[str, Any]) -> None:
    assert report["counted"] == [16.0, 3.0]


def test_a_kernel_for_several_devices_is_refused_with_the_way_out(report: dict[str, Any]) -> None:
    for words in ("host", "several devices", 'kernel="traced"'):
        assert words in report["forced"]


@each_rule
def test_without_a_cpu_every_rule_is_traced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where JAX_PLATFORMS names accelerators only."""

    def none(*args: Any, **keywords: Any) -> Any:
        raise RuntimeError("Unknown backend cpu")

    monkeypatch.setattr(jax, "local_devices", none)
    assert "no CPU" in adapter.explain(getattr(adapter, name)(), {"w": jnp.ones(3)})
    with pytest.raises(ValueError, match=r'host.*no CPU.*Use kernel="traced"'):
        adapter.explain(getattr(adapter, name)(kernel="host"), {"w": jnp.ones(3)})


PROCESS = """
import jax, jax.numpy as jnp, numpy as np
jax.distributed.initialize("localhost:{port}", 2, {rank})
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scirs2_adapters import jax as adapter
assert (jax.process_count(), len(jax.local_devices())) == (2, 1)
step = lambda tx: jax.jit(lambda g, s, p: adapter.step(tx, g, s, p))
mine, tx = jnp.ones(4), adapter.adamw()
assert "the host kernel" in adapter.explain(tx, mine)
assert "scirs2_step" in step(tx).lower(mine, tx.init(mine), mine).as_text()
place = NamedSharding(Mesh(np.array(jax.devices()), ("x",)), PartitionSpec("x"))
ours = jax.make_array_from_callback((4,), place, lambda index: np.ones(4, np.float32)[index])
assert "several devices" in adapter.explain(tx, ours)
state = jax.jit(tx.init)(ours)
assert "scirs2_step" not in step(tx).lower(ours, state, ours).as_text()
try:
    step(adapter.adamw(kernel="host")).lower(ours, state, ours)
except ValueError as error:
    assert "several devices" in str(error)
else:
    raise AssertionError("a kernel in a program of two processes")
"""


@pytest.mark.slow
def test_of_two_processes_a_program_for_one_device_has_the_kernel_and_one_for_both_has_not() -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with ThreadPoolExecutor() as both:
        list(both.map(lambda rank: fresh(PROCESS.format(port=port, rank=rank), JAX_PLATFORMS="cpu"), range(2)))

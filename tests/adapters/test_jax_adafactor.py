"""Adafactor with match="optax" is optax's: every step of parameters and state, the tree of the state, its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scirs2_adapters import jax as adapter

from .jax_support import Tree, flat, gap, kinds, one_call, two_calls

STEPS = 100
#: Orders of short and long axes, ties among them, on both sides of `min_dim_size_to_factor`.
SHAPES = {
    "number": (),
    "vector": (9,),
    "one": (1,),
    "small": (8, 5),
    "wide": (12, 20),
    "tall": (20, 12),
    "square": (14, 14),
    "middle": (12, 3, 20),
    "last": (20, 12, 3),
    "first": (2, 13, 12),
    "equal": (12, 12, 12),
    "four": (2, 15, 3, 12),
}
SMALL = {"learning_rate": 1e-2, "min_dim_size_to_factor": 12}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": SMALL,
    "default size": {"learning_rate": 1e-2},
    "momentum and decay": {**SMALL, "momentum": 0.9, "weight_decay_rate": 1e-3},
    "no scale, no clipping": {**SMALL, "multiply_by_parameter_scale": False, "clipping_threshold": None},
    "not factored": {**SMALL, "factored": False, "clipping_threshold": 0.5},
    "numbers": {**SMALL, "decay_rate": 0.6, "eps": 1e-4, "clipping_threshold": 2.0},
    "zeros": {**SMALL, "momentum": 0.0, "weight_decay_rate": 0.0},
    "schedules": {
        **SMALL,
        "learning_rate": optax.cosine_decay_schedule(0.02, STEPS),
        "weight_decay_rate": optax.constant_schedule(1e-3),
        "momentum": 0.5,
    },
    "masked": {
        **SMALL,
        "weight_decay_rate": 1e-2,
        "weight_decay_mask": {name: len(s) > 1 for name, s in SHAPES.items()},
    },
}
each_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
Step = Callable[[Tree, Tree, Tree], tuple[Tree, Tree]]


def tree(seed: int, dtype: Any = jnp.float32, names: Iterable[str] = SHAPES) -> Tree:
    """Numbers of every size: columns differ."""
    rng = np.random.default_rng(seed)
    drawn = {n: rng.standard_normal(s) * (1 + np.arange(s[-1] if s else 1)).reshape(s[-1:]) for n, s in SHAPES.items()}
    return {name: jnp.asarray(drawn[name], dtype) for name in names}


def walk(step: Step, params: Tree, state: Tree, seeds: range) -> Iterator[tuple[Tree, Tree]]:
    """Parameters and state after each step."""
    step = step if hasattr(step, "lower") else jax.jit(step)
    for seed in seeds:
        params, state = step(tree(seed, names=params), state, params)
        yield params, state


def last(steps: Iterator[tuple[Tree, Tree]]) -> tuple[Tree, Tree]:
    *_, end = steps
    return end


def shapes(x: Tree) -> Tree:
    """Shape and dtype of every leaf."""
    return jax.tree.map(lambda a: (a.shape, a.dtype), x)


def off(reached: Tree, wanted: Tree) -> float:
    """The largest distance of two fields of a state, relative to the second one."""
    pairs = zip(map(flat, _fields(reached)), map(flat, _fields(wanted)), strict=True)
    return max(float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30)) for a, b in pairs)


def _fields(state: Tree) -> list[Tree]:
    inner = (getattr(member, "inner_state", member) for member in state)
    return [value for member in inner for value in member]


@each_options
def test_every_step_of_parameters_and_state_is_optaxs(options: dict[str, Any]) -> None:
    theirs, ours, start = optax.adafactor(**options), adapter.adafactor(**options, match="optax"), tree(0)
    wanted = walk(two_calls(theirs), start, theirs.init(start), range(1, STEPS))
    walked = walk(one_call(ours), start, ours.init(start), range(1, STEPS))
    for (p, state), (q, theirs_state) in zip(walked, wanted, strict=True):
        assert gap(p, q, start) < 1e-5
        assert off(state, theirs_state) < 1e-5
    assert kinds(state) == kinds(theirs_state)


@pytest.mark.parametrize("name", ["default size", "momentum and decay", "schedules"])
def test_either_goes_on_with_the_others_state(name: str) -> None:
    options, start = OPTIONS[name], tree(0)
    both = optax.adafactor(**options), adapter.adafactor(**options, match="optax")
    (theirs, step), (ours, our_step) = [(tx, jax.jit(two_calls(tx))) for tx in both]
    wanted, _ = last(walk(step, start, theirs.init(start), range(1, 61)))
    for init, first, second in ((theirs.init, step, our_step), (ours.init, our_step, step)):
        params, state = last(walk(first, start, init(start), range(1, 31)))
        reached, _ = last(walk(second, params, state, range(31, 61)))
        assert gap(reached, wanted, start) < 1e-5


@pytest.mark.one_of_each("options")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@each_options
def test_the_state_has_optaxs_tree_shapes_and_dtypes(options: dict[str, Any], dtype: str) -> None:
    theirs, ours, start = optax.adafactor(**options), adapter.adafactor(**options, match="optax"), tree(0, dtype)
    wanted, state = theirs.init(start), ours.init(start)
    assert kinds(state) == kinds(wanted)
    assert jax.tree.structure(state) == jax.tree.structure(wanted)
    _, after = jax.eval_shape(ours.update, start, state, start)
    assert shapes(after) == shapes(wanted)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), start)
    assert kinds(ours.init(abstract)) == kinds(wanted)


def test_at_the_default_size_matrices_are_factored_from_128_on() -> None:
    start = {"under": jnp.ones((127, 200)), "over": jnp.ones((128, 200))}
    state = adapter.adafactor(match="optax").init(start)[0]
    assert state.v["under"].shape == (127, 200)
    assert (state.v_row["over"].shape, state.v_col["over"].shape, state.v["over"].shape) == ((128,), (200,), (1,))
    assert kinds(state) == kinds(optax.adafactor().init(start)[0])


@pytest.mark.parametrize("momentum", [None, jnp.bfloat16, "float32"])
def test_the_dtype_of_the_momentum_is_optaxs(momentum: Any) -> None:
    start, hyper = tree(0, "float16"), {"momentum": 0.9, "dtype_momentum": momentum}
    assert kinds(adapter.adafactor(**hyper, match="optax").init(start)) == kinds(optax.adafactor(**hyper).init(start))
    as_typed = adapter.adafactor(momentum=0.9).init(start).slots["exp_avg"]["wide"]
    assert as_typed.dtype == jnp.float16
    both = adapter.adafactor(momentum=0.9, state_dtype="bfloat16", match="optax").init(start)
    assert optax.tree.get(both, "ema")["wide"].dtype == optax.tree.get(both, "v")["small"].dtype == jnp.bfloat16


def test_without_a_learning_rate_the_step_is_not_multiplied() -> None:
    theirs, ours, start = optax.adafactor(), adapter.adafactor(match="optax"), tree(0)
    assert kinds(ours.init(start)) == kinds(theirs.init(start))
    wanted, _ = last(walk(two_calls(theirs), start, theirs.init(start), range(1, 5)))
    reached, _ = last(walk(two_calls(ours), start, ours.init(start), range(1, 5)))
    assert gap(reached, wanted, start) < 1e-5


def test_arguments_have_optaxs_order_and_names() -> None:
    wanted = list(inspect.signature(optax.adafactor).parameters)
    parameters = inspect.signature(adapter.adafactor).parameters
    assert [k for k, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD] == wanted
    arguments = (1e-2, 12, 0.7, 0, False, None, 0.9, "bfloat16", 1e-3, 1e-20, True, None)
    theirs, ours, start = optax.adafactor(*arguments), adapter.adafactor(*arguments, match="optax"), tree(0)
    assert kinds(ours.init(start)) == kinds(theirs.init(start))


def test_the_exponent_has_optaxs_sign_also_in_errors() -> None:
    with pytest.raises(
        ValueError, match=r"`adafactor\(decay_rate=\.\.\.\)` must be a finite number >= 0\. Received: -0\.5"
    ):
        adapter.adafactor(decay_rate=-0.5)
    assert inspect.signature(adapter.adafactor).parameters["decay_rate"].default == 0.8
    assert "decay_rate: -beta2_decay, " in (adapter.adafactor.__doc__ or "")


def test_injected_hyperparameters_are_those_that_optax_injects() -> None:
    start = tree(0)
    theirs = optax.inject_hyperparams(optax.adafactor, static_args="min_dim_size_to_factor")(**SMALL)
    ours = optax.inject_hyperparams(adapter.adafactor)(**SMALL | {"min_dim_size_to_factor": None}, match="optax")
    state, known = ours.init(start), theirs.init(start).hyperparams
    assert set(state.hyperparams) == {*known, "min_scale"} - {"dtype_momentum"}
    assert all(state.hyperparams[k] == known[k] for k in set(state.hyperparams) - {"min_scale"})
    plain = adapter.adafactor(1e-2, match="optax")
    wanted, _ = last(walk(two_calls(plain), start, plain.init(start), range(1, 10)))
    reached, _ = last(walk(two_calls(ours), start, state, range(1, 10)))
    assert gap(reached, wanted, start) < 3e-5


def test_steps_before_a_fine_tuning_count_as_none() -> None:
    theirs, ours = (
        f(1e-2, 12, decay_offset=20, **more)
        for f, more in ((optax.adafactor, {}), (adapter.adafactor, {"match": "optax"}))
    )
    start = tree(0, names=("wide", "small"))
    early = ours.init(start)
    late = (early[0]._replace(count=jnp.asarray(20)), *early[1:])
    wanted, _ = last(walk(two_calls(theirs), start, late, range(1, 20)))
    reached, _ = last(walk(two_calls(ours), start, late, range(1, 20)))
    assert gap(reached, wanted, start) < 1e-5
    early, _ = last(walk(two_calls(ours), start, early, range(1, 20)))  # where optax has no number
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(early))


def test_a_hole_in_the_gradients_freezes_parameter_and_memory() -> None:
    ours, start = adapter.adafactor(**SMALL, match="optax"), tree(0)
    _, state = last(walk(two_calls(ours), start, ours.init(start), range(1, 4)))
    params, new = one_call(ours)({**tree(9), "wide": None, "vector": None}, state, start)
    for name in ("wide", "vector"):
        assert jnp.array_equal(params[name], start[name])
        for f in ("v_row", "v_col", "v"):
            assert jnp.array_equal(getattr(new[0], f)[name], getattr(state[0], f)[name])
    assert kinds(new) == kinds(state)


def test_as_typed_matrices_are_factored_from_the_size_asked_for() -> None:
    start, grads = tree(0), tree(1)
    state = adapter.adafactor(min_dim_size_to_factor=12).init(start).slots
    assert state["row_var"]["wide"].shape == (12, 1)
    assert state["row_var"]["middle"] == optax.MaskedNode()  # the last two axes are 3 and 20 long
    assert state["variance"]["small"].shape == (8, 5)
    whole, parts = (adapter.adafactor(factored=f) for f in (False, True))
    ends = [one_call(tx)(grads, tx.init(start), start)[0] for tx in (whole, parts)]
    assert not jnp.allclose(ends[0]["wide"], ends[1]["wide"])
    assert jnp.array_equal(ends[0]["vector"], ends[1]["vector"])

"""What is promised of every optimizer about trees and dtypes. Most of it is decided while tracing, so little is run."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import scirs2_adapters
from scirs2_adapters import jax as adapter
from scirs2_adapters.adapters.jax.argument_names import DTYPES, argument_names
from scirs2_adapters.core.matrix import INPUTS_FIRST
from scirs2_adapters.core.slots import Extent, Leaf
from tests.conformance.options import turned

from .jax_support import SMALL, begun, lively, one_call, same_bits, shapes, small, steps_alike, takes_complex, tree

each_rule = pytest.mark.parametrize("name", scirs2_adapters.names())
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
Tree = Any


def of_all_options(name: str, **options: Any) -> optax.GradientTransformationExtraArgs:
    """With everything on that may ask for memory."""
    cls = scirs2_adapters.get(name)
    return getattr(adapter, name)(**argument_names(cls).to_framework(turned(cls), cls.fields_with()), **options)


def mixed(*dtypes: Any) -> Tree:
    """A matrix and a vector of each dtype."""
    return {jnp.dtype(d).name: jax.tree.map(lambda x, d=d: x.astype(d), SMALL) for d in dtypes}


@each_rule
def test_every_dtype_stays_what_it_is(name: str) -> None:
    complex_too = takes_complex(name, *(x.shape for x in SMALL.values()))
    for tx in (lively(name), of_all_options(name)):
        narrow, wide = ([jnp.complex64], [jnp.complex128]) if complex_too else ([], [])
        start = mixed(jnp.bfloat16, jnp.float16, jnp.float32, *narrow)
        steps_alike(tx, start, start)
        steps_alike(tx, mixed(jnp.bfloat16, jnp.float32), dict(zip(("bfloat16", "float32"), [SMALL] * 2, strict=True)))
        with enable_x64(True):
            start = mixed(jnp.float64, *wide, jnp.float32, jnp.bfloat16)
            steps_alike(tx, start, start)


@each_rule
def test_half_precision_and_complex_steps_are_finite_where_squares_underflow(name: str) -> None:
    """In float16 the square of 1e-4 is 0 and so is an epsilon of 1e-8."""
    other = jnp.complex64 if takes_complex(name, SMALL["w"].shape) else jnp.float32
    tx, start = lively(name), {k: x["w"] for k, x in mixed(jnp.float16, other).items()}
    grads = jax.tree.map(lambda x: x * 1e-4, start)
    params, _ = one_call(tx)(grads, begun(name, tx, start, grads), start)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(params))
    moved = jnp.dtype(other).name
    assert not same_bits(params[moved], start[moved])


@each_rule
def test_a_double_is_a_float32_where_doubles_are_off(name: str) -> None:
    tx, params = getattr(adapter, name)(), {"w": np.ones((3, 2)), "b": np.ones(3)}
    state = tx.init(params)
    floats = [x.dtype for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(d == jnp.float32 for d in floats)
    steps_alike(tx, params, params)


@jax.tree_util.register_pytree_node_class
class Pair:
    """A node that does not say what its children are called."""

    def __init__(self, *children: Tree) -> None:
        self.children = children

    def tree_flatten(self) -> Any:
        return self.children, None

    @classmethod
    def tree_unflatten(cls, _: Any, children: Any) -> Pair:
        return cls(*children)


class Named(NamedTuple):
    x: Tree
    y: Tree


@each_rule
def test_nodes_of_any_kind_and_depth_are_walked(name: str) -> None:
    params = [Pair(SMALL, {"k": (jnp.ones(()),)}), Named(jnp.ones((0, 3)), [None, jnp.ones((3, 1, 2))]), ()]
    steps_alike(getattr(adapter, name)(), params, params)


@each_rule
def test_a_state_is_of_arrays_alone_each_in_memory_of_its_own(name: str) -> None:
    for tx in (getattr(adapter, name)(), of_all_options(name)):
        params = tree(0)
        leaves = jax.tree.leaves(tx.init(params))
        assert all(isinstance(x, jax.Array) for x in leaves)
        places = [x.unsafe_buffer_pointer() for x in (*leaves, *jax.tree.leaves(params)) if x.size]
        assert len(set(places)) == len(places)


@each_rule
def test_a_hole_in_the_gradients_freezes_parameter_and_memory(name: str) -> None:
    tx = getattr(adapter, name)()
    params = {**SMALL, "hole": None, "frozen": {"m": jnp.ones((3, 2))}}
    grads = {**small(1), "hole": None, "frozen": {"m": None}}
    state = begun(name, tx, params, grads)
    new, after = one_call(tx)(grads, state, params)
    assert jax.tree.structure((new, after)) == jax.tree.structure((params, state))
    assert same_bits(new["frozen"], params["frozen"])
    assert not same_bits(new["w"], params["w"])
    held = [
        [x for path, x in jax.tree_util.tree_leaves_with_path(s) if "frozen" in jax.tree_util.keystr(path)]
        for s in (state, after)
    ]
    assert same_bits(*held)
    updates, _ = jax.eval_shape(tx.update, grads, state, params)
    assert updates["frozen"] == {"m": None}


@each_rule
def test_masks_and_labels_around_a_rule_leave_the_rest_alone(name: str) -> None:
    tx = getattr(adapter, name)()
    only_w = {"w": True, "b": False}
    masked = optax.masked(tx, only_w)
    updates, state = masked.update(small(1), masked.init(SMALL), SMALL)
    assert updates["b"] is not None
    assert same_bits(updates["b"], small(1)["b"])
    assert shapes(state) == shapes(masked.init(SMALL))
    alone, _ = tx.update({"w": small(1)["w"]}, tx.init({"w": SMALL["w"]}), {"w": SMALL["w"]})
    assert same_bits(updates["w"], alone["w"])
    labels = optax.partition({"ours": tx, "still": optax.set_to_zero()}, {"w": "ours", "b": "still"})
    steps_alike(labels, SMALL, SMALL)


@each_rule
def test_each_slot_has_the_dtype_asked_for_and_no_other_changes(name: str) -> None:
    """Numbers of a model or of a tensor are no arrays of a parameter, and stay float32; squares are kept accurate."""
    rule = scirs2_adapters.get(name)()
    leaves = [Leaf(SMALL[key].shape, name=key, layout=INPUTS_FIRST) for key in SMALL]
    slots = {s.name: s for leaf in leaves for s in rule.route(leaf).slots(leaf)}
    plain = getattr(adapter, name)().init(SMALL)
    for slot in slots.values():
        for dtype in (jnp.bfloat16, "float16", np.float16):
            tx = getattr(adapter, name)(state_dtype={slot.name: dtype})
            state = tx.init(SMALL)
            changed = [
                x.dtype for x, y in zip(*map(jax.tree.leaves, (state, plain)), strict=True) if x.dtype != y.dtype
            ]
            kept = slot.extent <= Extent.TENSOR or slot.extent is Extent.SIDE
            assert {*changed} == (set() if kept else {jnp.dtype(dtype)})
            steps_alike(tx, SMALL, SMALL)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, "float16", np.dtype("float32"), None])
def test_first_moments_have_the_dtype_asked_for_and_other_memory_the_parameters(name: str, dtype: Any) -> None:
    """None is the parameter's dtype too."""
    argument, *slots = DTYPES[name]
    params, seen = mixed(jnp.bfloat16, jnp.float32), set()
    for tx in (getattr(adapter, name)(**{argument: dtype}), of_all_options(name, **{argument: dtype})):
        memory = tx.update.layout.read(tx.init(params))
        seen |= memory.slots.keys()
        for slot, (usual, leaves) in ((s, pair) for s, held in memory.slots.items() for pair in held.items()):
            wanted = usual if slot not in slots or dtype is None else jnp.dtype(dtype).name
            assert {x.dtype.name for x in jax.tree.leaves(leaves) if x.shape} <= {wanted}, slot
    assert {*slots} <= seen


@pytest.mark.parametrize("argument", ["mu_dtype", "state_dtype"])
@pytest.mark.parametrize("dtype", ["int3", jnp.int16, 3])
def test_what_is_no_floating_dtype_is_refused_as_it_was_typed(argument: str, dtype: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"`adam\({argument}=\.\.\.\)` must be None"):
        adapter.adam(**{argument: dtype})


def test_slots_may_be_called_as_optax_calls_them() -> None:
    state = adapter.adamw(state_dtype={"nu": jnp.bfloat16}).init(SMALL)
    assert (state[0].mu["w"].dtype, state[0].nu["w"].dtype) == (jnp.float32, jnp.bfloat16)
    with pytest.raises(ValueError, match=r"`adamw\(state_dtype=\.\.\.\)` names a slot that is none of"):
        adapter.adamw(state_dtype={"xi": "bfloat16"})


@pytest.mark.parametrize("dtypes", [(jnp.complex64, jnp.float32), (jnp.float32, jnp.complex64)])
def test_a_gradient_is_complex_where_its_parameter_is(dtypes: Any) -> None:
    grads, params = (SMALL["w"].astype(d) for d in dtypes)
    tx = adapter.adamw()
    with pytest.raises(ValueError, match=r"`adamw\(updates=\.\.\.\)` must be real or complex as the parameter"):
        tx.update(grads, tx.init(params), params)


def test_a_mask_of_another_form_is_named() -> None:
    tx = adapter.adamw(mask={"x": True})
    with pytest.raises(ValueError, match=r"`adamw\(mask=\.\.\.\)` must be a bool, or a tree of them"):
        tx.update(small(1), tx.init(SMALL), SMALL)


@pytest.mark.parametrize("name", ["adamw", "asgd"])
def test_the_state_of_another_optimizer_is_refused(name: str) -> None:
    tx, foreign = getattr(adapter, name)(), optax.chain(*[optax.identity()] * 3).init(SMALL)
    with pytest.raises(TypeError, match=rf"`{name}\(state=\.\.\.\)` must be as `init` makes it"):
        tx.update(small(1), foreign, SMALL)


@pytest.mark.parametrize(("name", "typed", "meant"), [("muon", "mask", "weight_decay_mask"), ("adam", "beta1", "b1")])
def test_an_argument_by_another_frameworks_name_is_put_right(name: str, typed: str, meant: str) -> None:
    with pytest.raises(TypeError, match=rf"`{name}` has no argument `{typed}`\. Did you mean `{meant}`\?"):
        getattr(adapter, name)(**{typed: 0.5})

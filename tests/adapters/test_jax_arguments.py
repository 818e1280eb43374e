"""Arguments that are not what they look like: numbers of 16 bits, trees that can be called, trees of functions."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import scirs2_adapters
from scirs2_adapters import get
from scirs2_adapters import jax as adapter
from scirs2_adapters.adapters.jax.argument_names import argument_names

from .jax_support import SMALL, gap, lively_arguments, one_call, same_bits, small

each_rule = pytest.mark.parametrize("name", scirs2_adapters.names())


def called(name: str) -> str:
    """What errors call the optimizer."""
    return getattr(adapter, name).__name__


@each_rule
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # of 1e6 to float16, by optax
def test_hyperparameters_rounded_to_16_bits_are_refused_with_the_way_out(name: str, dtype: str) -> None:
    """`inject_hyperparams` rounds all to the parameters' dtype: in bfloat16 a b2 of 0.999 is 1, and the step NaN."""
    params = jax.tree.map(lambda x: x.astype(dtype), SMALL)
    rounded = optax.inject_hyperparams(getattr(adapter, name))(1e-2)
    for trace in (lambda: rounded.init(params), lambda: jax.eval_shape(rounded.init, params)):
        with pytest.raises(
            TypeError, match=rf"`{called(name)}\(.*\)` must be .* 32 bits.*hyperparam_dtype=jnp.float32"
        ):
            trace()
    hyper, fields = lively_arguments(name), get(name).fields_with()
    words = argument_names(get(name)).spelled(fields)
    whole = [words[k] for k, f in fields.items() if f.static and words[k] in hyper]  # as a rank, of which shapes depend
    inject = optax.inject_hyperparams(getattr(adapter, name), static_args=whole, hyperparam_dtype=jnp.float32)
    tx = inject(1e-2, **hyper)
    new, _ = jax.jit(one_call(tx))(params, tx.init(params), params)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(new))


@jax.tree_util.register_pytree_node_class
class Callable:
    """A tree that can be called, as a module of Equinox."""

    def __init__(self, **leaves: Any) -> None:
        self.leaves = leaves

    def __call__(self, *args: Any) -> Any:
        raise AssertionError("it was called")

    def tree_flatten_with_keys(self) -> Any:
        return [(jax.tree_util.GetAttrKey(k), x) for k, x in self.leaves.items()], tuple(self.leaves)

    def tree_flatten(self) -> Any:
        return tuple(self.leaves.values()), tuple(self.leaves)

    @classmethod
    def tree_unflatten(cls, names: Any, leaves: Any) -> Any:
        return cls(**dict(zip(names, leaves, strict=True)))


@each_rule
def test_a_mask_that_can_be_called_is_a_mask_if_it_is_a_tree_of_bools(name: str) -> None:
    params, grads = (Callable(w=jnp.ones((3, 2)), b=x * jnp.ones(3), f=None) for x in (1.0, 0.5))
    word = (
        "weight_decay_mask" if "weight_decay_mask" in inspect.signature(getattr(adapter, name)).parameters else "mask"
    )
    decay = {"weight_decay_rate" if name == "adafactor" else "weight_decay": 0.5}
    masks = [
        Callable(w=False, b=True, f=None),
        Callable(w=np.bool_(False), b=jnp.array(True), f=jax.nn.relu),
        jax.tree_util.Partial(lambda _: Callable(w=False, b=True, f=None)),
        functools.partial(lambda p, _: p, Callable(w=False, b=True, f=None)),
        lambda _: Callable(w=False, b=True, f=None),
    ]
    updates = []
    for mask in masks:
        tx = getattr(adapter, name)(**decay, **{word: mask})
        updates.append(jax.tree.leaves(tx.update(grads, tx.init(params), params)[0]))
    assert all(same_bits(updates[0], other) for other in updates[1:])
    tx = getattr(adapter, name)(**decay, **{word: Callable(w=True, b=jax.nn.relu, f=None)})
    with pytest.raises(
        TypeError, match=rf"`{called(name)}\({word}=\.\.\.\)` must have True or False for every parameter"
    ):
        tx.update(grads, tx.init(params), params)


@each_rule
def test_a_learning_rate_that_can_be_called_is_a_schedule_unless_it_is_a_class(name: str) -> None:
    class Rate:
        def __call__(self, count: Any) -> Any:
            return 1e-2

    updates = []
    for rate in (Rate(), jax.tree_util.Partial(lambda count: 1e-2), lambda count: 1e-2, jax.jit(lambda count: 1e-2)):
        tx = getattr(adapter, name)(rate)
        updates.append(tx.update(small(1), tx.init(SMALL), SMALL)[0])
    assert all(gap(x, updates[0], jax.tree.map(jnp.zeros_like, SMALL)) < 1e-6 for x in updates)
    worded = "must be a finite number >= 0, or a function of the step count"
    for wrong in (float, jnp.bfloat16, Rate):
        with pytest.raises(TypeError, match=rf"`{called(name)}\(learning_rate=\.\.\.\)` {worded}\. Received: "):
            getattr(adapter, name)(wrong)


@pytest.mark.parametrize(
    ("name", "word"), [("kron", "preconditioner_update_probability"), ("adamw", "b1"), ("adafactor", "eps")]
)
def test_a_function_for_what_takes_none_is_refused_with_what_takes_one(name: str, word: str) -> None:
    """And with optax's way to schedule any number, which works."""
    make = getattr(adapter, name)
    way_out = "A function of the step count may be .*learning_rate.*; for others there is `optax.inject_hyperparams`"
    with pytest.raises(TypeError, match=rf"`{name}\({word}=\.\.\.\)` must be .* Received: .*\. {way_out}"):
        make(**{word: lambda count: 0.5})
    tx = optax.inject_hyperparams(make)(1e-2, **{word: lambda count: 0.5})
    fixed = make(1e-2, **{word: 0.5})
    reached, wanted = (jax.jit(one_call(x))(SMALL, x.init(SMALL), SMALL)[0] for x in (tx, fixed))
    assert gap(reached, wanted, SMALL) < 1e-6

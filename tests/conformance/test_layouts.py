"""One network, whose kernels lie as each framework has them, walks one path in all of them.

torch lays a kernel [outputs, inputs, ...], Keras and Flax [..., inputs, outputs]; so do numpy's two layouts. For every
rule that asks how kernels lie.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch

import scirs2_adapters
from scirs2_adapters import jax as jax_adapter
from scirs2_adapters import tf as keras_adapter
from scirs2_adapters import torch as torch_adapter
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.slots import Extent

#: Eigenvectors of a matrix without its full rank, as a kernel's larger side has it not, follow the order of its rows,
#: and so do random directions. Where matrices are projected, tests/unit/test_projections.py has more.
NAMES = [
    name
    for name, rule in ((n, scirs2_adapters.get(n)) for n in scirs2_adapters.names())
    if "layout" in rule.fields_with() and all(slot.extent < Extent.SIDE for slot in rule().all_slots())
]
#: name -> shape in torch's layout, axes in the order of the other. No two lengths are the same.
NETWORK: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "conv/kernel": ((7, 3, 2, 5), (2, 3, 1, 0)),
    "conv/bias": ((7,), (0,)),
    "sequence_conv/kernel": ((6, 2, 3), (2, 1, 0)),
    "classifier/dense/kernel": ((6, 4), (1, 0)),
    "tall/kernel": ((4, 6), (1, 0)),
    "experts/kernel": ((2, 5, 3), (0, 2, 1)),
    "lm_head/kernel": ((5, 4), (1, 0)),
}
STEPS, RATE = 4, 0.05
Arrays = dict[str, np.ndarray]


def arrays(seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return {k: rng.standard_normal(shape).astype(np.float32) for k, (shape, _) in NETWORK.items()}


def other(weights: Arrays) -> Arrays:
    """In the other layout."""
    return {k: np.ascontiguousarray(x.transpose(NETWORK[k][1])) for k, x in weights.items()}


def back(weights: Arrays) -> Arrays:
    return {k: x.transpose(np.argsort(NETWORK[k][1])) for k, x in weights.items()}


def across(grads: Arrays, params: Arrays) -> Arrays:
    """Gradients without what is along the weights of an output: as they are before a normalization."""
    return {k: g if g.ndim < 2 else g - params[k] * ratio(g, params[k]) for k, g in grads.items()}


def ratio(g: np.ndarray, p: np.ndarray) -> np.ndarray:
    return np.sum(g * p, axis=-1, keepdims=True) / np.sum(p * p, axis=-1, keepdims=True)


GRADIENTS = [across(arrays(1), arrays(0)), *(arrays(seed) for seed in range(2, STEPS + 1))]


def in_numpy(name: str, layout: str) -> Arrays:
    turn, turned = (other, back) if layout == "inputs_first" else (dict, dict)
    params = turn(arrays(0))
    optimizer = HostOptimizer(scirs2_adapters.get(name)(learning_rate=RATE), params, layout=layout)
    for grads in GRADIENTS:
        optimizer.step(turn(grads))
    return turned(params)


def in_torch(name: str) -> Arrays:
    params = {k: torch.nn.Parameter(torch.tensor(x)) for k, x in arrays(0).items()}
    optimizer = getattr(torch_adapter, scirs2_adapters.get(name).__name__)(list(params.items()), lr=RATE)
    for grads in GRADIENTS:
        for k, p in params.items():
            p.grad = torch.tensor(grads[k])
        optimizer.step()
    return {k: p.detach().numpy() for k, p in params.items()}


def in_jax(name: str) -> Arrays:
    tx, params = getattr(jax_adapter, name)(RATE), jax.tree.map(jnp.asarray, other(arrays(0)))
    state = tx.init(params)
    for grads in GRADIENTS:
        params, state = jax_adapter.step(tx, jax.tree.map(jnp.asarray, other(grads)), state, params)
    return back({k: np.asarray(x) for k, x in params.items()})


def in_keras(name: str) -> Arrays:
    variables = {}
    for k, x in other(arrays(0)).items():
        *layers, last = k.split("/")
        with contextlib.ExitStack() as scopes:
            for layer in layers:
                scopes.enter_context(keras.name_scope(layer))
            variables[k] = keras.Variable(x, name=last)
    optimizer = getattr(keras_adapter, scirs2_adapters.get(name).__name__)(learning_rate=RATE)
    for grads in GRADIENTS:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in other(grads).values()], list(variables.values()))
    return back({k: np.array(keras.ops.convert_to_numpy(keras.ops.cast(v, "float64"))) for k, v in variables.items()})


WALKS: dict[str, Callable[[str], Any]] = {
    "numpy, inputs first": lambda name: in_numpy(name, "inputs_first"),
    "torch": in_torch,
    "jax": in_jax,
    "keras": in_keras,
}


@pytest.mark.parametrize("where", WALKS)
@pytest.mark.parametrize("name", NAMES)
def test_one_network_walks_one_path_whatever_the_layout(name: str, where: str) -> None:
    start, wanted, reached = arrays(0), in_numpy(name, "outputs_first"), WALKS[where](name)
    for k, x in wanted.items():
        assert np.linalg.norm(reached[k] - x) <= 2e-5 * np.linalg.norm(x - start[k]), k


@pytest.mark.parametrize("name", NAMES)
def test_the_layout_matters_where_it_is_not_said(name: str) -> None:
    """Else the test above would show nothing."""
    wanted, reached = in_numpy(name, "outputs_first"), in_numpy(name, "inputs_first")
    params = other(arrays(0))
    optimizer = HostOptimizer(scirs2_adapters.get(name)(learning_rate=RATE), params)
    for grads in GRADIENTS:
        optimizer.step(other(grads))
    assert np.allclose(reached["conv/kernel"], wanted["conv/kernel"], atol=1e-5)
    assert not all(np.allclose(x, wanted[k], atol=1e-3) for k, x in back(params).items())

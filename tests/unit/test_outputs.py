"""Optimizers that look at a layer output by output, beside their twins: kernels of any axes, in either layout."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import scirs2_adapters
from scirs2_adapters.core import GradientCentralization, HostOptimizer
from tests.reference import reference

SHAPES = [(8, 16), (4, 3, 2, 5), (7,), (2, 3, 6), (), (0, 3)]
DELTAS = {"each output": 10.0, "the layer alone": 0.9, "never": 0.0}


def walked(name: str, hyper: dict[str, Any], layout: str, kernel: str) -> float:
    """How far it is from its twin after a few steps."""
    rng = np.random.default_rng(0)
    start, grads = [rng.normal(size=s) for s in SHAPES], [[rng.normal(size=s) for s in SHAPES] for _ in range(4)]
    params = [np.array(x) for x in start]
    optimizer = HostOptimizer(scirs2_adapters.get(name)(**hyper), params, layout=layout, kernel=kernel)
    for gradients in grads:
        optimizer.step(gradients)
    path, _ = reference(name)(start, grads, hyper={**hyper, "layout": layout})
    return max(float(np.max(np.abs(x - y), initial=0.0)) for x, y in zip(params, path[-1], strict=True))


@pytest.mark.parametrize("kernel", ["host", "traced"])
@pytest.mark.parametrize("layout", ["outputs_first", "inputs_first"])
@pytest.mark.parametrize("delta", DELTAS.values(), ids=DELTAS)
def test_adamp_leaves_out_what_is_along_the_weights(delta: float, layout: str, kernel: str) -> None:
    hyper = {"delta": delta, "learning_rate": 0.1, "weight_decay": 0.5}
    assert walked("adamp", hyper, layout, kernel) < 1e-13


@pytest.mark.parametrize("delta", DELTAS.values(), ids=DELTAS)
def test_weights_that_adamp_projects_keep_their_length(delta: float) -> None:
    """To the first order in the learning rate, and each output's only where it is projected by itself."""
    rng = np.random.default_rng(0)
    p, g = rng.normal(size=(2, 8, 16))
    params = [p.copy()]
    HostOptimizer(scirs2_adapters.get("adamp")(delta=delta, learning_rate=1e-4), params).step([g])
    cosine = np.abs(np.sum(p * g, axis=1)) / (np.linalg.norm(p, axis=1) * np.linalg.norm(g, axis=1))
    alike = bool(np.all(cosine < delta / 4))
    as_one = bool(abs(np.sum(p * g)) / (np.linalg.norm(p) * np.linalg.norm(g)) < delta / np.sqrt(p.size))
    along = np.sum(p * (params[0] - p), axis=1) / 1e-4
    assert (np.max(np.abs(along)) < 1e-6) == alike
    assert (abs(np.sum(along)) < 1e-6) == (alike or as_one)
    assert (alike, as_one) == {10.0: (True, True), 0.9: (False, True), 0.0: (False, False)}[delta]


@pytest.mark.parametrize("kernel", ["host", "traced"])
@pytest.mark.parametrize("layout", ["outputs_first", "inputs_first"])
@pytest.mark.parametrize("base", ["adamw", "lion", "muon", "adafactor"])
def test_any_optimizer_takes_centralized_gradients(base: str, layout: str, kernel: str) -> None:
    assert walked("gradientcentralization", {"base": base, "learning_rate": 0.1}, layout, kernel) < 1e-13


def test_an_embedding_is_centralized_token_by_token_in_every_layout() -> None:
    g = np.random.default_rng(0).normal(size=(5, 3))
    for layout, axis in (("outputs_first", 1), ("inputs_first", 0)):
        params = {"embedding/table": np.zeros((5, 3)), "dense/kernel": np.zeros((5, 3))}
        rule = GradientCentralization(base="sgd", learning_rate=1.0)
        HostOptimizer(rule, params, layout=layout).step(dict.fromkeys(params, g))
        np.testing.assert_allclose(params["embedding/table"], np.mean(g, axis=1, keepdims=True) - g, atol=1e-15)
        np.testing.assert_allclose(params["dense/kernel"], np.mean(g, axis=axis, keepdims=True) - g, atol=1e-15)


def test_a_layout_is_the_bases_too() -> None:
    for base in ("muon", "mars(muon)"):
        rule = GradientCentralization(base=base, layout="inputs_first", learning_rate=0.5)
        copies = (
            rule,
            pickle.loads(pickle.dumps(rule)),
            rule.replace(learning_rate=0.1),
            type(rule)(**rule.get_config()),
        )
        assert [(r.layout, r.base.layout) for r in copies] == [("inputs_first", "inputs_first")] * 4
        turned = rule.replace(layout="outputs_first")
        assert (turned.layout, turned.base.layout) == ("outputs_first", "outputs_first")
        assert rule.rest().layout == "inputs_first"


@pytest.mark.parametrize("base", ["prodigy", "gradientcentralization(sgd)", "mars(dog)"])
def test_what_cannot_be_centralized_is_refused(base: str) -> None:
    with pytest.raises(ValueError, match=r"base=.*sums nothing over the model"):
        GradientCentralization(base=base)

"""ScheduleFreeAdamW beside Keras' own, and weights to evaluate; on whatever backend Keras has. `test_tf_backends` runs
this file on the others.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import keras
import numpy as np
import pytest

import scirs2_adapters as s2
from scirs2_adapters import tf as adapter
from scirs2_adapters.core import HostOptimizer, evaluation_params
from tests.conformance.options import still_steps

from .tf_file_support import held, weights
from .tf_support import GRADS, KERAS_READS, PARAMS, RATE, apply, close, fit, keras_class, network, values, variables

pytestmark = KERAS_READS

AVERAGING = [name for name in s2.names() if s2.get(name).evaluation is not None]


@pytest.mark.skipif(not hasattr(keras.optimizers, "ScheduleFreeAdamW"), reason="this version of Keras has none")
@pytest.mark.parametrize("options", [{}, {"warmup_steps": 5, "weight_decay": 0.3, "epsilon": 1e-3, "beta_1": 0.8}])
def test_schedule_free_is_what_keras_does_on_jax(options: dict) -> None:
    """Elsewhere Keras' class reads a sequence that it has written to already, and walks otherwise."""
    cut = [gs[:2] for gs in GRADS]
    theirs, *ours = (
        keras.optimizers.ScheduleFreeAdamW(RATE, **options),
        *(adapter.ScheduleFreeAdamW(RATE, match="keras", **options) for _ in range(2)),
    )
    made = [theirs, *ours]
    xs, ys, zs = of = [variables()[:2] for _ in made]
    apply(theirs, xs, cut[:4])
    apply(ours[0], ys, cut[:4])
    theirs.save_own_variables(store := {})
    ours[1].build(zs)
    ours[1].load_own_variables(store)
    for z, x in zip(zs, xs, strict=True):
        z.assign(x)
    for each in made:
        each.learning_rate = RATE / 2
    expected, *walks = (apply(each, vs, cut[4:]) for each, vs in zip(made, of, strict=True))
    alike = keras.backend.backend() == "jax"
    for walk in walks:
        with contextlib.nullcontext() if alike else pytest.raises(AssertionError, match="of the path"):
            close(walk, expected, 2e-5)


def test_there_is_something_to_evaluate() -> None:
    assert "schedulefreeadamw" in AVERAGING


@pytest.mark.parametrize("name", AVERAGING)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_block_has_the_average_and_gives_back_what_is_trained(name: str, dtype: str) -> None:
    made, xs, steps = keras_class(name)(learning_rate=RATE), variables(dtype), GRADS * (1 + still_steps(name))
    apply(made, xs, [[g.astype("float32") for g in gs] for gs in steps])
    trained, state = values(xs), held(made)
    with made.evaluation_weights():
        shown = values(xs)
        with made.evaluation_weights():
            assert all(map(np.array_equal, values(xs), shown)), "a block within changes nothing"
        assert all(map(np.array_equal, values(xs), shown))
        with pytest.raises(RuntimeError, match="steps the weights that are trained"):
            apply(made, xs, GRADS[:1])
        assert all(map(np.array_equal, values(xs), shown))
    assert all(map(np.array_equal, values(xs), trained))
    assert all(map(np.array_equal, held(made), state))
    assert any(np.any(a != b) for a, b in zip(shown, trained, strict=True))
    if dtype == "float32":
        params = [p.astype(float) for p in PARAMS]
        host = HostOptimizer(s2.get(name)(learning_rate=RATE), params, layout="inputs_first")
        for gs in steps:
            host.step([np.asarray(g, float) for g in gs])
        for x, right in zip(shown, evaluation_params(host).values(), strict=True):
            np.testing.assert_allclose(x, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", AVERAGING)
def test_a_model_is_evaluated_between_two_fits_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    (model, x, y), (alone, *_) = (network(keras_class(name)(learning_rate=0.05)) for _ in range(2))
    fit(model, x, y)
    with model.optimizer.evaluation_weights():
        averaged = model.evaluate(x, y, verbose=0)
    assert averaged != pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-4)
    with model.optimizer.evaluation_weights():
        model.save(tmp_path / "shown.keras")
    assert keras.models.load_model(tmp_path / "shown.keras").evaluate(x, y, verbose=0) == pytest.approx(averaged)
    fit(alone, x, y)
    np.testing.assert_array_equal(fit(model, x, y), fit(alone, x, y))


@pytest.mark.parametrize("name", AVERAGING)
def test_a_compiled_step_inside_a_block_is_told_at_its_end(name: str) -> None:
    model, x, y = network(keras_class(name)(learning_rate=0.05))
    fit(model, x, y)
    trained = weights(model)
    with pytest.raises(RuntimeError, match="steps the weights that are trained"), model.optimizer.evaluation_weights():
        fit(model, x, y)
    np.testing.assert_array_equal(weights(model), trained)


@pytest.mark.parametrize("name", [n for n in s2.names() if n not in AVERAGING])
def test_others_have_no_such_block(name: str) -> None:
    assert not hasattr(keras_class(name), "evaluation_weights")

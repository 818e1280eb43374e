"""What Keras adds around a step, on whatever backend Keras has; `test_tf_backends` runs this file on the others."""

from __future__ import annotations

import inspect
import pickle

import keras
import numpy as np
import pytest
from keras import ops

import scirs2_adapters as s2
from scirs2_adapters import tf as adapter
from scirs2_adapters.adapters.tf.executors import host
from tests.conformance.options import brisk

from .tf_support import (
    GRADS,
    KERAS_READS,
    PARAMS,
    RATE,
    SHAPES,
    apply,
    apply_stateless,
    close,
    fit,
    keras_class,
    network,
    oracle,
    values,
    variables,
)

pytestmark = KERAS_READS


def test_both_spellings_are_one_class() -> None:
    assert adapter.LAMB is adapter.Lamb
    assert adapter.Lamb.__name__ == "Lamb"
    assert {"LAMB", "Lamb"} <= set(adapter.__all__)


def test_arguments_stand_where_keras_has_them() -> None:
    assert adapter.AdamW(0.5, 0.25).weight_decay == 0.25
    for name in ("Adam", "AdamW", "RMSprop", "SGD", "Lion", "Lamb"):
        theirs = [k for k in inspect.signature(getattr(keras.optimizers, name).__init__).parameters if k != "self"]
        ours = inspect.signature(getattr(adapter, name)).parameters.values()
        positional = [p.name for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert positional == [k for k in theirs if k != "kwargs"]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"beta_2": 1.5}, ValueError, r"`AdamW\(beta_2=...\)` must be in \[0, 1\). Received: 1.5."),
        ({"learning_rate": "fast"}, TypeError, r"`AdamW\(learning_rate=...\)` must be a finite number >= 0"),
        ({"beta_3": 0.5}, TypeError, "`AdamW` has no argument `beta_3`. Did you mean `beta_"),
        ({"kernel": "hots"}, ValueError, r"`AdamW\(kernel=...\)`.*Did you mean `host`"),
        ({"match": "jax"}, ValueError, r"`AdamW\(match=...\)`.*'keras'"),
        ({"state_dtype": {"m": "bfloat16"}}, ValueError, "exp_avg"),
        ({"clipnorm": 1.0, "clipvalue": 1.0}, ValueError, "Only one of"),
    ],
)
def test_what_is_wrong_is_said_at_once(arguments: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        adapter.AdamW(**arguments)


def test_an_argument_given_twice_is_refused() -> None:
    with pytest.raises(TypeError, match="given twice"):
        adapter.AdamW(0.1, learning_rate=0.2)


def test_the_host_kernel_is_refused_where_it_can_step_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "host_path", lambda: None)
    with pytest.raises(ValueError, match='kernel="traced"'):
        adapter.AdamW(kernel="host")
    config, xs = adapter.AdamW().get_config() | {"kernel": "host"}, variables()
    made = adapter.AdamW.from_config(config)  # a file may be of a machine where it can
    assert made.get_config() == config
    made.build(xs)
    with pytest.raises(ValueError, match='kernel="traced"'):
        apply(made, xs)
    close(values(xs), [p.astype(float) for p in PARAMS], 0.0)


def test_a_variable_that_is_no_float_is_refused() -> None:
    with pytest.raises(TypeError, match="must be of dtype"):
        adapter.SGD().build([keras.Variable(np.zeros(2), dtype="int32", trainable=False)])


def test_an_unknown_variable_is_refused() -> None:
    made = adapter.SGD()
    made.build(variables())
    with pytest.raises(ValueError, match="Unknown variable"):
        made.apply([ops.zeros(2)], [keras.Variable(np.zeros(2))])


def test_whole_numbers_and_numpy_numbers_are_learning_rates() -> None:
    assert float(adapter.SGD(learning_rate=1).learning_rate) == 1.0
    assert adapter.SGD(learning_rate=np.float32(0.5)).get_config()["learning_rate"] == 0.5


def test_a_schedule_is_followed() -> None:
    schedule = keras.optimizers.schedules.InverseTimeDecay(RATE, 2, 0.5)
    seen = apply(adapter.AdamW(learning_rate=schedule), variables())
    close(seen, oracle(s2.get("adamw")(), each=lambda host, i: host.replace(learning_rate=RATE / (1 + 0.5 * i / 2))))


@pytest.mark.parametrize("name", ["adamw", "prodigy"])
def test_a_step_may_be_a_function_of_values(name: str) -> None:
    hyper = brisk(s2.get(name))
    made, xs = keras_class(name)(**hyper), variables()
    made.build(xs)
    if keras.backend.backend() == "tensorflow":  # where Keras has no such function
        with pytest.raises(ValueError, match="not supported with the TensorFlow backend"):
            apply_stateless(made, xs)
    else:
        close(apply_stateless(made, xs), oracle(s2.get(name)(**hyper)))


def test_a_schedule_survives_a_config() -> None:
    made = adapter.AdamW(learning_rate=keras.optimizers.schedules.InverseTimeDecay(RATE, 2, 0.5))
    assert adapter.AdamW.from_config(made.get_config()).get_config() == made.get_config()


def test_a_callable_learning_rate_is_called_without_arguments() -> None:
    close(apply(adapter.AdamW(learning_rate=lambda: RATE), variables()), oracle(s2.get("adamw")(learning_rate=RATE)))


def test_a_learning_rate_set_between_steps_holds_from_then_on() -> None:
    made, xs = adapter.AdamW(learning_rate=RATE), variables()
    apply(made, xs, GRADS[:4])
    made.learning_rate = RATE / 2
    seen = apply(made, xs, GRADS[4:])
    close(seen, oracle(s2.get("adamw")(), each=lambda host, i: host.replace(learning_rate=RATE / (1 + (i >= 4)))))


def test_hyperparameters_are_attributes_that_are_checked() -> None:
    made = adapter.AdamW()
    made.beta_1 = 0.5
    assert made.beta_1 == made.rule.beta1 == made.get_config()["beta_1"] == 0.5
    with pytest.raises(ValueError, match=r"`AdamW\(beta_1=...\)`"):
        made.beta_1 = 2.0
    made.build(variables())
    with pytest.raises(ValueError, match="once the optimizer is built"):
        made.amsgrad = True


def test_what_is_excluded_does_not_decay() -> None:
    made, xs = adapter.AdamW(weight_decay=0.5, learning_rate=RATE), variables()
    made.exclude_from_weight_decay(var_list=[xs[0]], var_names=["p1"])
    seen = apply(made, xs)
    bare, decayed = (oracle(s2.get("adamw")(learning_rate=RATE, weight_decay=w)) for w in (0.0, 0.5))
    close(seen, [*bare[:2], *decayed[2:]])


def test_no_weight_decay_may_be_said_as_none() -> None:
    close(apply(adapter.AdamW(RATE, None), variables()), oracle(s2.get("adamw")(learning_rate=RATE, weight_decay=0.0)))


def test_clipping_comes_before_the_step() -> None:
    clipped = [[np.clip(g, -0.1, 0.1) for g in gs] for gs in GRADS]
    close(apply(adapter.AdamW(RATE, clipvalue=0.1), variables()), oracle(s2.get("adamw")(learning_rate=RATE), clipped))


def test_a_loss_scale_is_divided_out() -> None:
    scaled = [[g * 8 for g in gs] for gs in GRADS]
    seen = apply(adapter.AdamW(RATE, loss_scale_factor=8.0), variables(), scaled)
    close(seen, oracle(s2.get("adamw")(learning_rate=RATE)))


@pytest.mark.parametrize("name", ["adamw", "prodigy"])
def test_accumulated_gradients_are_one_step_on_their_mean(name: str) -> None:
    hyper = brisk(s2.get(name))
    made, xs = keras_class(name)(**hyper, gradient_accumulation_steps=2), variables()
    apply(made, xs, GRADS[:1])
    close(values(xs), [p.astype(float) for p in PARAMS], 0.0)
    means = [[(a + b) / 2 for a, b in zip(*pair, strict=True)] for pair in zip(GRADS[::2], GRADS[1::2], strict=True)]
    close(apply(made, xs, GRADS[1:]), oracle(s2.get(name)(**hyper), means))


def test_averages_replace_the_weights_when_asked() -> None:
    made, xs = adapter.SGD(RATE, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=4), variables()[:4]
    apply(made, xs, [gs[:4] for gs in GRADS[:4]])
    for average, x in zip(made._model_variables_moving_average, values(xs), strict=True):
        np.testing.assert_array_equal(values([average])[0], x)
    made.finalize_variable_values(xs)


def test_constraints_hold_after_a_step() -> None:
    xs = variables()
    for x in xs:
        x.constraint = keras.constraints.NonNeg()
    assert all((v >= 0).all() for v in apply(adapter.AdamW(RATE), xs))


def test_a_missing_gradient_leaves_its_variable_alone() -> None:
    made, xs = adapter.AdamW(RATE), variables()
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        made.apply([None, *(ops.convert_to_tensor(g) for g in GRADS[0][1:])], xs)
    np.testing.assert_array_equal(values(xs[:1])[0], PARAMS[0])


def test_frozen_layers_stay() -> None:
    model, x, y = network(None)
    model.layers[0].trainable = False
    model.compile(optimizer=adapter.AdamW(), loss="mse")
    before = model.layers[0].get_weights()[0]
    fit(model, x, y)
    np.testing.assert_array_equal(model.layers[0].get_weights()[0], before)


def test_memory_is_stored_as_asked() -> None:
    made, xs = adapter.AdamW(RATE, state_dtype={"exp_avg_sq": "bfloat16"}), variables()
    made.build(xs)
    slots = made.slots.entries[0].slots
    assert {k: v.dtype for k, v in slots.items()} == {"exp_avg": "float32", "exp_avg_sq": "bfloat16"}
    close(apply(made, xs), oracle(s2.get("adamw")(learning_rate=RATE)), 5e-2)


def test_the_order_of_the_variables_is_fixed() -> None:
    made = adapter.Prodigy()
    made.build(variables()[:2])
    names = [v.path.removeprefix(f"{made.name}/") for v in made.variables]
    slots = [f"p{i}_{slot}" for i in range(2) for slot in ("s", "p0", "exp_avg", "exp_avg_sq")]
    assert names == ["iteration", "learning_rate", "d", "d_max", "d_numerator", *slots]
    assert len(set(names)) == len(names)


def test_each_variable_goes_to_the_rule_that_fits_it() -> None:
    made = adapter.Muon()
    made.build([keras.Variable(np.ones(s), name=n) for n, s in (("w", (3, 2)), ("embed", (3, 2)), ("b", (3,)))])
    assert [list(m.slots) for m in made.slots.entries] == [["momentum_buffer"], *[["exp_avg", "exp_avg_sq"]] * 2]


def test_weights_can_be_set_and_an_optimizer_pickled() -> None:
    made, xs = adapter.AdamW(RATE), variables()
    apply(made, xs, GRADS[:4])
    other = adapter.AdamW(RATE)
    other.build(xs)
    other.set_weights([ops.convert_to_numpy(v) for v in made.variables])
    close(apply(other, xs, GRADS[4:]), oracle(s2.get("adamw")(learning_rate=RATE)))
    assert pickle.loads(pickle.dumps(adapter.AdamW(RATE))).get_config()["learning_rate"] == RATE


def test_mixed_precision_skips_steps_that_overflow() -> None:
    inner = adapter.AdamW(RATE)
    outer, xs = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0), variables()
    outer.build(xs)
    stepped = apply_stateless if keras.backend.backend() == "jax" else apply  # the one way Keras has on JAX
    stepped(outer, xs, [[g * 8 for g in GRADS[0]], [np.full(s, np.inf, "float32") for s in SHAPES]])
    close(values(xs), oracle(s2.get("adamw")(learning_rate=RATE), GRADS[:1]))

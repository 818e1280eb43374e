"""Memory of 8 bits and compensated rounding in Keras' variables: the steps of `HostOptimizer`, also inside what Keras
wraps around a step. On whatever backend Keras has; `test_tf_backends` runs this file on the others.
"""

from __future__ import annotations

from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import ops

import scirs2_adapters as s2
from scirs2_adapters import tf as adapter
from scirs2_adapters.adapters.tf.argument_names import KERAS
from scirs2_adapters.adapters.tf.state import coded
from scirs2_adapters.core import HostOptimizer, formats
from tests.conformance.options import still_steps

from .tf_format_support import BOTH, FINE, INT8, fit, held, network, number
from .tf_support import KERAS_READS, NAMES, keras_class, values

pytestmark = KERAS_READS

RULES = [n for n in NAMES if not s2.get(n).needs_closure and s2.get(n).sparse != "rows"]
SHAPES = ((64, 72), (80,), (4173,))
STEPS = 4
RANDOM = {"rounding": "stochastic"}


def start(dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=s).astype(getattr(ml_dtypes, dtype, dtype)) for s in SHAPES]


def gradients(dtype: str, seed: int = 1) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [[rng.normal(0.2, size=s).astype(getattr(ml_dtypes, dtype, dtype)) for s in SHAPES] for _ in range(STEPS)]


def variables(dtype: str) -> list[keras.Variable]:
    return [keras.Variable(np.array(p, "float32"), dtype=dtype, name=f"p{i}") for i, p in enumerate(start(dtype))]


def apply(optimizer: keras.Optimizer, xs: list[keras.Variable], grads: list[list[np.ndarray]]) -> None:
    """On JAX as `fit` does it, in one compiled function of values."""
    tensors = [
        [ops.convert_to_tensor(g.astype("float32"), dtype=x.dtype) for g, x in zip(gs, xs, strict=True)] for gs in grads
    ]
    if keras.backend.backend() != "jax":
        for gs in tensors:
            optimizer.apply(gs, xs)
        return
    import jax

    optimizer.build(xs)
    step = jax.jit(optimizer.stateless_apply)
    for gs in tensors:
        new = step([v.value for v in optimizer.variables], gs, [x.value for x in xs])
        for variable, value in zip([*xs, *optimizer.variables], [*new[0], *new[1]], strict=True):
            variable.assign(value)


CASES = [(name, *case) for name in RULES for case in (("float32", INT8), ("bfloat16", BOTH), ("float16", RANDOM))]


@pytest.mark.parametrize(
    ("name", "dtype", "options"), [*CASES, ("adamw", "float16", FINE), ("adamw", "bfloat16", FINE | RANDOM)]
)
def test_it_walks_like_numpy(name: str, dtype: str, options: dict[str, Any]) -> None:
    """Coefficients are float32 in a trace, and float64 there; so a code may fall on the other side, rarely."""
    if s2.get(name).first_step and dtype != "float32":
        with pytest.raises(ValueError, match="must have float32 parameters"):
            keras_class(name)(**options).build(variables(dtype))
        return
    made, xs, arrays = keras_class(name)(**options), variables(dtype), start(dtype)
    host = HostOptimizer(made.rule, arrays, layout="inputs_first", kernel="traced", **options)
    steps = list(gradients(dtype)) * (1 + still_steps(name))
    apply(made, xs, steps)
    for gs in steps:
        host.step(gs)
    for i, (x, p, first) in enumerate(zip(values(xs), arrays, start(dtype), strict=True)):
        path = np.linalg.norm(number(p) - number(first))
        assert path > 0
        # A few numbers may be rounded to the other side, which in 16 bits is more than that where the path is short.
        few = 0 if dtype == "float32" else max(1, x.size // 200)
        assert np.linalg.norm(x - number(p)) <= 2e-3 * path or (x != number(p)).sum() <= few
        slots = made.slots.entries[i].slots
        assert list(slots) == list(host.state[i])
        for slot, memory in host.state[i].items():
            assert tuple(slots[slot].shape) == memory.shape
            assert slots[slot].dtype == ("bfloat16" if memory.dtype == np.uint16 else memory.dtype)
            assert slots[slot].path.endswith(f"p{i}_{slot}")
            if memory.dtype.name in ("int8", "uint8") and slot != "rounding_error":
                off = np.abs(number(slots[slot]) - number(memory))
                assert off.max() <= 2  # one where it was rounded; codes lie closer where a number goes towards 0
                assert (off > 0).mean() <= 0.02


@pytest.mark.parametrize("name", ["lion", "signum"])
def test_a_variable_that_counts_its_steps_walks_like_numpy_beside_one_that_does_not(name: str) -> None:
    """The one of 16 bits is rounded by chance, which goes by the step; the formula does not ask for it."""
    dtypes = ("float32", "bfloat16", "float32")
    xs = [variables(d)[i] for i, d in enumerate(dtypes)]
    grads = [[gradients(d)[t][i] for i, d in enumerate(dtypes)] for t in range(STEPS)]
    made, arrays = keras_class(name)(**RANDOM), [start(d)[i] for i, d in enumerate(dtypes)]
    host = HostOptimizer(made.rule, arrays, **RANDOM)
    apply(made, xs, grads)
    for gs in grads:
        host.step(gs)
    for x, p in zip(values(xs), arrays, strict=True):
        np.testing.assert_allclose(x, number(p), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in RULES if s2.get(n).first_step in s2.get(n).fields])
def test_small_first_steps_need_a_rounding_error_of_16_bits(name: str) -> None:
    rule, xs = s2.get(name), variables("bfloat16")
    small = KERAS.to_framework({rule.first_step: 1e-3}, rule.fields_with())
    with pytest.raises(ValueError, match=r"must have float32 parameters, .* or rounding errors of int16"):
        keras_class(name)(**small, **BOTH | {"rounding": "nearest"}).build(xs)
    apply(keras_class(name)(**small, **FINE), xs, list(gradients("bfloat16")) * 2)
    assert any((x != number(p)).any() for x, p in zip(values(xs), start("bfloat16"), strict=True))


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "compensated"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_ones_move_by_steps_of_a_thousandth(dtype: str, rounding: str) -> None:
    """Half of bfloat16's last place below 1 is 0.002: to the nearest, each of these steps is lost."""
    x = keras.Variable(np.ones(2048), dtype=dtype)
    made = adapter.AdamW(1e-3, weight_decay=0.0, rounding=rounding)
    for _ in range(10):
        made.apply([ops.ones(2048, dtype=dtype)], [x])
    stays = dtype == "bfloat16" and rounding == "nearest"
    assert (number(x) == 1).all() == stays
    assert stays or abs(number(x).mean() - 0.99) < (0.002 if rounding == "compensated" else 5e-4)


@pytest.mark.parametrize("first", [1, 10**6])
def test_the_number_of_a_step_is_numpys(first: int) -> None:
    """Random bits are made of it."""
    counts = np.arange(first, first + 500)
    dithers = ops.convert_to_numpy(coded.dither(ops.convert_to_tensor(counts, "int32")))
    np.testing.assert_array_equal(dithers, np.array(list(map(formats.dither, counts.tolist())), "float32"))


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras compiles nothing on torch unless it is asked to")
def test_compiled_or_not_is_nearly_the_same() -> None:
    compiled, plain = (fit(network(adapter.AdamW(1e-2, **BOTH), jit=jit)) for jit in (True, False))
    np.testing.assert_allclose(compiled, plain, rtol=0.01)


def test_it_steps_inside_a_loss_scale_optimizer() -> None:
    scaled = keras.optimizers.LossScaleOptimizer(adapter.AdamW(1e-2, **BOTH), initial_scale=2.0**40)
    model = network(scaled, "float16")
    before = held(scaled.inner_optimizer)
    fit(model, 1)  # all of these overflow
    assert all((a == b).all() for a, b in zip(before, held(scaled.inner_optimizer), strict=False))
    losses = fit(model, 10)
    assert losses[-1] < losses[0] / 2
    assert any(v.dtype == "uint8" and number(v).any() for v in scaled.inner_optimizer.variables)


@pytest.mark.parametrize("error", ["int8", "int16"])
def test_a_constraint_that_makes_a_parameter_0_makes_it_0(error: str) -> None:
    x = keras.Variable(np.ones(8), dtype="bfloat16")
    x.constraint = keras.constraints.NonNeg()
    made = adapter.SGD(0.3, rounding="compensated", state_dtype={"rounding_error": error})
    for size in (1.0, 1.3, 1.1, 1.7, -0.1, 1.0):  # above 0, and beyond
        made.apply([ops.full((8,), size, dtype="bfloat16")], [x])
    assert (number(x) == 0).all()


# -- what is refused


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("AdamW", {"state_dtype": "int4"}, "'int8'"),
        ("ASGD", {"state_dtype": {"ax": "int8"}}, "cannot keep 'ax' in 8 bits"),
        ("AdamW", {"state_dtype": {"rounding_error": "float32"}}, "'int8', 'int16'"),
        ("AdamW", {"rounding": "compensate"}, "Did you mean `compensated`"),
        ("SparseAdam", INT8, "codes change along with their block"),
        ("SparseAdam", {"state_dtype": {"exp_avg": "int8"}}, "codes change along with their block"),
    ],
)
def test_what_cannot_be_is_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        getattr(adapter, name)(**options)


def test_an_older_keras_is_refused_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ops, "view")
    with pytest.raises(ValueError, match=r"needs Keras 3\.12"):
        adapter.AdamW(rounding="compensated")
    adapter.AdamW(**INT8)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_rounding_of_float32_variables_is_refused_when_it_is_built(dtype: str) -> None:
    model = network(adapter.AdamW(rounding="compensated"), dtype)
    with pytest.raises(ValueError, match="needs parameters of 16 bits"):
        model.optimizer.build(model.trainable_variables)
    assert not model.optimizer.built
    assert len(model.optimizer.variables) == 2


def test_formats_are_settled_once_it_is_built() -> None:
    made = adapter.AdamW(**BOTH)
    made.build(variables("bfloat16"))
    for name, value in (("rounding", "nearest"), ("state_dtype", None)):
        with pytest.raises(ValueError, match="cannot change what is remembered"):
            setattr(made, name, value)


@pytest.mark.parametrize("amount", [0.0, 0.1, -0.3], ids=str)
@pytest.mark.parametrize("storage", ["int8", "uint8"])
def test_first_codes_are_those_of_an_array_of_the_number(amount: float, storage: str) -> None:
    def constant(shape: tuple[int, ...], dtype: str) -> Any:
        return ops.full(shape, amount, dtype)

    shape = (3, 200)
    long_way, short_way = (coded.initializers(constant, shape, storage, everywhere) for everywhere in (False, True))
    for part, part_shape in enumerate([shape, (formats.blocks(600),)]):
        expected, made = (way[part](part_shape, dtype=None) for way in (long_way, short_way))
        np.testing.assert_array_equal(ops.convert_to_numpy(made), ops.convert_to_numpy(expected))
        dtype = keras.backend.standardize_dtype(made.dtype)
        variable = keras.Variable(short_way[part], part_shape, dtype, trainable=False)
        variable.assign(ops.zeros_like(made))  # torch writes into no memory that several numbers share
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), 0)

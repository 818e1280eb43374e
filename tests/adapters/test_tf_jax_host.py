"""The CPU kernel behind Keras on JAX: in a step by itself and in a program that is compiled around one.
`test_tf_backends` runs this file on JAX.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import scirs2_adapters as s2
from scirs2_adapters import tf as adapter
from scirs2_adapters.adapters.tf.argument_names import KERAS
from scirs2_adapters.core import HostOptimizer
from tests.conformance.cells import by_rows, only_rows
from tests.conformance.options import brisk

from .tf_format_support import BOTH, FINE, INT8, number
from .tf_support import GRADS, KERAS_READS, NAMES, PARAMS, apply, close, fit, keras_class, network, values, variables

if keras.backend.backend() != "jax":
    pytest.skip("of Keras on JAX; test_tf_backends runs it there", allow_module_level=True)
jax = pytest.importorskip("jax")
pytestmark = KERAS_READS

#: Rules whose arrays the kernel steps; the others work on rows, columns or matrices.
STEPPED = [name for name in NAMES if not (by_rows(name) or only_rows(name))]
FORMATS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("float32", {"state_dtype": "bfloat16"}),
    ("float32", INT8),
    ("bfloat16", {}),
    ("bfloat16", BOTH),
    ("bfloat16", {"state_dtype": "int8", "rounding": "stochastic"}),
    ("bfloat16", FINE),
    ("float16", {"state_dtype": "float16"}),
)
#: Of each rule one format, another than its neighbours': each case is a program to compile.
CASES = [(name, *FORMATS[i % len(FORMATS)]) for i, name in enumerate(STEPPED)]
CASES = [case for case in CASES if not s2.get(case[0]).first_step or case[1] == "float32"]  # which refuses 16 bits


def made(name: str, kernel: str = "host", **options: object) -> keras.Optimizer:
    rule = s2.get(name)
    return keras_class(name)(**KERAS.to_framework(brisk(rule), rule.fields_with()), kernel=kernel, **options)


def program(optimizer: keras.Optimizer, xs: list[keras.Variable], **options: Any) -> Any:
    """The step as a function of values, as a training loop of Keras compiles it: what comes first goes out first, since
    JAX gives a result the first memory of its shape that is given away.
    """

    def step(params: list[Any], state: list[Any], gradients: list[Any]) -> Any:
        return optimizer.stateless_apply(state, gradients, params)

    if not optimizer.built:
        optimizer.build(xs)
    return jax.jit(step, **options)


def operands(optimizer: keras.Optimizer, xs: list[keras.Variable], gs: list[np.ndarray]) -> tuple[Any, Any, Any]:
    gradients = [ops.convert_to_tensor(g, dtype=x.dtype) for g, x in zip(gs, xs, strict=True)]
    return [x.value for x in xs], [v.value for v in optimizer.variables], gradients


def take(optimizer: keras.Optimizer, xs: list[keras.Variable], mode: str, grads: list[list[np.ndarray]]) -> None:
    """These steps, each by itself or in a program that gives its operands away."""
    if mode == "eager":
        apply(optimizer, xs, grads)
        return
    step = program(optimizer, xs, donate_argnums=(0, 1))
    for gs in grads:
        params, state = step(*operands(optimizer, xs, gs))
        for variable, value in zip([*xs, *optimizer.variables], [*params, *state], strict=True):
            variable.assign(value)


def text(optimizer: keras.Optimizer, xs: list[keras.Variable]) -> str:
    step = program(optimizer, xs)
    return str(step.lower(*operands(optimizer, xs, GRADS[0])).as_text())


@pytest.mark.parametrize("mode", ["eager", "compiled"])
@pytest.mark.parametrize("name", STEPPED)
def test_it_leads_where_the_core_does(name: str, mode: str) -> None:
    xs, optimizer, arrays = variables(), made(name), [p.copy() for p in PARAMS]
    host = HostOptimizer(optimizer.rule, arrays, kernel="host", layout="inputs_first")
    take(optimizer, xs, mode, GRADS[:4])
    for gs in GRADS[:4]:
        host.step(gs)
    close(values(xs), [x.astype(float) for x in arrays], 2e-5)
    for entry in optimizer.slots.entries:
        for slot, variable in entry.slots.items():
            expected = host.state[entry.index][slot]
            np.testing.assert_allclose(number(variable), expected, rtol=2e-4, atol=1e-6, err_msg=slot)
    for slot, variable in optimizer.slots.model.items():
        np.testing.assert_allclose(float(variable), host.model[slot], rtol=2e-4, err_msg=slot)


@pytest.mark.parametrize(("name", "dtype", "options"), CASES)
def test_it_stores_what_the_traced_path_stores(name: str, dtype: str, options: dict[str, Any]) -> None:
    ends = []
    for kernel in ("host", "traced"):
        xs, optimizer = variables(dtype), made(name, kernel, **options)
        take(optimizer, xs, "eager", GRADS[:3])
        ends.append((xs, [entry.slots for entry in optimizer.slots.entries]))
    close([number(x) for x in ends[0][0]], [number(x) for x in ends[1][0]], 4e-3)
    for mine, theirs in zip(ends[0][1], ends[1][1], strict=True):
        assert list(mine) == list(theirs)
        for slot in mine.keys() - {"rounding_error"}:  # of a number that may have been rounded to a neighbour
            a, b = number(mine[slot]), number(theirs[slot])
            assert np.linalg.norm(a - b) <= 0.01 * np.linalg.norm(b), slot


@pytest.mark.parametrize("name", NAMES)
def test_a_program_has_the_kernel_where_the_rule_lets_it(name: str) -> None:
    if name in STEPPED:
        assert "scirs2_step" in text(made(name, "auto"), variables())
        assert "scirs2_step" not in text(made(name, "traced"), variables())
    else:
        with pytest.raises(ValueError, match="rows"):
            apply(made(name, "host"), variables(), GRADS[:1])


def test_fit_has_it() -> None:
    losses = []
    for kernel in ("host", "traced"):
        model, x, y = network(adapter.AdamW(0.01, kernel=kernel))
        losses.append(fit(model, x, y))
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_what_somebody_holds_never_changes(mode: str) -> None:
    xs, optimizer = variables(), adapter.AdamW(0.1, kernel="host")
    step = program(optimizer, xs)
    held: list[tuple[object, np.ndarray]] = []
    for gs in GRADS[:3]:
        arrays = [v.value for v in (*xs, *optimizer.variables)]
        held += [(x, np.array(x)) for x in arrays]
        if mode == "eager":
            apply(optimizer, xs, [gs])
        else:
            step(*operands(optimizer, xs, gs))
    assert all(np.array_equal(np.asarray(x), before) for x, before in held)


def test_a_program_that_gives_its_operands_away_needs_no_second_memory() -> None:
    xs = [keras.Variable(np.ones((256, 256), "float32")) for _ in range(4)]
    optimizer = adapter.AdamW(kernel="host")
    step = program(optimizer, xs, donate_argnums=(0, 1))
    memory = step.lower(*operands(optimizer, xs, [np.ones((256, 256))] * 4)).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= 12 * 256 * 256 * 4
    assert memory.temp_size_in_bytes < 256 * 256 * 4


def after(make: Callable[[], keras.Optimizer]) -> Callable[[Any], Any]:
    """The sum of squares of the parameters after a step, as a function of the scale of its gradients."""
    xs, optimizer = variables(), make()
    step = program(optimizer, xs)
    params, state, gradients = operands(optimizer, xs, GRADS[0])

    def total(scale: Any) -> Any:
        new, _ = step(params, state, [scale * g for g in gradients])
        return sum(ops.sum(ops.square(x)) for x in new)

    return total


@pytest.mark.parametrize("kernel", ["auto", "host", "traced"])
def test_a_step_is_differentiated_and_batched_as_keras_is(kernel: str) -> None:
    ours = after(lambda: adapter.SGD(0.1, momentum=0.9, match="keras", kernel=kernel))
    theirs = after(lambda: keras.optimizers.SGD(0.1, momentum=0.9))
    np.testing.assert_allclose(jax.grad(ours)(1.5), jax.grad(theirs)(1.5), rtol=1e-5)
    scales = np.array([1.0, 2.0], "float32")
    np.testing.assert_allclose(jax.vmap(ours)(scales), jax.vmap(theirs)(scales), rtol=1e-5)
    assert abs(float(jax.grad(ours)(1.5))) > 0.1


@pytest.mark.parametrize(
    ("gradient", "words"), [(np.ones((1, 3), "float32"), "shape"), (np.ones((4, 3), "int32"), "int32")]
)
def test_a_gradient_of_another_form_is_an_obstacle(gradient: np.ndarray, words: str) -> None:
    xs = variables()[:1]
    optimizer = adapter.SGD(0.5, kernel="host")
    optimizer.build(xs)
    with pytest.raises(ValueError, match=words):
        optimizer.apply([ops.convert_to_tensor(gradient)], xs)
    np.testing.assert_array_equal(values(xs)[0], PARAMS[0])


def test_parameters_go_with_their_optimizer() -> None:
    xs, optimizer = variables(), adapter.AdamW(kernel="host")
    take(optimizer, xs, "eager", GRADS[:2])
    known = [weakref.ref(x) for x in (optimizer, *xs, *optimizer.variables)]
    del xs, optimizer
    gc.collect()
    assert not any(ref() is not None for ref in known)


def test_one_program_serves_all_steps_and_optimizers_of_a_kind() -> None:
    from scirs2_adapters.adapters.tf.executors.jax_host import compiled

    take(adapter.AdamW(kernel="host"), variables(), "eager", GRADS[:1])
    before = compiled.cache_info()
    take(adapter.AdamW(0.5, kernel="host"), variables(), "eager", GRADS[:3])
    after = compiled.cache_info()
    assert (after.misses, after.hits) == (before.misses, before.hits + 3)

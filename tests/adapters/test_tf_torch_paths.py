"""Which path steps on torch: what keeps the CPU kernel from running is said, and does not change where training goes.
`test_tf_backends` runs this file on torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import scirs2_adapters as s2
from scirs2_adapters import tf as adapter
from scirs2_adapters.core import HostOptimizer

from .tf_support import KERAS_READS, RATE, apply_stateless, keras_class, values
from .tf_torch_support import apply, arrays, gradients, tensor, variables

if keras.backend.backend() != "torch":
    pytest.skip("of Keras on torch; test_tf_backends runs it there", allow_module_level=True)
torch = pytest.importorskip("torch")
pytestmark = KERAS_READS

Step = tuple[list[keras.Variable], list[Any]]


def plain() -> Step:
    return variables(), list(map(tensor, gradients("float32")[0]))


def transposed() -> Step:
    xs, gs = plain()
    xs[0].value.data = xs[0].value.data.t().contiguous().t()
    return xs, gs


def twice() -> Step:
    xs, gs = plain()
    return [*xs, xs[0]], [*gs, gs[0] * 2]


def tied() -> Step:
    p = torch.nn.Parameter(torch.ones(80))
    return [keras.Variable(p, name="p0"), keras.Variable(p, name="p1")], [torch.ones(80), torch.full((80,), -2.0)]


def narrow() -> Step:
    xs, gs = plain()
    return xs, [gs[0][:1], *gs[1:]]


class Wrapper(torch.Tensor):
    """A tensor that computes in its own way: as any other."""

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        unwrapped = [x.wrapped if isinstance(x, Wrapper) else x for x in args]
        return function(*unwrapped, **(kwargs or {}))


def subclass() -> Step:
    xs, gs = plain()
    wrapper = torch.Tensor._make_wrapper_subclass(Wrapper, gs[0].shape, dtype=gs[0].dtype)
    wrapper.wrapped = gs[0]
    return xs, [wrapper, *gs[1:]]


def whole() -> Step:
    xs, gs = plain()
    return xs, [torch.ones(gs[0].shape, dtype=torch.int32), *gs[1:]]


OBSTACLES = [
    (transposed, "the memory of p0 is not contiguous"),
    (twice, "a variable is given twice"),
    (tied, "the memory of p0 is another variable's, too"),
    (narrow, r"its gradient has the shape \(1, 72\)"),
    (subclass, "its gradient is a Wrapper, which computes in its own way"),
    (whole, "g has dtype int32"),
]


@pytest.mark.parametrize("name", ["adamw", "prodigy"])
@pytest.mark.parametrize(("make", "words"), OBSTACLES, ids=lambda v: getattr(v, "__name__", ""))
def test_an_obstacle_is_said_and_leaves_the_step_as_it_is(make: Callable[[], Step], words: str, name: str) -> None:
    ends = []
    for kernel in ("auto", "traced"):
        xs, gs = make()
        made = keras_class(name)(RATE, kernel=kernel)
        for _ in range(3):
            made.apply(gs, xs)
        ends.append(values([*xs, *made.variables]))
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
    xs, gs = make()
    made = keras_class(name)(RATE, kernel="host")
    made.build(list({id(x): x for x in xs}.values()))
    before = values([*xs, *made.variables])
    with pytest.raises(ValueError, match=f'{words}.*kernel="traced"'):
        made.apply(gs, xs)
    for a, b in zip(values([*xs, *made.variables]), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_obstacle_that_comes_later_is_seen() -> None:
    made, (xs, gs) = adapter.AdamW(RATE, kernel="host"), plain()
    made.apply(gs, xs)
    xs[0].value.data = xs[0].value.data.t().contiguous().t()
    with pytest.raises(ValueError, match="not contiguous"):
        made.apply(gs, xs)


def test_rows_without_a_gradient_are_left_alone() -> None:
    with pytest.raises(ValueError, match="leaves the others alone"):
        adapter.SparseAdam(kernel="host").apply([torch.ones(3, 2)], [keras.Variable(np.ones((3, 2)))])


def test_a_step_that_is_a_function_of_values_changes_nothing() -> None:
    made, xs = adapter.AdamW(RATE), variables()
    apply(made, xs, gradients("float32"))  # by the kernel
    before = values([*xs, *made.variables])
    gs = list(map(tensor, gradients("float32")[0]))
    new, _ = made.stateless_apply([v.value for v in made.variables], gs, [x.value for x in xs])
    for a, b in zip(values([*xs, *made.variables]), before, strict=True):
        np.testing.assert_array_equal(a, b)
    made.apply(gs, xs)
    for x, y in zip(values(xs), new, strict=True):
        np.testing.assert_allclose(x, y.detach().numpy(), rtol=1e-5, atol=1e-6)
    made = adapter.AdamW(RATE, kernel="host")
    made.build(xs[1:2])
    with pytest.raises(ValueError, match="a function of values"):
        apply_stateless(made, xs[1:2], [[np.ones(80, "float32")]])


def test_without_the_compiler_the_traced_path_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from scirs2_adapters.adapters.tf.executors import torch_host

    monkeypatch.setattr(torch_host, "compiler_obstacle", lambda: "numba is not installed")
    with pytest.raises(ValueError, match="numba is not installed"):
        adapter.AdamW(kernel="host")
    made, xs = adapter.AdamW(RATE), variables()
    apply(made, xs, gradients("float32"))
    assert made.slots.again is None
    assert all((x != p).any() for x, p in zip(values(xs), arrays("float32"), strict=True) if p.size)


def test_what_torch_compiles_is_traced() -> None:
    ends = []
    for compiles in (False, True):
        made, xs = adapter.SGD(RATE, momentum=0.5), [keras.Variable(np.ones(5, "float32")) for _ in range(2)]
        step = torch.compile(made.apply, backend="eager") if compiles else made.apply
        with torch.no_grad():
            made.apply([torch.ones(5)] * 2, xs)
            plan = made.slots.again
            for g in (0.5, -2.0):
                step([torch.full((5,), g)] * 2, xs)
        assert plan is not None
        ends.append(values([*xs, *made.variables]))
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_numbers_may_change_between_steps() -> None:
    rule, ours = s2.get("adamw")(learning_rate=RATE), arrays("float32")
    numpys = HostOptimizer(rule, ours, layout="inputs_first")
    made, xs = adapter.AdamW(RATE, kernel="host"), variables()
    changes: list[dict[str, float]] = [{}, {"learning_rate": 0.1}, {"beta1": 0.5}, {"weight_decay": 0.25}]
    for gs, change in zip(gradients("float32"), changes, strict=True):
        for key, value in change.items():
            setattr(made, key.replace("beta1", "beta_1"), value)
        numpys.replace(**change)
        apply(made, xs, [gs])
        numpys.step(gs)
    for x, p in zip(values(xs), ours, strict=True):
        np.testing.assert_array_equal(x, p)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_what_is_excluded_from_decay_later_no_longer_decays(name: str) -> None:
    made, xs = keras_class(name)(RATE, weight_decay=0.5, kernel="host"), variables()
    rules = [s2.get(name)(learning_rate=RATE, weight_decay=0.5) for _ in xs]
    ours = [HostOptimizer(rule, [p], layout="inputs_first") for rule, p in zip(rules, arrays("float32"), strict=True)]
    for i, gs in enumerate(gradients("float32")):
        if i == 2:
            made.exclude_from_weight_decay(var_names=["p0", "p3"])
            for k in (0, 3):
                ours[k].replace(weight_decay=0.0)
        apply(made, xs, [gs])
        for numpys, g in zip(ours, gs, strict=True):
            numpys.step([g])
    for x, numpys in zip(values(xs), ours, strict=True):
        np.testing.assert_array_equal(x, numpys.params[0])


def test_variables_may_take_turns() -> None:
    ends = []
    for kernel in ("host", "traced"):
        made, (xs, gs) = adapter.AdamW(RATE, kernel=kernel), plain()
        made.build(xs)
        for turn in range(3 * len(xs)):
            chosen = [i for i in range(len(xs)) if (turn + i) % 3]
            made.apply([gs[i] for i in chosen], [xs[i] for i in chosen])
        made.update_step(gs[0], xs[0], made.learning_rate)
        ends.append(values([*xs, *made.variables]))
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_the_kernel_may_be_chosen_between_steps() -> None:
    made, xs = adapter.AdamW(RATE), variables()
    apply(made, xs, gradients("float32")[:2])
    made.kernel = "traced"
    before = made.slots.again
    apply(made, xs, gradients("float32")[2:])
    ours = arrays("float32")
    numpys = HostOptimizer(s2.get("adamw")(learning_rate=RATE), ours, kernel="traced", layout="inputs_first")
    for gs in gradients("float32"):
        numpys.step(gs)
    assert before is made.slots.again
    for x, p in zip(values(xs), ours, strict=True):
        np.testing.assert_allclose(x, p, rtol=1e-5, atol=1e-6)


def test_gradients_on_their_way_are_not_kept() -> None:
    import gc
    import weakref

    made, (xs, gs) = adapter.AdamW(RATE, kernel="host"), plain()
    refs = list(map(weakref.ref, gs))
    made.apply(gs, xs)
    made.apply(gs, xs)
    assert made.slots.again is not None
    del gs
    gc.collect()
    assert not any(ref() is not None for ref in refs)
    assert ops.convert_to_numpy(made.iterations) == 2

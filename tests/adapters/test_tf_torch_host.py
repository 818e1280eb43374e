"""The CPU kernel behind Keras on torch: where it steps, it does what numpy's `HostOptimizer` does, bit for bit, in as
many torch operators for forty variables as for four. `test_tf_backends` runs this file on torch.
"""

from __future__ import annotations

import copy
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
from tests.conformance.options import brisk, still_steps

from .tf_format_support import BOTH, FINE, INT8, number
from .tf_support import KERAS_READS, NAMES, RATE, keras_class, values
from .tf_torch_support import STEPS, Arrays, apply, arrays, gradients, tensor, variables

if keras.backend.backend() != "torch":
    pytest.skip("of Keras on torch; test_tf_backends runs it there", allow_module_level=True)
torch = pytest.importorskip("torch")
pytestmark = KERAS_READS

RULES = [n for n in NAMES if s2.get(n).sparse != "rows"]
HALF: dict[str, Any] = {"state_dtype": "bfloat16"}
RANDOM: dict[str, Any] = {"state_dtype": "int8", "rounding": "stochastic"}
FORMATS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("float32", {}),
    ("float32", HALF),
    ("float32", INT8),
    ("float64", {}),
    ("float64", INT8),
    ("bfloat16", {}),
    ("bfloat16", BOTH),
    ("bfloat16", RANDOM),
    ("bfloat16", FINE),
    ("float16", {"state_dtype": "float16"}),
    ("float16", BOTH),
    ("float16", RANDOM),
    ("float16", FINE),
)


def arguments(name: str) -> dict[str, Any]:
    return KERAS.to_framework(brisk(s2.get(name)), s2.get(name).fields_with())


def refused(name: str, dtype: str, options: dict[str, Any]) -> bool:
    """What learns from its first steps takes no numbers of 16 bits without errors of 16 bits beside them."""
    return bool(s2.get(name).first_step) and dtype in ("bfloat16", "float16") and options is not FINE


#: Of each rule three formats, others than its neighbours', and of one rule all: each case is a kernel to compile.
CHOSEN = {name: [FORMATS[(i + 4 * k) % len(FORMATS)] for k in range(3)] for i, name in enumerate(RULES)}
CHOSEN["adamw"] = list(FORMATS)
CASES = [(name, *case) for name, cases in CHOSEN.items() for case in cases if not refused(name, *case)]


@pytest.mark.parametrize(("name", "dtype", "options"), CASES)
def test_it_does_what_numpys_optimizer_does_bit_for_bit(name: str, dtype: str, options: dict[str, Any]) -> None:
    rule, ours = s2.get(name)(**brisk(s2.get(name))), arrays(dtype)
    numpys = HostOptimizer(rule, ours, layout="inputs_first", kernel="host", **options)
    made, xs = keras_class(name)(**arguments(name), kernel="host", **options), variables(dtype)
    apply(made, xs, gradients(dtype))
    for gs in gradients(dtype):
        numpys.step(gs)
    moved = still_steps(name) >= STEPS
    for i, (x, p, first) in enumerate(zip(xs, ours, arrays(dtype), strict=True)):
        np.testing.assert_array_equal(number(x), number(p))
        moved = moved or bool((number(p) != number(first)).any())
        slots = made.slots.entries[i].slots
        assert list(slots) == list(numpys.state[i])
        for slot, memory in numpys.state[i].items():
            np.testing.assert_array_equal(number(slots[slot]), number(memory))
    assert moved
    for slot, variable in made.slots.model.items():  # which numpy keeps in float64 from step to step
        np.testing.assert_allclose(float(variable), numpys.model[slot], rtol=2e-7, err_msg=slot)


@pytest.mark.parametrize(("name", "dtype", "options"), CASES)
def test_it_goes_where_the_traced_path_goes(name: str, dtype: str, options: dict[str, Any]) -> None:
    ends = []
    for kernel in ("host", "traced"):
        made, xs = keras_class(name)(**arguments(name), kernel=kernel, **options), variables(dtype)
        apply(made, xs, gradients(dtype))
        ends.append((xs, [entry.slots for entry in made.slots.entries]))
    close_to(*([number(x) for x in xs] for xs, _ in ends))
    for mine, theirs in zip(ends[0][1], ends[1][1], strict=True):
        assert list(mine) == list(theirs)
        for slot in mine.keys() - {"rounding_error"}:  # of a number that may have been rounded to a neighbour
            a, b = number(mine[slot]), number(theirs[slot])
            assert np.linalg.norm(a - b) <= 0.01 * np.linalg.norm(b), slot


def close_to(seen: Arrays, expected: Arrays) -> None:
    """In 16 bits, and with codes of 8, a number may be rounded to the other side."""
    first = [number(p) for p in arrays("float64")]
    off = sum(float(np.sum((a - b) ** 2)) for a, b in zip(seen, expected, strict=True)) ** 0.5
    path = sum(float(np.sum((a - b) ** 2)) for a, b in zip(first, expected, strict=True)) ** 0.5
    assert path > 0
    assert off <= 4e-3 * path, f"{off / path:.1e} of the path"


def operators(step: Callable[[], None]) -> int:
    """How many torch operators run."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counter(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += 1
            return function(*args, **(kwargs or {}))

    with torch.no_grad(), Counter() as counter:
        step()
    return counter.count


def of_one_step(name: str, count: int, **options: Any) -> int:
    dtype = "bfloat16" if "rounding" in options else "float32"
    xs = [keras.Variable(np.ones((64, 64)), dtype=dtype) for _ in range(count)]
    gs = [torch.full((64, 64), 0.5, dtype=getattr(torch, dtype)) for _ in xs]
    made = keras_class(name)(**arguments(name), **options)
    made.apply(gs, xs)
    return operators(lambda: made.apply(gs, xs))


@pytest.mark.parametrize(
    ("name", "options"),
    [*((n, {}) for n in RULES if not s2.get(n)().model_slots()), *(("adamw", o) for o in (INT8, BOTH, RANDOM))],
)
def test_forty_variables_take_as_many_operators_as_four(name: str, options: dict[str, Any]) -> None:
    assert of_one_step(name, 4, **options) == of_one_step(name, 40, **options) <= 8


def test_the_numbers_of_a_model_are_read_and_written_once() -> None:
    assert of_one_step("prodigy", 4) == of_one_step("prodigy", 40)
    assert of_one_step("adamw", 4, kernel="traced") < of_one_step("adamw", 40, kernel="traced")  # what is counted


def move_data(made: Any, xs: Any) -> None:
    for x in (*xs, *made.slots.variables):
        x.value.data = x.value.data.clone()


def move_tensor(made: Any, xs: Any) -> None:
    for x in (*xs, *made.slots.variables):
        x._value = torch.nn.Parameter(x.value.data.clone(), requires_grad=False)


def assign(made: Any, xs: Any) -> None:
    for x in (*xs, *made.variables):
        x.assign(ops.copy(x.value))


def set_weights(made: Any, xs: Any) -> None:
    weights = [np.array(ops.convert_to_numpy(v)) for v in made.variables]
    made.set_weights(weights)


def reload(made: Any, xs: Any) -> None:
    store: dict[str, Any] = {}
    made.save_own_variables(store)
    made.load_own_variables(store)


@pytest.mark.parametrize("change", [move_data, move_tensor, assign, set_weights, reload])
@pytest.mark.parametrize(("name", "options"), [("adamw", {}), ("adamw", INT8), ("prodigy", {}), ("muon", {})])
def test_it_steps_what_is_there_now(name: str, options: dict[str, Any], change: Callable[..., None]) -> None:
    ends, old = [], []
    for moved in (True, False):
        made, xs = keras_class(name)(**arguments(name), kernel="host", **options), variables()
        apply(made, xs, gradients("float32")[:2])
        if moved:
            old = [(x.value.data, x.value.detach().clone()) for x in xs]
            change(made, xs)
        apply(made, xs, gradients("float32")[2:])
        ends.append(values([*xs, *made.variables]))
    for a, b in zip(*ends, strict=True):
        np.testing.assert_array_equal(a, b)
    if change in (move_data, move_tensor):
        assert all(torch.equal(x, before) for x, before in old)


def test_a_pickled_copy_has_plans_of_its_own() -> None:
    made, xs = adapter.AdamW(RATE, kernel="host"), variables()
    apply(made, xs, gradients("float32")[:2])
    other, ys = copy.deepcopy(made), [keras.Variable(ops.copy(x.value), name=x.name) for x in xs]
    apply(other, ys, gradients("float32")[2:])
    apply(made, xs, gradients("float32")[2:])
    for a, b in zip(values([*xs, *made.variables]), values([*ys, *other.variables]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_autograd_knows_that_a_variable_has_changed() -> None:
    x = keras.Variable(np.ones(3), name="x")
    loss = (x.value * x.value).sum()
    adapter.AdamW(RATE, kernel="host").apply([torch.ones(3)], [x])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def columns(g: Any) -> Any:
    return g.t().contiguous().t() if g.dim() == 2 else g


@pytest.mark.parametrize(
    "form",
    [
        columns,
        lambda g: g.mean().expand(g.shape),
        lambda g: g.numpy(),
        lambda g: g.double(),
        lambda g: torch._neg_view(-g),
        lambda g: g.requires_grad_(),
    ],
    ids=["columns", "one number", "numpy", "float64", "negated", "tracked"],
)
def test_a_gradient_may_lie_in_memory_as_it_likes(form: Callable[[Any], Any]) -> None:
    ends = []
    for kernel in ("host", "traced"):
        made, xs = adapter.AdamW(RATE, kernel=kernel), variables()
        for gs in gradients("float32"):
            made.apply([form(tensor(g)) for g in gs], xs)
        ends.append(values(xs))
    close_to(*ends)

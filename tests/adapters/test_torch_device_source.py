"""The kernels generated for CUDA devices, run by Triton's interpreter: they do what numpy does, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import scirs2_adapters.torch as ours
from scirs2_adapters.adapters.torch.executors.triton_layout import formula_obstacle
from scirs2_adapters.core import HostOptimizer, formats, get, names
from scirs2_adapters.core.cpu.storage import FORMAT_OPS
from scirs2_adapters.core.formats import SMALLEST
from scirs2_adapters.core.program.recorded import Program, record
from scirs2_adapters.core.slots import Leaf
from tests.boundaries.support import ROOT

from .torch_support import turned_options
from .triton_support import interpreted

ml_dtypes = pytest.importorskip("ml_dtypes")
Arrays = dict[str, np.ndarray]
__all__ = ["interpreted"]
#: Whole blocks of 1,024 numbers, one that ends within a block of codes, and tensors of one and none.
SHAPES = [(SMALLEST + 333,), (80,), (64, 64), (), (0, 3)]
#: For rules that look along rows and columns: some longer than what one program sums, matrices of more than two axes,
#: and one without numbers.
MATRICES = [(3, 300), (290, 2), (2, 3, 2, 5), (2, 0)]
INT8 = {"state_dtype": "int8"}
STORAGES: dict[str, tuple[torch.dtype, dict[str, Any]]] = {
    "float32": (torch.float32, {}),
    "float64": (torch.float64, {}),
    "bfloat16": (torch.bfloat16, {"state_dtype": "float32"}),
    "int8": (torch.float32, INT8),
    "float64 int8": (torch.float64, INT8),
    "bfloat16+int8 int8": (torch.bfloat16, {"rounding": "compensated", **INT8}),
    "bfloat16+int16": (torch.bfloat16, {"rounding": "compensated", "state_dtype": {"rounding_error": "int16"}}),
    "bfloat16+stochastic int8": (torch.bfloat16, {"rounding": "stochastic", **INT8}),
    "float16+stochastic": (torch.float16, {"rounding": "stochastic", "state_dtype": "float32"}),
    "float16+int8 int8": (torch.float16, {"rounding": "compensated", **INT8}),
    "float16+int16": (torch.float16, {"rounding": "compensated", "state_dtype": {"rounding_error": "int16"}}),
}


def program_of(name: str) -> Program:
    """That of a matrix."""
    leaf = Leaf((3, 3), "float32")
    return record(get(name)().route(leaf), leaf)


def has_kernel(name: str, options: Mapping[str, Any] = {}) -> bool:
    """Whether the device's kernel steps parameters by this rule, with these of torch's options."""
    optimizer = getattr(ours, get(name).__name__)([torch.nn.Parameter(torch.ones(1))], **options)
    rule, leaves = (
        optimizer._group_rule(0, optimizer.param_groups[0]).rule,
        [Leaf(shape, "float32") for shape in ((3,), (3, 3))],
    )
    programs = [record(rule.route(leaf), leaf) for leaf in leaves]
    return not any(map(formula_obstacle, programs)) and get(name).sparse != "rows"


#: What gives a rule memory that it has only if it is asked, and first steps that float16 holds.
OPTIONS = {"acprop": {"eps": 0.01}, "sgd": {"momentum": 0.9}, "rmsprop": {"momentum": 0.9}, "adam": {"amsgrad": True}}
OPTIONS |= {"adafactor": {"beta1": 0.9}}
OPTIONS |= {name: {first: 0.01} for name in names() if (first := get(name).first_step)}
RULES = [name for name in names() if not get(name).needs_closure and has_kernel(name)]


def stepped(name: str, dtype: torch.dtype, options: dict[str, Any]) -> tuple[list[Arrays], list[Arrays]]:
    """The parameters and all of their memory after two steps, in two groups with learning rates of their own, and what
    is kept for the model: by the kernel, and by numpy's operations.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = SHAPES + (MATRICES if program_of(name).looked else [])
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.003}]
    optimizer = getattr(ours, get(name).__name__)(groups, **options)
    arrays = {k: array(p).copy() for k, p in enumerate(params)}
    rules = [optimizer._group_rule(i, group).rule for i, group in enumerate(optimizer.param_groups)]
    others = {"params": list(range(2, len(params))), "learning_rate": rules[1].learning_rate}
    storage = {k: v for k, v in options.items() if k in ("state_dtype", "rounding")}
    other = HostOptimizer(rules[0], arrays, kernel="traced", groups=[others], **storage)
    for _ in range(2):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator).to(dtype)
        optimizer.step()
        other.step({k: array(p.grad) for k, p in enumerate(params)})
    model = {n: np.array(optimizer.param_groups[0][n].item()) for n in other.model}
    mine = [{"p": array(p), **{n: array(x) for n, x in optimizer.state[p].items()}} for p in params]
    expected = [{"p": x, **other.state.get(k, {})} for k, x in arrays.items()]
    return [*mine, model], [*expected, {n: np.array(x) for n, x in other.model.items()}]


def array(x: torch.Tensor) -> np.ndarray:
    x = x.detach()
    return x.view(torch.int16).numpy().view(ml_dtypes.bfloat16) if x.dtype == torch.bfloat16 else x.numpy()


def bits(x: np.ndarray) -> np.ndarray:
    return x.view(f"uint{8 * x.itemsize}")


def assert_near(key: str, ours_: Arrays, others: Arrays, compute: str) -> None:
    """Equal but for the order of additions: as near as the arithmetic and what is stored allow. The largest codes are
    1.6 % apart, and what comes of a code may be one code off.
    """
    a: np.ndarray
    b: np.ndarray
    slot, coded = key.removesuffix("_scale"), f"{key.removesuffix('_scale')}_scale" in others
    if coded and slot == key:
        dtype = str(others[key].dtype)
        a, b = (formats.load(FORMAT_OPS, dtype, x[key].reshape(-1), x[f"{key}_scale"]) for x in (ours_, others))
    else:
        a, b = ours_[key], others[key].view(ours_[key].dtype)  # numpy stores bfloat16 as integers
    if b.dtype.kind in "iu":
        np.testing.assert_array_equal(a, b, key)
        return
    near = max(64 * float(np.finfo(compute).eps), 4 * float(ml_dtypes.finfo(b.dtype).eps), 0.02 * coded)
    a, b = a.astype(float), b.astype(float)
    np.testing.assert_allclose(a, b, rtol=near, atol=near * np.abs(b).max(initial=0))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", RULES)
def test_the_generated_kernel_steps_as_numpy_does_bit_for_bit(
    name: str, storage: str, interpreted: list[Program]
) -> None:
    """But for powers, of which devices have no exact ones, and sums: what follows from them is near."""
    dtype, options = STORAGES[storage]
    mine, expected = stepped(name, dtype, {**options, **OPTIONS.get(name, {})})
    assert interpreted
    assert all(len(others) > 1 for others in expected[:-1]) or not get(name)().all_slots(), (
        "without memory little shows"
    )
    assert_as_numpy(mine, expected, dtype, interpreted)


#: With all structural options the other way round, those that kernels step then, too.
TURNED = {
    name: options for name in RULES if (options := turned_options(get(name).__name__)) and has_kernel(name, options)
}


@pytest.mark.parametrize("name", TURNED)
def test_the_kernel_of_other_options_steps_as_numpy_does(name: str, interpreted: list[Program]) -> None:
    mine, expected = stepped(name, torch.float32, {**OPTIONS.get(name, {}), **TURNED[name]})
    assert interpreted
    assert_as_numpy(mine, expected, torch.float32, interpreted, moved=True)


def assert_as_numpy(
    mine: list[Arrays], expected: list[Arrays], dtype: torch.dtype, launched: list[Program], moved: bool = False
) -> None:
    """The same bits, but near in what sums are in, and in parameters that powers are in; in all memory, too, where it
    follows from parameters that have `moved`.
    """
    nodes = [node for program in launched for node in program.nodes]
    powers = any(n.op == "power" for n in nodes)
    near = {"p", "rounding_error"} if powers else set()
    if everywhere := any(n.reduces for n in nodes) or (powers and moved):
        near = set().union(*expected)
    compute = "float64" if dtype is torch.float64 else "float32"
    for ours_, others in zip(mine, expected, strict=True):
        for key in others.keys() - near:
            np.testing.assert_array_equal(bits(ours_[key]), bits(others[key]), key)
        if everywhere:
            for key in others.keys() - {"rounding_error"}:
                assert_near(key, ours_, others, compute)
            continue
        if "p" not in others:
            continue
        p, q = ours_["p"].astype(float), others["p"].astype(float)
        np.testing.assert_allclose(p, q, rtol=4 * float(ml_dtypes.finfo(others["p"].dtype).eps), atol=1e-9)


def test_a_compiler_for_cards_takes_the_text_and_rounds_to_nearest(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.adapters.triton_compile"]
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert len(lines) > 1
    assert [line for line in lines if not line.endswith(" []")] == []

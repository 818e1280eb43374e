"""What a rule file may say: literals in `coefficients` only, names of the ops, no framework, no loop; and how much.

`record` refuses a literal that meets an array while a formula runs; here the text itself is read, so that a branch
which no test has taken is covered too.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import scirs2_adapters
from scirs2_adapters.core import Rule, Wrapper
from scirs2_adapters.core.ops import FORMULA_NAMES
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf
from tests.boundaries.test_sizes import code_lines

from .options import brisk, turned

each_rule = pytest.mark.parametrize("name", scirs2_adapters.names())
FRAMEWORKS = {"torch", "jax", "optax", "keras", "tensorflow", "sklearn", "transformers", "numba", "numpy"}
#: A formula is one array's, element by element, or it needs whole tensors, other rules, or other shapes.
ELEMENTWISE, OTHER = 15, 40


def tree(name: str) -> ast.Module:
    """The file of a rule."""
    return ast.parse(file(name).read_text())


def file(name: str) -> Path:
    """Where a rule is said."""
    return Path(inspect.getfile(scirs2_adapters.get(name)))


def formulas(name: str) -> list[ast.FunctionDef]:
    """The functions of the file that see arrays."""
    return [f for f in ast.walk(tree(name)) if isinstance(f, ast.FunctionDef) and f.name in ("update", "wrap")]


def elementwise(rule: type[Rule]) -> bool:
    """Whether every variant of the rule is one pass over arrays like the parameter."""
    if issubclass(rule, Wrapper):
        return False
    variants = [rule(), rule(**brisk(rule)), rule(**turned(rule))]
    leaves = [Leaf((4, 3)), Leaf((4,)), Leaf(())]
    routed = any(rule.route(leaf) is not rule for rule in variants for leaf in leaves)
    return not routed and all(record(rule, leaf).levels == 0 for rule in variants for leaf in leaves)


@each_rule
def test_a_formula_holds_no_literal(name: str) -> None:
    """An axis of a reduction is no number of the arithmetic."""
    for formula in formulas(name):
        calls = [c for c in ast.walk(formula) if isinstance(c, ast.Call)]
        axes = {node for call in calls for arg in call.args[1:] for node in ast.walk(arg)}
        used = [node for node in ast.walk(formula) if isinstance(node, ast.Constant) and node not in axes]
        annotations = {n for arg in formula.args.posonlyargs if arg.annotation for n in ast.walk(arg.annotation)}
        assert [ast.unparse(n) for n in used if n.value is not None and n not in annotations] == []


@each_rule
def test_a_formula_uses_the_listed_operations_only(name: str) -> None:
    for formula in formulas(name):
        ops = [n for n in ast.walk(formula) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "xp"]
        assert {n.attr for n in ops} <= set(FORMULA_NAMES)


@each_rule
def test_a_rule_is_written_for_one_array(name: str) -> None:
    for formula in formulas(name):
        assert not [n for n in ast.walk(formula) if isinstance(n, ast.For | ast.While | ast.comprehension)]


@each_rule
def test_a_rule_names_no_framework_and_no_dtype(name: str) -> None:
    modules = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add((node.module or "").split(".")[0])
    assert not modules & FRAMEWORKS
    words = {n.attr for n in ast.walk(tree(name)) if isinstance(n, ast.Attribute)}
    assert not words & {"astype", "float32", "float64", "bfloat16", "float16"}


def body_lines(name: str) -> int:
    """Lines of code without imports: neither blank, nor comment, nor docstring."""
    text = file(name).read_text()
    imports = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import | ast.ImportFrom)]
    return len(code_lines(text) - {line for n in imports for line in range(n.lineno, (n.end_lineno or n.lineno) + 1)})


@each_rule
def test_a_rule_is_short(name: str) -> None:
    limit = ELEMENTWISE if elementwise(scirs2_adapters.get(name)) else OTHER
    too_long = f"{name}.py has {body_lines(name)} lines of code, more than {limit}: see docs/adding-an-optimizer.md"
    assert body_lines(name) <= limit, too_long

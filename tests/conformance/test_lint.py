"""What a rule file may say: literals in `coefficients` only, names of the ops, no framework, no loop; and how much.

`record` refuses a literal that meets an array while a formula runs; here the text itself is read, so that a branch
which no test has taken is covered too.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import scirs2_adapters
from scirs2_adapters.core import Rule, Wrapper
from scirs2_adapters.core.hyperparameters import MODES
from scirs2_adapters.core.ops import FORMULA_NAMES
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.registry import with_value
from scirs2_adapters.core.slots import Leaf
from tests.boundaries.test_sizes import code_lines
from tests.reference import reference

from .options import brisk, turned

each_rule = pytest.mark.parametrize("name", [*scirs2_adapters.names(), *with_value()])
FRAMEWORKS = {"torch", "jax", "optax", "keras", "tensorflow", "sklearn", "transformers", "numba", "numpy"}
#: A formula is one array's, element by element, or it needs whole tensors, other rules, or other shapes.
ELEMENTWISE, OTHER = 15, 40
WRAPS = ("wrap_gradient", "wrap_step", "wrap_update", "wrap")


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


def is_table(node: ast.stmt) -> bool:
    """Whether a line of a class is data alone, such as `matches` and `optax_state`, and no field nor formula."""
    holds = any(isinstance(n, ast.Dict) or (isinstance(n, ast.Name) and n.id == "OptaxState") for n in ast.walk(node))
    return isinstance(node, ast.Assign) and holds


def uncounted(module: ast.Module) -> list[ast.stmt]:
    """Imports, and the tables of classes."""
    imports = [n for n in ast.walk(module) if isinstance(n, ast.Import | ast.ImportFrom)]
    classes = [n for n in module.body if isinstance(n, ast.ClassDef)]
    return [*imports, *filter(is_table, (line for cls in classes for line in cls.body))]


def body_lines(name: str) -> int:
    """Lines of code that are fields, coefficients and formula: without imports, tables, comments and docstrings."""
    text = file(name).read_text()
    spans = [range(n.lineno, (n.end_lineno or n.lineno) + 1) for n in uncounted(ast.parse(text))]
    return len(code_lines(text) - {line for span in spans for line in span})


@each_rule
def test_a_rule_is_short(name: str) -> None:
    limit = ELEMENTWISE if elementwise(scirs2_adapters.get(name)) else OTHER
    assert body_lines(name) <= limit, (
        f"{name}.py has {body_lines(name)} lines of fields, coefficients and formula, more than {limit}; imports, "
        "docstrings, comments, `matches`, `optax_state` and other tables do not count: see docs/adding-an-optimizer.md"
    )


@each_rule
def test_a_rule_names_its_paper_and_how_it_differs(name: str) -> None:
    text = inspect.cleandoc(scirs2_adapters.get(name).text or "")
    missing = [line for line in ("Paper:", "Differs from the paper:") if f"\n{line}" not in text]
    assert missing == [], f"the docstring of {name}.py needs a line that begins with {' and one with '.join(missing)}"


@each_rule
def test_the_twin_takes_the_fields_of_the_rule_and_nothing_else(name: str) -> None:
    """A twin without a step of its own, such as that of a wrapper, hands on what it is given."""
    step = getattr(importlib.import_module(reference(name).__module__), "step", None)
    parameters = inspect.signature(step).parameters.values() if step else ()
    taken = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"matrix_dtype", "values"}
    fields = set(scirs2_adapters.get(name).fields) - {"maximize", *MODES}
    handed_on = not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters)
    left_out = set() if handed_on else fields - taken
    assert not taken - fields | left_out, (
        f"tests/reference/{name}.py: `step` must take the fields of the rule but maximize and modes, and nothing else. "
        f"No fields are {sorted(taken - fields)}; left out are {sorted(left_out)}."
    )


def stated(name: str) -> set[str]:
    """The coefficients that the file of a rule writes down: string keys in what returns them."""
    methods = [f for f in ast.walk(tree(name)) if isinstance(f, ast.FunctionDef) and f.name.endswith("coefficients")]
    nodes = [node for method in methods for node in ast.walk(method)]
    returned = [n for node in nodes if isinstance(node, ast.Return) for n in ast.walk(node)]
    keys = [key for node in returned if isinstance(node, ast.Dict) for key in node.keys]
    keys += [node.slice for node in nodes if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)]
    return {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}


@each_rule
def test_every_coefficient_is_used(name: str) -> None:
    """What no formula takes is a misspelled name or a remainder. A shared function may return more than is taken, and a
    number may stand for a field that is None.
    """
    rule = scirs2_adapters.get(name)
    formulas = [f for f in ("update", "evaluation", *WRAPS) if getattr(rule, f, None)]
    used = {coefficient for formula in formulas for coefficient in rule.roles(formula)[1]}
    unused = sorted(stated(name) - used - rule.fields.keys())
    assert not unused, f"no formula of {name}.py takes the coefficients {unused}: take them after the `/`, or drop them"

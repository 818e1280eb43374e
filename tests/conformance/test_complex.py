"""A formula for real numbers is one for complex numbers where squares, absolute values and signs are those of moduli: a
factor of modulus 1 in parameters and gradients must then be one in steps. What a product turns by is read from the
recorded formula, so that it is said which product is wrong.
"""

from __future__ import annotations

import pytest

import scirs2_adapters
from scirs2_adapters.core import Rule
from scirs2_adapters.core.hyperparameters import MODES
from scirs2_adapters.core.match import CONVENTIONS
from scirs2_adapters.core.program.node import Node, expression
from scirs2_adapters.core.program.recorded import Program, record
from scirs2_adapters.core.registry import with_value
from scirs2_adapters.core.slots import Leaf

from .options import other

LEAF = Leaf((3, 2), complex=True)
#: Numbers that turn with anything: 0, and what has been computed from it alone.
ANY = None
Turns = int | None


def of_moduli(name: str) -> list[Rule]:
    """The rule under each match that takes moduli."""
    cls = scirs2_adapters.get(name)
    matches = (None, *getattr(cls, "matches", ()))
    made = [cls(match=match) for match in matches]
    return [rule for rule in made if rule.moduli]


def added(name: str, program: Program, index: int, turns: list[Turns]) -> Turns:
    """How often the factor is in a sum, the terms of which must have it equally often."""
    factors = {turns[a] for a in program.nodes[index].args[-2:]} - {ANY}
    text = expression(program.nodes, index, {})[0]
    assert len(factors) <= 1, (
        f"`{name}`: in `{text}` one term turns with complex numbers and the other does not. A square is `g * g`, in "
        "parentheses inside a longer product: `a * (g * g)`"
    )
    return next(iter(factors), ANY)


def turns_of(name: str, program: Program) -> list[Turns]:
    """How many times the factor is in each value."""
    turns: list[Turns] = []
    for i, node in enumerate(program.nodes):
        turns.append(_turns(name, program, i, node, turns))
    return turns


def _turns(name: str, program: Program, i: int, node: Node, turns: list[Turns]) -> Turns:
    args = [turns[a] for a in node.args]
    match node.op:
        case "input":
            return 0 if node.name in program.moduli or node.extent <= 1 else 1
        case "scalar":
            return ANY if node.name == "zero" else 0
        case "square" | "matrix":
            return 0 if node.op == "square" else args[0]
        case "mul" | "div":
            first, second = (a or 0 for a in args)
            return ANY if ANY in args and node.op == "mul" else first + (second if node.op == "mul" else -second)
        case "add" | "sub" | "where":
            return added(name, program, i, turns)
        case "neg" | "sum" | "mean" | "total":
            return args[0]
    text = expression(program.nodes, i, {})[0]
    assert set(args) <= {0, ANY}, f"`{name}`: in `{text}` complex numbers are compared, or have their root taken"
    return 0


CASES = [(name, rule) for name in (*scirs2_adapters.names(), *with_value()) for rule in of_moduli(name)]


@pytest.mark.parametrize("turned", [False, True], ids=["defaults", "structure turned"])
@pytest.mark.parametrize(("name", "rule"), CASES, ids=[f"{n}-{r.match}" for n, r in CASES])
def test_steps_and_memory_turn_with_complex_numbers(name: str, rule: Rule, turned: bool) -> None:
    variant = {k: other(f) for k, f in rule.fields.items() if f.structural and k not in MODES} if turned else {}
    program = record(rule.replace(**variant).route(LEAF), LEAF)
    turns = turns_of(name, program)
    for output, index in program.outputs.items():
        held = 0 if output in program.moduli else 1
        model = program.nodes[index].extent <= 1
        assert turns[index] in (ANY, 0 if model else held), f"{output} of {name} does not turn with its gradient"


def test_a_row_of_a_framework_of_moduli_is_such_a_rule() -> None:
    rules = map(scirs2_adapters.get, (*scirs2_adapters.names(), *with_value()))
    rules = [rule for rule in rules if getattr(rule, "moduli", True) is not None]  # None refuses complex numbers
    rows = [(rule.name, match, *row) for rule in rules for match, row in rule.matches.items()]
    alike = {name for name, match, *row in rows if CONVENTIONS[match].get("moduli") and "moduli" not in row}
    assert alike
    assert alike <= {name for name, _ in CASES}

"""The operations of a recorded formula, and how they are read: as lines such as
`exp_avg = exp_avg + one_minus_beta1 * (g - exp_avg)`.

A value that is used twice has a separate line and a name. A line that gives a slot its new value stands after those
that read the old one; where that is impossible, the new value is called `new_exp_avg` until the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..slots import Extent

#: Infix operators, and how strongly they bind.
_INFIX = {"add": ("+", 2), "sub": ("-", 2), "mul": ("*", 3), "div": ("/", 3)}
_INFIX |= {"gt": (">", 1), "ge": (">=", 1), "lt": ("<", 1), "le": ("<=", 1)}
_ATOM = 9
#: The axis of a reduction, or a function of matrices with its options.
Static = Any


@dataclass(frozen=True)
class Node:
    """One operation: its arguments are indices of earlier nodes; `static` is an axis or a matrix function with its
    options.
    """

    op: str
    args: tuple[int, ...]
    extent: Extent
    level: int
    name: str = ""
    static: Static = None

    @property
    def reduces(self) -> bool:
        """Whether a pass over whole tensors ends here."""
        return self.op in ("sum", "mean", "total", "matrix")


def lines(nodes: Sequence[Node], outputs: Mapping[str, int], needed: Sequence[int]) -> list[str]:
    """The assignments that compute these outputs; `needed` are the nodes that they depend on, in order."""
    uses = Counter(arg for i in needed for arg in nodes[i].args)
    names = {i: nodes[i].name for i in needed if nodes[i].op in ("input", "scalar")}
    targets: dict[int, list[str]] = {}
    for name, i in outputs.items():
        targets.setdefault(i, []).append(name)
    written, at_end, done = list[str](), list[str](), set(names)
    for i in needed:
        if i in names or (uses[i] < 2 and i not in targets):
            continue
        text, _ = expression(nodes, i, names)
        done |= _inlined(nodes, i, names)
        read_later = {nodes[arg].name for k in needed if k not in done for arg in nodes[k].args}
        free = [name for name in targets.get(i, ()) if name not in read_later]
        names[i] = free[0] if free else f"new_{targets[i][0]}" if i in targets else f"x{i}"
        written.append(f"{names[i]} = {text}")
        at_end += [f"{name} = {names[i]}" for name in targets.get(i, ()) if name != names[i]]
    inputs = [(name, nodes[i].name) for name, i in outputs.items() if not nodes[i].args]
    return [*written, *at_end, *(f"{name} = {source}" for name, source in inputs if name != source)]


def _inlined(nodes: Sequence[Node], index: int, names: Mapping[int, str]) -> set[int]:
    """The nodes that are written out in the line of this one."""
    inside, waiting = {index}, list(nodes[index].args)
    while waiting:
        i = waiting.pop()
        if i not in names and i not in inside:
            inside.add(i)
            waiting += nodes[i].args
    return inside


def expression(nodes: Sequence[Node], index: int, names: Mapping[int, str]) -> tuple[str, int]:
    """The text of a node, with the names of those that have one, and how strongly it binds."""
    node = nodes[index]
    args = [(names[a], _ATOM) if a in names else expression(nodes, a, names) for a in node.args]
    if node.op in _INFIX:
        sign, strength = _INFIX[node.op]
        (left, a), (right, b) = args
        left, right = left if a >= strength else f"({left})", right if b > strength else f"({right})"
        return f"{left} {sign} {right}", strength
    if node.op == "neg":
        text, strength = args[0]
        return f"-{text}" if strength == _ATOM else f"-({text})", _ATOM - 1
    if not args:
        return node.name, _ATOM
    listed = [text for text, _ in args]
    if node.op == "matrix":
        function, options = node.static
        listed.insert(0, f"{function.__module__}.{function.__qualname__}")
        listed += [f"{k}={value!r}" for k, value in options]
    elif node.static is not None:
        listed.append(str(node.static))
    return f"{node.op}({', '.join(listed)})", _ATOM

"""What one adapter says of itself, as a line of JSON: run by generate.py in a process for each adapter.

Classes and functions that the adapter makes from rules get stubs from their real signatures. Whatever stands in its
files as a plain `def` or `class` is re-exported, since type checkers read that better than any stub.
"""

import ast
import dataclasses
import inspect
import json
import sys
import textwrap
import types
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from catalogue_facts import cuda, refusals_of
from stubs import HEAD, NAMES, public, quoted

from scirs2_adapters.core import Rule, get
from scirs2_adapters.core.argument_names import ArgumentNames
from scirs2_adapters.core.document import shown

ROOT = Path(__file__).resolve().parents[1]
#: Where frameworks show their classes; elsewhere the same class has a longer and private path.
SHOWN_IN = (
    "torch.optim",
    "torch.optim.optimizer",
    "keras.optimizers",
    "optax",
    "sklearn.neural_network",
    "sklearn.base",
)

#: Types of the arguments that every adapter adds to a rule's.
OPTIONS = {
    "base": "str | Rule",
    "kernel": "str",
    "match": "str | None",
    "state_dtype": "str | Mapping[str, str] | None",
}
#: What a host lets a learning rate be besides a number, how it types parameters, and what its factories return.
HOSTS = {
    "tf": {"learning_rate": "float | keras.optimizers.schedules.LearningRateSchedule | Callable[[], Any]"},
    "torch": {"lr": "float | torch.Tensor", "params": "torch.optim.optimizer.ParamsT"},
    "jax": {"return": "optax.GradientTransformationExtraArgs", "state_dtype": "Any"},
}


class Stub:
    """The text of one adapter's stub, and the imports it comes to need."""

    def __init__(self, adapter: str) -> None:
        self.types = OPTIONS | HOSTS.get(adapter, {})
        self.name = f"scirs2_adapters.adapters.{adapter}"
        self.adapter = import_module(self.name)
        self.modules: set[str] = set()
        self.words: dict[str, set[str]] = {}

    def text(self) -> str:
        body, seen = [], dict[int, str]()
        for name in self.adapter.__all__:
            made = getattr(self.adapter, name)
            first = seen.setdefault(id(made), name)
            body.append(f"{name} = {first}\n" if first != name else self.entry(name, made))
        return "\n".join([HEAD, *self.imports(), "", public(self.adapter.__all__), *filter(None, body)]).rstrip() + "\n"

    def imports(self) -> list[str]:
        """The import lines as the linter sorts them: standard library, frameworks, the package, this adapter."""
        lines = [(m, f"import {m}") for m in sorted(self.modules)]
        for module, names in sorted(self.words.items()):
            plain = sorted((name for name in names if " as " not in name), key=case)
            made = [(name, f"from {module} import {name}") for name in names - set(plain)]
            made += [(plain[0], folded(f"from {module} import ", plain))] if plain else []
            lines += [(module, line) for _, line in sorted(made, key=lambda entry: case(entry[0]))]
        sections: list[list[str]] = [[], [], [], []]
        for module, line in lines:
            root = module.split(".")[0]
            place = 3 if not root else 2 if root == "scirs2_adapters" else 0 if root in sys.stdlib_module_names else 1
            sections[place].append(line)
        return "\n\n".join("\n".join(part) for part in sections if part).splitlines()

    def entry(self, name: str, made: Any) -> str:
        node = written(made)
        if inspect.isclass(made) and issubclass(made, Rule):
            self.words.setdefault("scirs2_adapters.core", set()).add(name)
            return ""
        if isinstance(node, ast.FunctionDef) or (isinstance(node, ast.ClassDef) and constructor_written(made)):
            self.words.setdefault(self.home(made), set()).add(name)
            return ""
        if inspect.isclass(made):
            body = textwrap.indent(f"def __init__{self.signature(made, 'self')} -> None: ...", "    ")
            return f"class {name}({self.base(made)}):\n{body}\n"
        returns = self.types.get("return", inspect.signature(made).return_annotation)
        return f"def {name}{self.signature(made)} -> {self.annotation(returns, made)}: ..."

    def home(self, made: Any) -> str:
        """The module that an object is written in, as the stub imports it."""
        return source_module(made).replace(self.name + ".", ".")

    def base(self, made: type) -> str:
        """What the stub's class is made from: a class as it is written in the adapter, else the framework's."""
        for c in made.__mro__:
            if written(c) is not None:
                self.words.setdefault(self.home(c), set()).add(f"{c.__name__} as _{c.__name__.lstrip('_')}")
                return f"_{c.__name__.lstrip('_')}"
            if not c.__module__.startswith("scirs2_adapters"):
                return self.public_path(c)
        return "object"

    def signature(self, made: Any, *first: str) -> str:
        """The parameters, each on a line of its own."""
        lines, star = list(first), False
        for p in inspect.signature(made).parameters.values():
            if p.kind is p.KEYWORD_ONLY and not star:
                lines.append("*")
            star = star or p.kind in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)
            prefix = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
            default = "" if p.default is p.empty else f" = {literal(p.default)}"
            lines.append(f"{prefix}{p.name}: {self.type_of(p, made)}{default}")
        return "(\n" + "".join(f"    {line},\n" for line in lines) + ")"

    def type_of(self, parameter: inspect.Parameter, made: Any) -> str:
        """A parameter's type: by its name, as annotated, or that of its default."""
        if parameter.name in self.types:
            return self.annotation(self.types[parameter.name], made)
        if parameter.annotation is parameter.empty and isinstance(parameter.default, (bool, int, float)):
            return type(parameter.default).__name__
        hint = self.annotation(parameter.annotation, made)
        if isinstance(parameter.default, tuple) and None in parameter.default:
            return "tuple[float | None, ...]"
        if isinstance(parameter.default, tuple) and str in map(type, parameter.default):
            return f"tuple[{', '.join(type(x).__name__ for x in parameter.default)}]"
        return f"{hint} | None" if parameter.default is None and hint != "Any" and "None" not in hint else hint

    def annotation(self, hint: Any, made: Any) -> str:
        """A type as text, with its imports noted; a type that cannot be named is Any."""
        if hint is inspect.Parameter.empty:
            hint = "Any"
        if not isinstance(hint, str):
            return self.public_path(hint)
        scope = {
            **vars(import_module("typing")),
            **vars(import_module("collections.abc")),
            **self.scope(made),
        }
        names = {n.id for n in ast.walk(ast.parse(hint, mode="eval")) if isinstance(n, ast.Name)}
        for name in names - set(vars(import_module("builtins"))):
            if name not in scope:
                return self.public_path(Any)
            self.note(name, scope[name])
        return quoted(hint)

    def scope(self, made: Any) -> dict[str, Any]:
        """What a name in an annotation may stand for: in the object's own module, the core's rules, frameworks."""
        return {"Rule": Rule, **sys.modules, **vars(sys.modules.get(source_module(made), self.adapter))}

    def note(self, name: str, value: Any) -> None:
        """Remember the import behind a name in an annotation."""
        if isinstance(value, types.ModuleType):
            self.modules.add(value.__name__ if value.__name__ == name else f"{value.__name__} as {name}")
        else:
            home = getattr(value, "__module__", "typing")
            self.words.setdefault(home if name in vars(sys.modules.get(home, ast)) else "typing", set()).add(name)

    def public_path(self, value: Any) -> str:
        """The dotted name under which a framework shows a class or alias."""
        if value is None or getattr(value, "__module__", "") == "builtins":
            return "None" if value is None else value.__name__
        for module in SHOWN_IN if value is not Any else ():
            for name, member in vars(sys.modules.get(module, types.ModuleType(""))).items():
                if member is value and not name.startswith("_"):
                    self.modules.add(module)
                    return f"{module}.{name}"
        self.words.setdefault("typing", set()).add("Any")
        return "Any"


def case(name: str) -> tuple[int, str, str]:
    """Where the linter sorts a name: constants, classes, functions."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name.lower(), name)


def folded(head: str, names: list[str]) -> str:
    """An import line, over several lines if it is too long for one."""
    line = head + ", ".join(names)
    return line if len(line) <= 120 else f"{head}(\n" + "".join(f"    {name},\n" for name in names) + ")"


def source_module(made: Any) -> str:
    """The module of the file that an object is written in. `__module__` names the public one where pickles need it."""
    name = str(getattr(made, "__module__", ""))
    if name.count(".") == 1 and inspect.isclass(made):
        for module in [m for n, m in sys.modules.items() if n.startswith(f"{name.replace('.', '.adapters.')}.")]:
            source = vars(module).get("__file__") and vars(module).get(made.__name__) is made
            if source and f"\nclass {made.__name__}(" in Path(str(module.__file__)).read_text():
                return module.__name__
    return name


def written(made: Any) -> ast.ClassDef | ast.FunctionDef | None:
    """The statement that makes this object in its adapter's files; None if it was made at run time."""
    module = sys.modules.get(source_module(made), None)
    if module is None or not module.__name__.startswith("scirs2_adapters.adapters."):
        return None
    tree = ast.parse(Path(str(module.__file__)).read_text())
    kinds = (ast.ClassDef, ast.FunctionDef)
    return next((n for n in tree.body if isinstance(n, kinds) and n.name == getattr(made, "__name__", "")), None)


def constructor_written(made: type) -> bool:
    """Whether the class takes its constructor from a `def` in the adapter's files, or from a dataclass's fields."""
    owner = next(c for c in made.__mro__ if "__init__" in vars(c))
    body = getattr(written(owner), "body", ())
    return dataclasses.is_dataclass(owner) or any(isinstance(n, ast.FunctionDef) and n.name == "__init__" for n in body)


def literal(value: Any) -> str:
    """A default as text; one that has no literal is left out, as stubs allow."""
    plain = (bool, int, float, str, tuple, type(None))
    return quoted(shown(value)) if isinstance(value, plain) else "..."


def spelling(adapter: str) -> Iterator[tuple[str, dict[str, str]]]:
    """For each rule, the adapter's word for each field."""
    members = vars(import_module(f"scirs2_adapters.adapters.{adapter}.argument_names"))
    usual = next((value for value in members.values() if isinstance(value, ArgumentNames)), ArgumentNames())
    for name in NAMES:
        rule = get(name)
        argument_names = members["argument_names"](rule) if "argument_names" in members else usual
        turned = getattr(argument_names, "turned", ())  # words whose values have the other sign there
        yield name, {core: "-" * (core in turned) + argument_names.spell(core, rule.fields) for core in rule.fields}


if __name__ == "__main__":
    facts = {"stub": Stub(sys.argv[1]).text(), "spelling": dict(spelling(sys.argv[1]))}
    print(json.dumps(facts | {"refusals": refusals_of(sys.argv[1]), "cuda": cuda() if sys.argv[1] == "torch" else {}}))

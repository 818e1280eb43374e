"""The declaration of an optimizer: fields, coefficients, formula. Everything else in this package is derived from it.

A rule says what differs between optimizers: `update` returns the step `u` to subtract and the new slots. L2 and
decoupled weight decay and `maximize` are applied here, decay as `p - (lr*wd*p + u)`: one subtraction from p. The usual
form, p times `1 - lr*wd`, rounds the factor to the precision of p and drifts by 18 times what float32 costs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar, Literal

from .argument_names import Spell, Values
from .declaration import VALUE, Roles, check_class, numbers_of, roles_of
from .document import document, numpy_example
from .errors import bad_type
from .fields import Field, flag, nonnegative, rate
from .formats import DITHER, dither
from .hyperparameters import MODES
from .match import OptaxState
from .matrix import Axes, Matrix
from .modes import Modes
from .ops import Array, Scalar, Scalars
from .program.explain import Explain
from .program.refusals import names_refused
from .slots import EPSILON, LAST, Extent, Leaf, Slot, each_of, without_blocks


class Rule(Modes):
    """Base of all optimizers. Subclasses are final: to vary one, change a field, add a `matches` row, or wrap it."""

    learning_rate = rate(1e-3)
    weight_decay = nonnegative(0.0, "weight decay")
    maximize = flag(False, "ascend instead of descend")

    #: The docstring as its author wrote it, before the arguments are put in.
    text: ClassVar[str | None]
    #: Arguments besides the fields, explained in `document.OPTIONS`.
    options: ClassVar[tuple[str, ...]] = ("match",)
    #: Traits: constants of a formula that `class Name(Rule, trait=...)` or a row of `matches` sets, with their values.
    #: Where weight decay acts: "l2" into the gradient, "decoupled" times the learning rate, "absolute" not, "before" as
    #: "decoupled" but on the parameter that `update` sees, which matters to one that measures it, "inside" `update`.
    decay: Literal["decoupled", "l2", "absolute", "before", "inside"] = "decoupled"
    #: What `coefficients` needs to know of time: "step", "first" (only whether it is the first step) or "none".
    time_dependence: Literal["step", "first", "none"] = "step"
    #: Where eps is added: "outside" the root, "inside" it, or "hat", outside the root of an uncorrected moment.
    eps_place: Literal["outside", "inside", "hat"] = "outside"
    #: Whether a momentum buffer holds steps already multiplied by the learning rate.
    lr_in_buffer: Literal[True, False] = False
    #: Whether each step is taken one step late, as optax's Rprop does.
    late: Literal[True, False] = False
    #: Whether AMSGrad takes the largest corrected moment instead of the largest raw one.
    max_corrected: Literal[True, False] = False
    #: Whether square, absolute value and sign of a complex number are its modulus's or its parts'; None: it takes none.
    moduli: Literal[True, False, None] = False
    #: The field that says how large first steps are, of a rule that learns from where they have led.
    first_step: str = ""
    #: How it takes a gradient that has only some rows: "exact", as if the others were zeros; "rows", where it
    #: steps those rows alone and takes no other gradient; None not at all. Only elementwise formulas take any.
    sparse: Literal["exact", "rows", None] = None
    by_output: Literal[True, False] = False  #: Whether it takes means over the inputs of each output that `view` has.
    numbered: Literal[True, False] = False  #: Whether `leaf_coefficients` is told the place of a parameter among all.
    #: Whether a step evaluates the model itself and so needs a closure: the rules in `closures/`.
    needs_closure: Literal[True, False] = False

    def __init_subclass__(cls, **traits: object) -> None:
        for trait, value in traits.items():
            setattr(cls, trait, value)
        super().__init_subclass__()
        check_class(cls, Rule, traits)
        cls.needs_value = hasattr(cls, "update") and VALUE in cls.roles()[1]
        cls.text = vars(cls).get("__doc__")
        if hasattr(cls, "update") or hasattr(cls, "default_base") or cls.needs_closure:
            cls.__doc__ = document(cls.text, cls.fields, numpy_example(cls), also=cls.options)

    #: Where optax has an optimizer of this name: the class of its state, if that is one class.
    optax_state: ClassVar[OptaxState | None] = None
    #: `rule.explain(leaf)`: the recorded formula, slots, passes over memory and coefficients, as text.
    explain = Explain()

    # -- what a rule states

    def coefficients(self, math: SimpleNamespace, t: Scalar) -> Scalars:
        """Scalars of step `t` (from 1), in float64 on the host; `math` has sqrt exp log expm1 maximum minimum where."""
        raise bad_type(type(self).__name__, "coefficients", "must be defined by the rule", None)

    #: The formula for one array: `update(self, xp, p, g, *slots, /, *coefficients)`.
    update: Callable[..., Array | tuple[Array, ...]]

    #: The parameter to evaluate, where that is not the one that is trained: `evaluation(self, xp, p, *slots, /,
    #: *coefficients)` with some of the slots of `update`. What it returns replaces p until training goes on.
    evaluation: ClassVar[Callable[..., Array] | None] = None

    def refuses(self, leaf: Leaf, spell: Spell = str) -> str | None:
        """The requirement that this parameter fails, or None: to be real, or to resolve the first steps."""
        if leaf.complex and self.moduli is None:
            return "must have real parameters" + (" under this `match`" if type(self).moduli is not None else "")
        first_step, least = getattr(self, self.first_step, None), EPSILON.get(leaf.dtype, 0.0) / 2**leaf.error_bits
        if leaf.dtype in ("float16", "bfloat16") and isinstance(first_step, (int, float)) and first_step < least:
            return (
                "must have float32 parameters, as master weights are, or rounding errors of int16 beside them, or "
                f"`{spell(self.first_step)}` of at least {least:g}, not {first_step!r}: first steps are of that size, "
                "and smaller ones would be lost to rounding"
            )
        return None

    # -- what it may state of one parameter apart from others: scalars, axes, another rule that steps it. A parameter
    # that has slots of one of the two rules stays with it under any name, so that a new name drops no state.

    def leaf_coefficients(self, leaf: Leaf) -> Scalars:
        """Scalars that depend on a parameter's shape or dtype; most rules have none."""
        return {}

    def leaf_key(self, leaf: Leaf) -> Hashable:
        """What of a parameter `leaf_coefficients` looks at: where it is equal, so are these."""
        return leaf

    def axes(self, leaf: Leaf) -> Axes:
        """The two axes, counted from the end, that rows and columns are of: `xp.mean(x, -1)` is over the second one."""
        return LAST

    def view(self, leaf: Leaf) -> Matrix | None:
        """Which axes `xp.matrix` takes for those of a matrix; None where they are the last two, and all there are."""
        return None

    def other(self) -> Rule:
        """The rule that steps what this one leaves."""
        return self

    def misfit(self, leaf: Leaf) -> str:
        """Why this rule cannot step the parameter, in a few words; empty if it can."""
        return ""

    def unwanted(self, leaf: Leaf) -> str:
        """Why this rule should not step the parameter, though it could; empty if it should."""
        return ""

    def doubts(self, leaves: Sequence[Leaf]) -> list[str]:
        """What may be wrong in how these parameters are stepped, with the way out."""
        return []

    # -- derived

    def rest(self) -> Rule:
        """The rule that steps what this one leaves, with the same modes."""
        kept = {k: getattr(self, k) for k in MODES if k != "peak_rate"}
        return self.corrected().other().replace_unchecked(kept)

    def _fill(self, values: Values, match: str | None, spell: Spell, call: str) -> None:
        super()._fill(values, match, spell, call)
        self.check_modes(spell, call)

    @classmethod
    @functools.cache
    def roles(cls, formula: str = "update") -> Roles:
        """What the signature of a formula says: slots stand after `self`, xp and the arrays that the core passes."""
        leading = {"wrap": 3, "evaluation": 3, "wrap_update": 5}.get(formula, 4)
        return roles_of(f"{cls.__name__}.{formula}", getattr(cls, formula), leading)

    @classmethod
    def needs(cls, formula: str) -> dict[str, str]:
        """The coefficients that a formula takes, and their names among all scalars."""
        return dict(zip(names := cls.roles(formula)[1], names, strict=True))

    def all_slots(self) -> tuple[Slot, ...]:
        """Every slot the rule may have, in the order of its formula."""
        return each_of(self, self.roles()[0])

    def slots(self, leaf: Leaf) -> tuple[Slot, ...]:
        """The slots this rule keeps for this parameter."""
        present = [s for s in self.all_slots() if not s.present_if or self._wants(s.present_if, leaf)]
        slots = (replace(s, block_dtype=None) if s.wide_if and self._wants(s.wide_if, leaf) else s for s in present)
        axes, view = self.axes(leaf), self.view(leaf)
        return without_blocks(tuple(s.along(axes, view) for s in slots), leaf.shape, view if self.by_output else None)

    def _wants(self, present_if: str, leaf: Leaf) -> bool:
        asked = getattr(self, present_if)
        return self.fields[present_if].present(asked) if present_if in self.fields else bool(asked(leaf))

    def scalars(self, math: SimpleNamespace, t: Scalar) -> dict[str, Scalar]:
        """All coefficients of step `t`: those of `coefficients`, the fields, and those of weight decay."""
        if self.peak_rate is not None:
            return self.corrected().scalars(math, t)
        fields = {k: getattr(self, k) for k in self.fields if k not in MODES}
        scalars = {"zero": 0.0, "one": 1.0, DITHER: dither(t), **fields, **numbers_of(self, self.coefficients, math, t)}
        if self.decay == "l2":
            scalars["l2"] = self.weight_decay
        elif self.decay != "inside":
            scalars["decay"] = self.weight_decay * (1.0 if self.decay == "absolute" else self.learning_rate)
        return scalars

    def apply(
        self, xp: Array, p: Array, g: Array, slots: Mapping[str, Array], scalars: Scalars, around: Sequence[Rule] = ()
    ) -> tuple[Array, dict[str, Array]]:
        """One step of one parameter, with the symbols of a recorder: the new parameter and the new slots. Of the
        wrappers `around` this rule the first one is the first to see the gradient and the last to see the step.
        """
        start, new, seen = p, dict[str, Array](), [-g if self.maximize else g]
        for wrapper in around:
            seen.append(wrapper._applied("wrap_gradient", xp, (seen[-1], p), slots, scalars, new))
        g = seen[-1]
        if self.decay == "l2":
            g = g + scalars["l2"] * p
        if self.decay == "before":
            p = p - scalars["decay"] * p
        u = self._applied("update", xp, (p, g), slots, scalars, new)
        u = self.masked(xp, u, g, scalars["zero"], scalars["one"])
        if self.decay in ("decoupled", "absolute"):
            u = scalars["decay"] * self.decaying(xp, p, u, scalars["zero"]) + u
        if self.decay == "before" and around:
            p, u = start, scalars["decay"] * start + u
        for wrapper, gradient in zip(around[::-1], seen[-2::-1], strict=True):
            u = wrapper._applied("wrap_step", xp, (u, p), slots, scalars, new)
            u = wrapper._applied("wrap_update", xp, (u, p, gradient), slots, scalars, new)
        p = p - u
        for wrapper in around[::-1]:
            p = wrapper._applied("wrap", xp, (p,), slots, scalars, new)
        return p, new

    def _applied(
        self, formula: str, xp: Array, arrays: tuple[Array, ...], slots: Mapping[str, Array], scalars: Scalars,
        new: dict[str, Array],
    ) -> Array:  # fmt: skip
        """The first of the arrays after this formula, if there is one; its new slots go into `new`."""
        if not hasattr(self, formula):
            return arrays[0]
        declared = self.roles(formula)[0]
        xp.formula = f"{type(self).__name__}.{formula}"
        coefficients = {n: scalars[key] for n, key in self.needs(formula).items()}
        memory = [tuple(slots[n] for n in s.names(self)) if s.count else slots.get(s.name) for s in declared]
        with names_refused(xp.formula, ("zero", "one", *self.fields)):
            result = getattr(self, formula)(xp, *arrays, *memory, **coefficients)
        first, *values = xp.returned(result, [s.name for s in declared])
        for s, x in zip(declared, values, strict=True):
            new |= {n: x for n, x in zip(s.names(self), x if s.count else (x,), strict=True) if n in slots}
        return first

    def evaluated(self, xp: Array, p: Array, slots: Mapping[str, Array], scalars: Scalars) -> Array:
        """The parameter to evaluate, by `evaluation`, in the operations and arrays of any framework."""
        assert self.evaluation is not None
        coefficients = {n: scalars[key] for n, key in self.needs("evaluation").items()}
        return self.evaluation(xp, p, *(slots[s.name] for s in self.roles("evaluation")[0]), **coefficients)

    def kernel_key(self) -> tuple[object, ...]:
        """What a compiled kernel depends on besides dtypes: the class, its traits, static values, which slots exist."""
        return (*self._structure(self.fields), getattr(self, "match", None))

    def _structure(self, fields: Mapping[str, Field]) -> tuple[object, ...]:
        values = [(f, getattr(self, k)) for k, f in fields.items() if f.static or f.structural]
        return (type(self), *[value if f.static else f.present(value) for f, value in values])

    def model_slots(self) -> tuple[Slot, ...]:
        """The slots that are one number for all parameters together."""
        return tuple([s for s in self.all_slots() if s.extent is Extent.MODEL])

    @property
    def routes(self) -> bool:
        """Whether another rule steps some parameters."""
        return type(self).other is not Rule.other

    @property
    def looks_at_names(self) -> bool:
        """Whether a parameter's name may matter: to which rule steps it, or to what matrix it is."""
        return self.routes or type(self).view is not Rule.view

    @property
    def per_parameter(self) -> bool:
        """Whether a parameter's shape, dtype or name matters to its scalars; if not, they are the same for all."""
        return self.routes or type(self).leaf_coefficients is not Rule.leaf_coefficients

    def route(self, leaf: Leaf) -> Rule:
        """The rule that steps this parameter, which is another one where this one does not fit (vectors under Muon)."""
        return self.rest() if self.routes and self.reason(leaf) else self

    def reason(self, leaf: Leaf) -> str:
        """Why the other rule steps this parameter; empty where this one does."""
        if why := self.misfit(leaf):
            return why
        why = self.unwanted(leaf)
        if leaf.held and self.routes:
            mine, others = ({s.name for s in rule.all_slots()} for rule in (self, self.other()))
            if leaf.held & (mine - others):
                return ""
            if leaf.held & (others - mine):
                return why or f"it has the memory of {name_of(self.other())}"
        return why


def innermost(rule: Rule) -> Rule:
    """The rule inside all wrappers."""
    return innermost(rule.base) if hasattr(rule, "base") else rule


def name_of(rule: Rule) -> str:
    """The name of a rule, or of the base of a wrapper."""
    return innermost(rule).name

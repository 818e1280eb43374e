"""What every rule can be asked for besides weight decay and direction: changes of step and decay without memory."""

from __future__ import annotations

from typing import Self

from .argument_names import Spell
from .errors import bad_value
from .fields import flag, positive
from .hyperparameters import Hyperparameters
from .ops import Array


class Modes(Hyperparameters):
    """Fields of every rule, and what they mean."""

    cautious = flag(False, "leave out what of a step goes against the gradient")
    cautious_decay = flag(False, "decay only where the step does not lead away from zero")
    peak_rate = positive(
        None, "the schedule's largest learning rate; weight decay is then times learning_rate / peak_rate"
    )
    decay: str
    #: Whether a step needs the loss: `update` takes the coefficient `value`.
    needs_value = False
    #: Whether this is no step but an estimate, which is not counted: a field of the rules that are given estimates.
    estimating = False

    def check_modes(self, spell: Spell, call: str) -> None:
        """Refuse cautious decay where weight decay is not a separate part of the step."""
        if self.cautious_decay and not self.estimating and self.decay not in ("decoupled", "absolute"):
            worded = f"must be False where weight decay does not act beside the step, as in {type(self).__name__}"
            raise bad_value(call, spell("cautious_decay"), worded, True)

    def corrected(self) -> Self:
        """The rule whose weight decay has the correction of `peak_rate` in it."""
        if self.peak_rate is None:
            return self
        decays = {k: getattr(self, k) for k, f in self.fields.items() if k.endswith("weight_decay") and f.kind is float}
        part = self.learning_rate / self.peak_rate  # type: ignore[attr-defined]  # every rule's
        changed = {k: part * value for k, value in decays.items() if value is not None}
        return self.replace_unchecked({**changed, "peak_rate": None})

    def masked(self, xp: Array, u: Array, g: Array, zero: Array, one: Array) -> Array:
        """The step that is taken. A cautious step of n elements leaves out the n - k that go against the gradient, and
        is multiplied by n / (k + 1).
        """
        if not self.cautious:
            return u
        left = xp.where(u * g <= zero, zero, u)  # and NaN stays
        agrees = xp.abs(xp.sign(xp.where(u * g > zero, u, zero)))  # in u's dtype, which a choice of numbers has not
        part, root = xp.mean(agrees), xp.norm(agrees)
        kept = root * root
        return left * (kept / (xp.where(part > zero, part, one) * (kept + one)))

    def decaying(self, xp: Array, p: Array, u: Array, zero: Array) -> Array:
        """The part of the parameter that decays."""
        return xp.where(u * p >= zero, p, zero) if self.cautious_decay else p

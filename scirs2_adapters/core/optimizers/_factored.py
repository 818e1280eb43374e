"""What Adafactor takes, over which two axes it factors, and its means."""

import math

from ..fields import count, flag, fraction, is_number, nonnegative, nonpositive, positive, rate
from ..formulas import ema
from ..ops import Array
from ..rule import Rule
from ..slots import EPSILON, LAST


class Factored(Rule):
    """Fields of a rule that keeps row and column means where a parameter is long enough both ways."""

    learning_rate = rate(1e-2)
    beta2_decay = nonpositive(-0.8, "exponent of the decay: the newest square has weight t^beta2_decay")
    eps1 = positive(None, "least root of the estimate; None is the machine epsilon of the parameter's dtype")
    eps2 = nonnegative(1e-3, "least root mean square taken for the parameter's scale")
    clip_threshold = positive(1.0, "largest root mean square of the unscaled step; infinity clips nothing")
    beta1 = fraction(0.0, "decay rate of a mean of steps; 0 keeps none", structural=True)
    factored = flag(True, "keep row and column means, not all squares")
    min_dim_size_to_factor = count(0, "least length of both axes for row and column means", static=True, least=0)
    decay_offset = nonnegative(0.0, "so many steps count as none for the decay: those before a fine-tuning")
    scale_parameter = flag(True, "multiply the step by the parameter's root mean square")
    relative_step = flag(True, "bound the learning rate by 1 / sqrt(t)", structural=False)
    warmup_init = flag(False, "bound it by 1e-6 * t too, the lesser until step 10,000", structural=False)
    #: Whether the two axes are the last ones, or the longest.
    last_axes = True

    @property
    def clips(self):
        """Whether steps have a largest size."""
        return not (is_number(self.clip_threshold) and self.clip_threshold == math.inf)

    def axes(self, leaf):
        return self._two(leaf) if self.by_rows(leaf) else LAST

    def _two(self, leaf):
        """The axes to factor over; of two of one length the last counts as longer, as in optax."""
        if self.last_axes:
            return LAST
        shorter, longer = sorted(range(-len(leaf.shape), 0), key=leaf.shape.__getitem__)[-2:]
        return shorter, longer

    def by_rows(self, leaf):
        if not self.factored or len(leaf.shape) < 2:
            return False
        return min(leaf.shape[axis] for axis in self._two(leaf)) >= self.min_dim_size_to_factor

    def whole(self, leaf):
        return not self.by_rows(leaf)

    def leaf_coefficients(self, leaf):
        return {"eps1": EPSILON[leaf.dtype] if self.eps1 is None else self.eps1}


def mixed(xp: Array, old: Array, new: Array, gain: Array, keep: Array, half: Array) -> Array:
    """The mean moved by `gain` towards `new`, from the one of the two that has the larger share, as torch's lerp does:
    near a weight of 1 it is nearly `new`, which may be less than a rounding of `old`.
    """
    return xp.where(gain > half, new - keep * (new - old), ema(old, new, gain))

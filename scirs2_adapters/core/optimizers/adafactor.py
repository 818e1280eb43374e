"""Adafactor."""

import math

from ..fields import count, flag, fraction, is_number, nonnegative, nonpositive, positive, rate
from ..formulas import average
from ..rule import Rule
from ..slots import EPSILON, LAST, column, row, slot


class Adafactor(Rule):
    """Adam without momentum whose second moments are kept as row and column means: n + m numbers for an n x m matrix.

    r = r + t^beta2_decay * (mean over columns of g * g - r)          (c likewise over rows; vectors keep v in full)
    v = r * c / max(mean of r, eps1)
    u = g / sqrt(max(v, eps1^2));   u = u / max(1, rms(u) / clip_threshold)
    u = min(lr, 1 / sqrt(t)) * max(eps2, rms(p)) * u                  (only the rate with scale_parameter=False)
    p = p - (lr * weight_decay * p + u)                                     (a running mean of u where beta1 is not 0)

    Tensors of more than two axes are batches of matrices over the last two. Where an axis is shorter than
    `min_dim_size_to_factor`, or with factored=False, all squares are kept.

    With match="optax" rows and columns are of the two largest axes, if both are of 128 or more; eps1 is added to g * g
    instead; the learning rate, 1 if not given, multiplies the step without a bound; and weight decay is not multiplied
    by it.

    Paper: Shazeer, Stern 2018, arXiv 1804.04235.
    Differs from the paper: the learning rate bounds the relative step, and eps1 bounds the estimate instead of being
    added to g * g, as in PyTorch.
    """

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
    #: Whether the learning rate is bounded by 1 / sqrt(t); whether eps1 bounds the root; whether the last axes count.
    rate_bounded, root_bounded, last_axes = True, True, True
    matches = {"torch": {}, "keras": {"learning_rate": 1e-3, "eps1": 1e-30, "decay": "before"}, "optax": {
        "learning_rate": 1.0, "eps1": 1e-30, "min_dim_size_to_factor": 128, "decay": "absolute", "rate_bounded": False,
        "root_bounded": False, "last_axes": False}}  # fmt: skip

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

    def coefficients(self, xp, t):
        step = xp.minimum(self.learning_rate, 1 / xp.sqrt(t)) if self.rate_bounded else self.learning_rate
        gain = xp.maximum(t - self.decay_offset, 1) ** self.beta2_decay
        return {"step": step, "gain": gain, "keep": 1 - gain, "half": 0.5, "gain1": 1 - self.beta1}

    def leaf_coefficients(self, leaf):
        return {"eps1": EPSILON[leaf.dtype] if self.eps1 is None else self.eps1}

    # A mean with a weight near 1 is nearly the newest square, which may be the smallest part of the old one: so `mixed`
    # starts from the larger share, as torch's lerp does.
    def update(self, xp, p, g, row_var: row("by_rows"), col_var: column("by_rows"), variance: slot("whole"),
               exp_avg: slot("beta1"), /, step, gain, keep, half, gain1, eps1, eps2, clip_threshold, one):  # fmt: skip
        def mixed(old, new):
            return xp.where(gain > half, new - keep * (new - old), average(old, new, gain))

        scale = step * xp.maximum(eps2, xp.sqrt(xp.mean(p * p))) if self.scale_parameter else step
        square = g * g if self.root_bounded else g * g + eps1
        if variance is None:
            row_var, col_var = mixed(row_var, xp.mean(square, -1)), mixed(col_var, xp.mean(square, -2))
            mean = xp.mean(row_var, -2)
            if self.root_bounded:
                root = xp.sqrt(row_var * col_var / xp.maximum(mean, eps1))
            else:  # in float32 the product of two least squares would be 0
                root = xp.sqrt(row_var / mean) * xp.sqrt(col_var)
        else:
            variance = mixed(variance, square)
            root = xp.sqrt(variance)
        u = g / (xp.maximum(root, eps1) if self.root_bounded else root)
        u = scale * (u / xp.maximum(one, xp.sqrt(xp.mean(u * u)) / clip_threshold))
        if exp_avg is not None:
            exp_avg = u = average(exp_avg, u, gain1)
        return u, row_var, col_var, variance, exp_avg

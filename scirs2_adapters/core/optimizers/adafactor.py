"""Adafactor."""

from ..formulas import ema
from ..slots import column, row, slot
from ._factored import Factored, mixed


class Adafactor(Factored):
    """Adam without momentum whose second moments are kept as row and column means: n + m numbers for an n x m matrix.

    r = r + t^beta2_decay * (mean over columns of g * g - r)          (c likewise over rows; vectors keep v in full)
    v = r * c / max(mean of r, eps1)
    u = g / sqrt(max(v, eps1^2));   u = u / max(1, rms(u) / clip_threshold)
    u = min(lr, 1 / sqrt(t)) * max(eps2, rms(p)) * u                  (only lr with relative_step=False, only the rate
                                                                      with scale_parameter=False)
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

    #: Whether relative_step=False changes anything; whether eps1 bounds the root, or is added to squares.
    absolute_too, root_bounded = True, True
    matches = {"torch": {}, "keras": {"learning_rate": 1e-3, "eps1": 1e-30, "decay": "before", "absolute_too": False},
        "optax": {
        "learning_rate": 1.0, "eps1": 1e-30, "min_dim_size_to_factor": 128, "decay": "absolute", "relative_step": False,
        "root_bounded": False, "last_axes": False}}  # fmt: skip

    def coefficients(self, math, t):
        relative = self.relative_step or not self.absolute_too
        step = math.minimum(self.learning_rate, 1 / math.sqrt(t)) if relative else self.learning_rate
        step = math.minimum(step, 1e-6 * t) if self.warmup_init else step
        gain = math.maximum(t - self.decay_offset, 1) ** self.beta2_decay
        return {"step": step, "gain": gain, "keep": 1 - gain, "half": 0.5, "one_minus_beta1": 1 - self.beta1}

    def update(self, xp, p, g, row_var: row("by_rows"), col_var: column("by_rows"),
               variance: slot("whole", block_dtype="uint8"), exp_avg: slot("beta1"), /,
               step, gain, keep, half, one_minus_beta1, eps1, eps2, clip_threshold, one):  # fmt: skip
        scale = step * xp.maximum(eps2, xp.sqrt(xp.mean(p * p))) if self.scale_parameter else step
        square = g * g if self.root_bounded else g * g + eps1
        if variance is None:
            row_var = mixed(xp, row_var, xp.mean(square, -1), gain, keep, half)
            col_var = mixed(xp, col_var, xp.mean(square, -2), gain, keep, half)
            mean = xp.mean(row_var, -2)
            if self.root_bounded:
                root = xp.sqrt(row_var * col_var / xp.maximum(mean, eps1))
            else:  # in float32 the product of two least squares would be 0
                root = xp.sqrt(row_var / mean) * xp.sqrt(col_var)
        else:
            variance = mixed(xp, variance, square, gain, keep, half)
            root = xp.sqrt(variance)
        u = g / (xp.maximum(root, eps1) if self.root_bounded else root)
        u = scale * (u / xp.maximum(one, xp.sqrt(xp.mean(u * u)) / clip_threshold))
        if exp_avg is not None:
            exp_avg = u = ema(exp_avg, u, one_minus_beta1)
        return u, row_var, col_var, variance, exp_avg

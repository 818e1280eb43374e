"""CAME."""

from ..fields import fraction, positive, rate
from ..formulas import ema
from ..ops import Array
from ..rule import Rule
from ..slots import column, row, slot


class CAME(Rule, time_dependence="none"):
    """Adafactor with momentum whose steps are shorter where they disagree with it; memory of one slot and a few means.

    r = r + (1 - beta2) * (mean over columns of g * g + eps1 - r)          (c likewise over rows)
    u = g / sqrt(r * c / mean of r);   u = u / max(1, rms(u) / clip_threshold)
    m = m + (1 - beta1) * (u - m)
    R = R + (1 - beta3) * (mean over columns of (u - m)^2 + eps2 - R)      (C likewise over rows)
    p = p - (lr * weight_decay * p + lr * m / sqrt(R * C / mean of R))

    Vectors and single numbers keep all squares, and their step is lr * m. Tensors of more than two axes are batches of
    matrices over the last two.

    Paper: Luo et al. 2023, arXiv 2307.02047.
    Differs from the paper: as its authors' code, where eps2 is 1e-16 and vectors have no confidence.
    """

    learning_rate = rate(2e-4)
    beta1 = fraction(0.9, "decay rate of the mean of steps")
    beta2 = fraction(0.999, "decay rate of the means of squared gradients")
    beta3 = fraction(0.9999, "decay rate of the means of squared distances of a step from the mean of steps")
    eps1 = positive(1e-30, "added to squared gradients")
    eps2 = positive(1e-16, "added to squared distances")
    clip_threshold = positive(1.0, "largest root mean square of the unscaled step; infinity clips nothing")

    def by_rows(self, leaf):
        return len(leaf.shape) > 1

    def whole(self, leaf):
        return not self.by_rows(leaf)

    def coefficients(self, math, t):
        return {f"gain{i}": 1 - beta for i, beta in enumerate((self.beta1, self.beta2, self.beta3), 1)}

    def update(self, xp, p, g, exp_avg, exp_avg_sq_row: row("by_rows"), exp_avg_sq_col: column("by_rows"),
               exp_avg_res_row: row("by_rows"), exp_avg_res_col: column("by_rows"),
               exp_avg_sq: slot("whole", block_dtype="uint8"), /,
               learning_rate, gain1, gain2, gain3, eps1, eps2, clip_threshold, one):  # fmt: skip
        square = g * g + eps1
        if exp_avg_sq is None:
            exp_avg_sq_row, exp_avg_sq_col, root = factors(xp, exp_avg_sq_row, exp_avg_sq_col, square, gain2)
        else:
            exp_avg_sq = ema(exp_avg_sq, square, gain2)
            root = xp.sqrt(exp_avg_sq)
        u = g / root
        u = u / xp.maximum(one, xp.sqrt(xp.mean(u * u)) / clip_threshold)
        step = exp_avg = ema(exp_avg, u, gain1)
        if exp_avg_sq is None:
            away = (u - exp_avg) * (u - exp_avg) + eps2
            exp_avg_res_row, exp_avg_res_col, root = factors(xp, exp_avg_res_row, exp_avg_res_col, away, gain3)
            step = exp_avg / root
        means = exp_avg_sq_row, exp_avg_sq_col, exp_avg_res_row, exp_avg_res_col
        return learning_rate * step, exp_avg, *means, exp_avg_sq


def factors(xp: Array, rows: Array, columns: Array, x: Array, gain: Array) -> tuple[Array, Array, Array]:
    """The means of rows and columns moved towards those of x, and the root of what they stand for."""
    rows, columns = ema(rows, xp.mean(x, -1), gain), ema(columns, xp.mean(x, -2), gain)
    return rows, columns, xp.sqrt(rows / xp.mean(rows, -2)) * xp.sqrt(columns)  # a product of both may be 0 in float32

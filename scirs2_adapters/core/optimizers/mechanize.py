"""Mechanic around any optimizer."""

from ..errors import bad_value
from ..fields import count, nonnegative, positive
from ..program.recorded import programs_of
from ..slots import COPY, model
from ..wrapper import Wrapper


class Mechanize(Wrapper, first_step="s_init"):
    """The base with a scale of its steps that is learned: Mechanic. Give the base the learning rate 1, or a schedule
    whose largest value is 1.

    d = (x0 - p) / (S + mechanic_eps)                        (the base's steps so far; x0 is the first parameter)
    h = <g + mechanic_decay * S * |g| / (|p| + mechanic_eps) * p, d>                        (over all parameters)
    for each of num_betas betas, 0.9, 0.99 and so on:
        r = beta * r + min(max(h, -m), m) * s;   m = max(beta * m, |h| + mechanic_eps);   v = beta^2 * v + h^2
        s = (s_init / num_betas * m + max(0, r)) / (sqrt(v) + mechanic_eps)
    S' = sum of s;   p = x0 - S' * (d + step of the base optimizer)

    Around what steps matrices otherwise than vectors, as Muon and Adafactor do, it is refused.

    Paper: Cutkosky, Defazio, Mehta 2023, arXiv 2306.00144.
    Differs from the paper: as optax, where h is bounded, and d is what p says of it, so that it is not kept. optax
    calls mechanic_decay and mechanic_eps weight_decay and eps; here those are the base's.
    """

    mechanic_decay = nonnegative(1e-2, "draws towards zero, in proportion to the gradient and the scale")
    mechanic_eps = positive(1e-8, "added to divisors and to |h|")
    s_init = positive(1e-6, "first value of each part of the scale")
    num_betas = count(6, "how many decay rates the scale is learned with", static=True)

    def check(self, spell, call):
        if len(programs_of(self.base)) > 1:
            worded = "must be an optimizer that steps parameters of all shapes alike, for the scale is of all together"
            raise bad_value(call, "base", worded, self.base.label)

    def wrap_coefficients(self, math, t):
        return {"share": self.s_init / self.num_betas, "tenth": 0.1}

    def wrap_update(self, xp, u, p, g, mechanic_x0: COPY, mechanic_r: model(count="num_betas"),
                    mechanic_m: model(count="num_betas"), mechanic_v: model(count="num_betas"),
                    mechanic_s: model("s_init", count="num_betas"), /,
                    mechanic_decay, mechanic_eps, share, tenth, zero, one):  # fmt: skip
        scale, away = sum(mechanic_s, start=zero), mechanic_x0 - p
        g_norm, p_norm = xp.sqrt(xp.total(g * g)), xp.sqrt(xp.total(p * p))
        pull = mechanic_decay * scale * g_norm / (p_norm + mechanic_eps)
        h = (xp.total(g * away) + pull * xp.total(p * away)) / (scale + mechanic_eps)
        bets, gain = [], one
        for r, m, v, s in zip(mechanic_r, mechanic_m, mechanic_v, mechanic_s, strict=True):
            gain = gain * tenth
            bets.append(bet(xp, h, r, m, v, s, gain, share, mechanic_eps, zero, one))
        r, m, v, s = zip(*bets, strict=True)
        step = sum(s, start=zero) * (away / (scale + mechanic_eps) + u) - away
        return step, mechanic_x0, r, m, v, s


def bet(xp, h, r, m, v, s, gain, share, eps, zero, one):
    """What one of the betas makes of h; `gain` is 1 - beta."""
    bounded = xp.minimum(xp.maximum(h, -m), m)
    r, m = r - gain * r + bounded * s, xp.maximum(m - gain * m, xp.abs(h) + eps)
    v = v - gain * (one + one - gain) * v + h * h
    return r, m, v, (share * m + xp.maximum(zero, r)) / (xp.sqrt(v) + eps)

"""SophiaG."""

from ..fields import fraction, nonnegative, positive, rate
from ..formulas import ema
from ..slots import NONNEGATIVE
from ._estimates import Estimated


class SophiaG(Estimated):
    """Momentum divided by the curvature and bounded: a step of lr where the curvature is small or not known.

    m = m + (1 - beta1) * (g - m)
    p = p - (lr * weight_decay * p + lr * clip(m / (gamma * batch_size * h + eps), -1, 1))
    with estimating=True, in their place:   h = h + (1 - beta2) * (g * g - h)

    h is the diagonal of the Gauss-Newton matrix. Every ten steps or so, give it the gradient of the mean loss for
    labels that are drawn from what the model predicts: in PyTorch by `optimizer.update_hessian()` after backward(), in
    numpy and JAX by a step with estimating=True, which moves nothing else. Until then h is 0, and every step is of lr.
    Keras' classes and scikit-learn's estimators have no such step yet: there h stays 0.
    batch_size is the number of labels in that mean.

    Paper: Liu et al. 2023, arXiv 2305.14342, with the Gauss-Newton-Bartlett estimator.
    Differs from the paper: eps is added to the divisor, as in its authors' code, where gamma is called rho.
    """

    learning_rate = rate(1e-4)
    beta1 = fraction(0.965, "decay rate of the mean of gradients")
    beta2 = fraction(0.99, "decay rate of the mean of estimates")
    gamma = nonnegative(0.04, "weight of the curvature; the larger, the fewer steps are bounded")
    batch_size = positive(5120.0, "number of labels whose mean loss is estimated from, tokens of a language model")
    eps = positive(1e-15, "added to the divisor")
    weight_decay = nonnegative(0.1, "weight decay, times the learning rate")

    def coefficients(self, math, t):
        return {"gain1": 1 - self.beta1, "gain2": 1 - self.beta2, "scale": self.gamma * self.batch_size}

    def update(self, xp, p, g, exp_avg, hessian: NONNEGATIVE, /, learning_rate, gain1, gain2, scale, eps, zero, one):
        if self.estimating:
            return zero * p, one * exp_avg, ema(hessian, g * g, gain2)
        exp_avg, divisor = ema(exp_avg, g, gain1), scale * hessian + eps
        return learning_rate * xp.minimum(xp.maximum(exp_avg / divisor, -one), one), exp_avg, one * hessian

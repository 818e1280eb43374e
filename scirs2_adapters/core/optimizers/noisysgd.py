"""Noisy SGD."""

from ..fields import count, nonnegative, rate
from ..random_numbers import noise
from ..rule import Rule


class NoisySGD(Rule, numbered=True, moduli=None):
    """Gradient descent with noise in the gradient, which fades: it helps very deep networks out of bad beginnings.

    p = p - (lr * weight_decay * p + lr * (g + sqrt(eta / t^gamma) * n))
    n = normal numbers by chance, other ones for each step, parameter, element and seed

    It keeps no memory: n follows from the number of the step, the place of the parameter among those of the optimizer
    (JAX sorts them by name), the place of the element and the seed, by a hash. So every framework, path and number of
    threads has the same n, and a run that goes on from a checkpoint goes on with them. Where kernels lie the other way
    round, as those of PyTorch and Flax do, it goes on with other ones.

    Paper: Neelakantan et al. 2015, arXiv 1511.06807.
    Differs from the paper: a number of n is the sum of twelve evenly spread ones, of mean 0 and variance 1, whose
    distribution is normal to 0.0024 and none beyond 6; it has the same bits everywhere. optax draws other numbers, from
    a key of JAX's. Weight decay, which neither has, is decoupled.
    """

    learning_rate = rate(1e-3)
    eta = nonnegative(0.01, "variance of the noise at the first step")
    gamma = nonnegative(0.55, "how fast the variance falls: it is divided by this power of the step's number")
    seed = count(0, "which noise of many", least=0)

    def coefficients(self, math, t):
        return {"deviation": math.sqrt(self.eta) * math.exp(-self.gamma / 2 * math.log(t)), "turn": t % 2**24}

    def leaf_coefficients(self, leaf):
        return {"place": float(leaf.place)}

    def update(self, xp, p, g, /, learning_rate, deviation, turn, place, seed, zero):
        noisy = g + deviation * xp.matrix(noise, g, turn, place, seed)
        return learning_rate * noisy + zero  # of a rate of 0 no -0, which would change the sign of a parameter of -0

"""APOLLO-Mini."""

from ..fields import choice, count, nonnegative
from .apollo import APOLLO


class APOLLOMini(APOLLO):
    """APOLLO with one direction and one scale for each matrix: steps like Adam's with the memory of SGD.

    P = a vector of random numbers, another one every update_proj_gap steps
    r = g @ P;   m = m + (1 - beta1) * (r - m);   v = v + (1 - beta2) * (r * r - v);   d = m / (sqrt(v) + eps)
    s = g * norm(d) / (norm(r) + 1e-8)
    s = s / (max(norm(s) / (n + 1e-8), 1.01) / 1.01);   n = norm(s)   from the second s on
    p = p - (lr * weight_decay * p + lr * sqrt(scale) * sqrt(1 - beta2^t) / (1 - beta1^t) * s)

    Paper: Zhu et al. 2024, arXiv 2412.05270, section 4.2.
    Differs from the paper: in what APOLLO does.
    """

    rank = count(1, APOLLO.fields["rank"].means, True, least=0)
    scale = nonnegative(128.0, APOLLO.fields["scale"].means)
    scale_type = choice("tensor", APOLLO.fields["scale_type"].means, "channel", "tensor")

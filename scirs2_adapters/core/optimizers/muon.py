"""Muon, with AdamW for what is not a hidden matrix."""

import re

from ..fields import choice, count, flag, fraction, is_number, nonnegative, numbers_tuple, positive
from ..formulas import average, orthogonalize
from ..rule import Rule
from ._nesterov import nesterov_mix
from .adamw import AdamW


class Muon(Rule, counts="none"):
    """Momentum whose step is made orthogonal: every direction of a weight matrix moves equally far.

    b = b + (1 - momentum) * (g - b)
    u = g + momentum * (b - g) if nesterov else b
    p = p - (lr * weight_decay * p + lr * scale * orthogonalize(u))
    scale = sqrt(max(1, rows / columns)) for "original", 0.2 * sqrt(max(rows, columns)) for "match_rms_adamw"

    Embeddings, heads and everything that is not a matrix are stepped by AdamW with the adamw_ fields, in the same
    optimizer and state. A matrix counts as embedding or head by its name (embed, wte, head, classifier, score, …) or
    when `route_all` is set. A learning_rate of 0 stops both parts.

    Paper: Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982 (decay and scale).
    Differs from the paper: the Newton-Schulz iteration runs in the precision of the arithmetic, float32, and not in
    bfloat16.
    """

    momentum = fraction(0.95, "decay rate of the average of gradients")
    nesterov = flag(True, "look ahead along the average")
    ns_coefficients = numbers_tuple((3.4445, -4.7750, 2.0315), "polynomial of the Newton-Schulz iteration")
    ns_steps = count(5, "number of Newton-Schulz iterations", static=True)
    eps = positive(1e-7, "least norm by which the iteration divides")
    adjust = choice("original", "scale of the step by the matrix's shape", "original", "match_rms_adamw")
    adamw_learning_rate = nonnegative(None, "learning rate of the AdamW part; None is learning_rate")
    adamw_beta1 = fraction(0.9, "beta1 of the AdamW part")
    adamw_beta2 = fraction(0.999, "beta2 of the AdamW part")
    adamw_eps = nonnegative(1e-8, "eps of the AdamW part")
    adamw_weight_decay = nonnegative(None, "weight decay of the AdamW part; None is weight_decay")
    route_all = flag(False, "step everything by AdamW: for groups of embeddings and heads")
    weight_decay = nonnegative(0.1, "weight decay, times the learning rate; for both parts")
    #: Whether names are looked at; whether the look-ahead corrects the young average; whether rows are inputs.
    by_name, early, inputs_first = True, False, False
    matches = {"torch": {}, "optax": {"eps": 1e-8, "weight_decay": 0.0, "adamw_weight_decay": 0.0, "counts": "step",
        "by_name": False, "early": True, "inputs_first": True}, "keras": {"adjust": "match_rms_adamw",
        "weight_decay": 4e-3, "adamw_weight_decay": 4e-3, "adamw_eps": 1e-7}}  # fmt: skip

    def route(self, leaf):
        outer = self.by_name and any(map(EMBEDDING_OR_HEAD.fullmatch, re.findall(r"\w+", leaf.name.lower())))
        if len(leaf.shape) == 2 and not outer and not self.route_all:
            return self
        shared = {k: getattr(self, k) for k in ("learning_rate", "weight_decay", "maximize")}
        own = {k: getattr(self, f"adamw_{k}") for k in ("learning_rate", "beta1", "beta2", "eps", "weight_decay")}
        if is_number(self.learning_rate) and self.learning_rate == 0:  # a step that only makes the memory
            own["learning_rate"] = 0.0
        given = {k: v for k, v in own.items() if v is not None} | {"nesterov": self.early and self.nesterov}
        return AdamW.build(shared | given, match=self.match)

    def coefficients(self, xp, t):
        mix = {"mix": nesterov_mix(xp, self.momentum, t) if self.early else self.momentum}
        return mix | {"gain": 1 - self.momentum, **dict(zip("abc", self.ns_coefficients, strict=True))}

    def leaf_coefficients(self, leaf):
        inputs, outputs = leaf.shape if self.inputs_first else leaf.shape[::-1]
        tallness = max(1, outputs / max(1, inputs)) ** 0.5  # a matrix may be empty
        return {"scale": tallness if self.adjust == "original" else 0.2 * max(leaf.shape) ** 0.5}

    def update(self, xp, p, g, momentum_buffer, /, learning_rate, gain, mix, a, b, c, eps, scale):
        momentum_buffer = average(momentum_buffer, g, gain)
        u = average(g, momentum_buffer, mix) if self.nesterov else momentum_buffer
        return learning_rate * scale * xp.matrix(orthogonalize, u, eps, a, b, c, steps=self.ns_steps), momentum_buffer


#: One word of a parameter's path: `lm_head` is a head, `multi_head_attention` is not.
EMBEDDING_OR_HEAD = re.compile(r"\w*embed\w*|wte|wpe|shared|\w*head|\w*classifier|\w*logits|score|qa_outputs")

"""Muon, with AdamW for what is not a hidden matrix."""

from ..formulas import ema, nesterov_mix, orthogonalize
from ._muon_fields import MatrixRule


class Muon(MatrixRule, time_dependence="none"):
    """Momentum whose step is made orthogonal: every direction of a weight matrix moves equally far.

    b = b + (1 - momentum) * (g - b)
    u = g + momentum * (b - g) if nesterov else b
    p = p - (lr * weight_decay * p + lr * scale * orthogonalize(u))
    scale = sqrt(max(1, outputs / inputs)) for "original", rms_rate * sqrt(max(outputs, inputs)) for "match_rms_adamw",
        1 for "none"

    Kernels of more than two axes are matrices of their outputs by all else; with batch_axes, or in a layer called
    experts, first axes count matrices, each of which is made orthogonal by itself. Embeddings, heads, biases, gains and
    vectors are stepped by AdamW with the adamw_ fields, in the same optimizer and state. A parameter is an embedding or
    a head by its own name or its layer's (embed, wte, head, classifier, logits, score, …), never by that of a container
    further up, when exclude_layers finds something in the whole name, or when `route_all` is set; what has the memory
    of one of the two rules stays with it.

    The AdamW part has 0.015 times the learning rate, 3e-4 for 0.02 as its author has them, and with "match_rms_adamw",
    which makes steps as large as AdamW's, the learning rate itself; both follow a schedule, and stop at 0. An
    adamw_learning_rate follows none.

    Paper: Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982 (decay and scale).
    Differs from the paper: the Newton-Schulz iteration runs in the precision of the arithmetic, float32, and not in
    bfloat16; a kernel's scale is that of its matrix, and not of its last two axes.
    """

    #: Whether the look-ahead corrects the young average.
    early = False
    matches = {
        "torch": {"by_name": "none", "kernels": False},
        "optax": {"eps": 1e-8, "weight_decay": 0.0, "adamw_weight_decay": 0.0, "time_dependence": "step",
                  "by_name": "none", "early": True, "layout": "inputs_first", "kernels": False, "ratio": 1.0},
        "keras": {"adjust": "match_rms_adamw", "weight_decay": 4e-3, "adamw_weight_decay": 4e-3, "adamw_eps": 1e-7,
                  "by_name": "embedding", "kernels": False, "ratio": 1.0, "whole_decay": True,
                  "adamw_ratio": 1.0},
    }  # fmt: skip

    def coefficients(self, math, t):
        mix = {"mix": nesterov_mix(math, self.momentum, t) if self.early else self.momentum}
        return mix | {"gain": 1 - self.momentum, **dict(zip("abc", self.ns_coefficients, strict=True))}

    def leaf_coefficients(self, leaf):
        inputs, outputs = self.matrix(leaf).sides(leaf.shape)
        tallness = max(1, outputs / max(1, inputs)) ** 0.5  # a matrix may be empty
        scales = {"original": tallness, "match_rms_adamw": self.rms_rate * max(inputs, outputs) ** 0.5, "none": 1.0}
        return {"scale": scales[self.adjust]}

    def update(self, xp, p, g, momentum_buffer, /, learning_rate, gain, mix, a, b, c, eps, scale):
        momentum_buffer = ema(momentum_buffer, g, gain)
        u = ema(g, momentum_buffer, mix) if self.nesterov else momentum_buffer
        return learning_rate * scale * xp.matrix(orthogonalize, u, eps, a, b, c, steps=self.ns_steps), momentum_buffer

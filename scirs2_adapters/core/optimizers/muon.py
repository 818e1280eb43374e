"""Muon, with AdamW for what is not a hidden matrix."""

import re

from ..fields import count, patterns
from ._muon_fields import MatrixRule


class Muon(MatrixRule, time_dependence="none"):
    """Momentum whose step is made orthogonal: every direction of a weight matrix moves equally far.

    b = b + (1 - momentum) * (g - b)
    u = g + momentum * (b - g) if nesterov else b
    p = p - (lr * weight_decay * p + lr * scale * orthogonalize(u))
    scale = sqrt(max(1, outputs / inputs)) for "original", rms_rate * sqrt(max(outputs, inputs)) for "match_rms_adamw",
        sqrt(outputs / inputs) for "spectral_norm", 1 for "none"

    Kernels of more than two axes are matrices of their outputs by all else; with batch_axes, or in a layer called
    experts, first axes count matrices, each of which is made orthogonal by itself. Embeddings, heads, biases, gains and
    vectors are stepped by AdamW with the adamw_ fields, in the same optimizer and state. A parameter is an embedding or
    a head by its own name or its layer's (embed, wte, head, classifier, logits, score, …), never by that of a container
    further up, when exclude_layers finds something in the whole name, or when `route_all` is set; what has the memory
    of one of the two rules stays with it.

    The outputs of the layers named in split_layers are split_outputs matrices of equal size, each made orthogonal and
    scaled by itself: 3 for fused queries, keys and values, 3 * heads for each head of them. ns_schedule="polar_express"
    has the numbers of Amsel et al. 2025 in full, with that paper's division by 1.01 before each iteration; "quintic"
    has those that optax calls "dion". With fewer steps than polynomials the first ones are taken, with more the last
    one is repeated.

    The AdamW part has 0.015 times the learning rate, 3e-4 for 0.02 as its author has them, and with "match_rms_adamw",
    which makes steps as large as AdamW's, the learning rate itself; both follow a schedule, and stop at 0. An
    adamw_learning_rate follows none.

    Paper: Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982 (decay and scale).
    Differs from the paper: the Newton-Schulz iteration runs in the precision of the arithmetic, float32, and not in
    bfloat16, in which match="torch" runs it as torch does; a kernel's scale is that of its matrix, and not of its last
    two axes.
    """

    split_outputs = count(3, "so many equal parts of the outputs of split_layers are matrices", static=True)
    split_layers = patterns("what has a match of one of these in its name is split by outputs: fused layers")
    matches = {
        "torch": {"by_name": "none", "kernels": False, "half": True},
        "optax": {"eps": 1e-8, "weight_decay": 0.0, "adamw_weight_decay": 0.0, "time_dependence": "step",
                  "by_name": "none", "early": True, "layout": "inputs_first", "kernels": False, "ratio": 1.0},
        "keras": {"adjust": "match_rms_adamw", "weight_decay": 4e-3, "adamw_weight_decay": 4e-3, "adamw_eps": 1e-7,
                  "by_name": "embedding", "kernels": False, "ratio": 1.0, "whole_decay": True,
                  "adamw_ratio": 1.0},
    }  # fmt: skip

    def matrix(self, leaf):
        whole = super().matrix(leaf)
        fused = any(re.search(pattern, leaf.name) for pattern in self.split_layers)
        return whole._replace(parts=self.split_outputs) if fused else whole

    def refuses(self, leaf, spell=str):
        matrix = self.matrix(leaf)
        _, outputs = matrix._replace(parts=1).sides(leaf.shape)
        named = f"`{spell('split_layers')}` ({leaf.name})"
        worded = f"must have outputs that make {matrix.parts} equal parts, not {outputs}, in {named}"
        return worded if outputs % matrix.parts else super().refuses(leaf, spell)

    def doubts(self, leaves):
        return super().doubts(leaves) + self._unmatched("split_layers", leaves)

    def update(self, xp, p, g, momentum_buffer, /, learning_rate, gain, mix, a, b, c, eps, scale):
        u, momentum_buffer = self.averaged(g, momentum_buffer, gain, mix)
        return learning_rate * scale * self.orthogonal(xp, u, eps, a, b, c), momentum_buffer

"""What Dion takes, which parameters it leaves to AdamW, and along which side of the others its directions are."""

import math
from dataclasses import replace

from ..fields import fraction, nonnegative, number, rate
from ..matrix import Matrix
from ..rule import Rule
from ..slots import Leaf
from ._muon_fields import MatrixRule


class LowRankRule(Rule, time_dependence="none"):
    """A rule with some directions of the shorter side of each hidden matrix; AdamW steps the rest, as under Muon."""

    learning_rate = rate(0.01)
    momentum = fraction(0.95, "part of the momentum along the directions that is kept")
    rank_fraction = replace(
        number(1.0, "so many directions for one of a matrix's shorter side", "must be in (0, 1]", lambda v: 0 < v <= 1),
        static=True,
    )
    eps = nonnegative(1e-8, "added to the length of a column")
    adamw_learning_rate = MatrixRule.fields["adamw_learning_rate"]
    adamw_beta1 = MatrixRule.fields["adamw_beta1"]
    adamw_beta2 = fraction(0.95, "beta2 of the AdamW part")
    adamw_eps = MatrixRule.fields["adamw_eps"]
    adamw_weight_decay = MatrixRule.fields["adamw_weight_decay"]
    adamw_ratio = replace(MatrixRule.fields["adamw_ratio"], means="the AdamW part's rate for one of 1; None is 1")
    route_all = MatrixRule.fields["route_all"]
    exclude_layers = MatrixRule.fields["exclude_layers"]
    exclude_embeddings = MatrixRule.fields["exclude_embeddings"]
    weight_decay = nonnegative(0.01, "weight decay, times the learning rate; for both parts")
    layout = MatrixRule.fields["layout"]
    batch_axes = replace(
        MatrixRule.fields["batch_axes"],
        means="so many first axes of a parameter of at least two more count matrices: a stack, which AdamW steps",
    )
    adjust, ratio, kernels, by_name, early, whole_decay = "spectral_norm", 1.0, True, "layer", False, False
    other, check, unwanted, doubts = MatrixRule.other, MatrixRule.check, MatrixRule.unwanted, MatrixRule.doubts
    matrix, _misfit, _adamw_rate = MatrixRule.matrix, MatrixRule.misfit, MatrixRule._adamw_rate
    _unmatched, _unsure = MatrixRule._unmatched, MatrixRule._unsure

    def misfit(self, leaf: Leaf) -> str:
        if why := self._misfit(leaf):
            return why
        matrix = self.matrix(leaf)
        stacked = len(matrix.inputs) + len(matrix.outputs) < len(leaf.shape)
        return "a stack of matrices" if stacked else "" if math.prod(leaf.shape) else "no elements"

    def view(self, leaf: Leaf) -> Matrix | None:
        if self.misfit(leaf):
            return None
        matrix = self.matrix(leaf)
        inputs, outputs = matrix.sides(leaf.shape)
        first = (inputs <= outputs) == (matrix.inputs < matrix.outputs)
        return matrix._replace(share=self.rank_fraction, projected=-2 if first else -1)

    def directed(self, leaf: Leaf) -> bool:
        """Whether it has directions."""
        return self.view(leaf) is not None

    def leaf_coefficients(self, leaf: Leaf) -> dict[str, float]:
        inputs, outputs = (max(1, side) for side in self.matrix(leaf).sides(leaf.shape))
        return {"scale": (outputs / inputs) ** 0.5}

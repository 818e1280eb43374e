"""What rules with moments of a projection of the gradient share: which parameters are projected, along which side."""

from ..fields import choice, count
from ..matrix import INPUTS_FIRST, OUTPUTS_FIRST, Matrix
from ..rule import Rule
from ..slots import Leaf
from ._muon_fields import MatrixRule


class ProjectedRule(Rule):
    """A rule whose moments are of a projection of the gradient, and like the parameter where there is none."""

    rank = count(128, "so many directions are projected onto; 0 is none, as for embeddings and heads", True, least=0)
    update_proj_gap = count(200, "so many steps are between two choices of directions")
    proj_type = choice("std", "projects the shorter side or, reversed, the longer one", "std", "reverse_std")
    layout = choice(None, MatrixRule.fields["layout"].means, OUTPUTS_FIRST, INPUTS_FIRST)
    #: Whether parameters of more axes than two are matrices.
    kernels = True
    #: Whether a matrix whose shorter side is not above the rank is projected, which turns it and saves no memory.
    small = False
    by_name, batch_axes = "none", 0
    matrix = MatrixRule.matrix

    def view(self, leaf: Leaf) -> Matrix | None:
        if len(leaf.shape) < 2 or (len(leaf.shape) > 2 and not self.kernels):
            return None
        matrix = self.matrix(leaf)
        shorter, whole = min(matrix.sides(leaf.shape)), len(matrix.inputs) + len(matrix.outputs) == len(leaf.shape)
        rank = min(self.rank, shorter)
        if not rank or not whole or (rank == shorter and not self.small):
            return None
        return matrix._replace(rank=rank, projected=self._side(matrix, leaf.shape))

    def _side(self, matrix: Matrix, shape: tuple[int, ...]) -> int:
        """The side that is projected; that of the inputs if both are of one length."""
        inputs, outputs = matrix.sides(shape)
        of_inputs = inputs == outputs or (inputs < outputs) == (self.proj_type == "std")
        return -2 if of_inputs == (matrix.inputs < matrix.outputs) else -1

    def projects(self, leaf: Leaf) -> bool:
        """Whether it is projected."""
        return self.view(leaf) is not None

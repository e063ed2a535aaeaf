"""An objective as BoTorch's optimizers of acquisition functions take it."""

from jaxtyping import Float
from torch import Tensor, nn

from lso.objective import LatentObjective
from lso.vae.errors import ShapeError


class Acquisition(nn.Module):
    """An objective as a q = 1 acquisition function; `LatentObjective.acquisition` makes it.

    The objective is known everywhere, so pending points do not change it; they are kept because BoTorch sets them.

    Args:
        objective: of one target or none.
    """

    def __init__(self, objective: LatentObjective) -> None:
        super().__init__()
        self._objective = (objective,)  # out of reach of `.to()`
        self.model = None  # BoTorch's sequential mode logs its type
        self.X_pending: Tensor | None = None

    def set_X_pending(self, X_pending: Tensor | None = None) -> None:
        """Keep pending points.

        Args:
            X_pending: ``(m, d)`` or None.
        """
        self.X_pending = X_pending

    def forward(self, X: Float[Tensor, "... latent"]) -> Float[Tensor, "..."]:
        """Values, larger is better.

        Args:
            X: ``(b, 1, d)``, or ``(1, d)`` for b = 1.
        Returns:
            ``(b,)``.
        Raises:
            ShapeError: if q is not 1.
        """
        if X.ndim < 2 or X.shape[-2] != 1:
            raise ShapeError(
                f"expected codes (b, 1, d), got {tuple(X.shape)}", "The objective scores one point at a time: q=1."
            )
        X = X.unsqueeze(0) if X.ndim == 2 else X
        objective = self._objective[0]
        value: Tensor = objective(X.squeeze(-2))
        return -objective.sign * value

"""The losses of a step with their layers fused by torch.compile, where that is there."""

from jaxtyping import Shaped
from torch import Tensor, compile
from torch._dynamo.exc import TorchDynamoException

from lso.vae.checkpoint import first_line
from lso.vae.methods import Method
from lso.vae.model import VAE
from lso.vae.step import Losses, Noise, losses


class CompiledLosses:
    """`losses`, compiled anew for each shape of batch; where that fails, `losses`, and ``sentence`` says why.

    For images: sequences have more lengths than torch compiles for. Compiling takes minutes for the deeper networks. On
    a CPU it saves a tenth of a step of `he2019` at best, so that it pays after some thousand steps (`docs/log.md`).
    """

    def __init__(self) -> None:
        self.sentence = ""
        try:
            self._fused = compile(losses, dynamic=False)
        except RuntimeError as error:  # a Python that torch does not compile for
            self.sentence = f"steps are not compiled: {first_line(error)}"

    def __call__(self, model: VAE, method: Method, x: Shaped[Tensor, "batch ..."], noise: Noise, w: Tensor) -> Losses:
        """See `losses`.

        Args:
            model: as `losses`.
            method: as `losses`.
            x: as `losses`.
            noise: as `losses`.
            w: 0-d KL weight.
        Returns:
            As `losses`.
        """
        if not self.sentence:
            try:
                return self._fused(model, method, x, noise, w)
            except TorchDynamoException as error:  # no C++ compiler, no Triton, or something that it cannot do
                self.sentence = f"steps are not compiled: {first_line(error)}"
        return losses(model, method, x, noise, w)

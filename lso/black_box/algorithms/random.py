"""Random search: draws from the prior, the control that every other optimizer is compared with."""

from jaxtyping import Float
from torch import Tensor

from lso.black_box.ask_tell import History, Proposal
from lso.black_box.bayesopt.candidates import restrict_to_chart
from lso.space import LatentSpace
from lso.vae.utils.random import generator


def build_random(space: LatentSpace, kind: str = "prior") -> Proposal:
    """Random search by `LatentSpace.sample`, whose ``kind`` is prior, codes or sobol.

    Draws are clipped to the bounds; dimensions that the chart leaves out are at 0.
    """

    def propose(history: History, n: int, seed: int) -> Float[Tensor, "n latent"]:
        return restrict_to_chart(space, space.sample(n, kind, generator(seed, "random")))

    return propose

"""Prior draws: the control that every search is to be compared with."""

from jaxtyping import Float
from torch import Tensor

from lso.black_box.ask_tell import History, Proposal
from lso.black_box.bayesopt.candidates import restrict_to_chart
from lso.space import LatentSpace
from lso.vae.utils.random import generator


def build_random(space: LatentSpace, kind: str = "prior") -> Proposal:
    """Random search.

    Args:
        space: to search.
        kind: of draw, see `LatentSpace.sample`: prior, codes or sobol.
    Returns:
        The proposal. Draws are clipped to the bounds; dimensions that the chart leaves out are at 0.
    """

    def propose(history: History, n: int, seed: int) -> Float[Tensor, "n latent"]:
        return restrict_to_chart(space, space.sample(n, kind, generator(seed, "random")))

    return propose

"""What the commands that look at a model share: how codes are drawn, with progress where that takes long."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lso.cli.console import Console
from lso.cli.places import How, Way
from lso.vae.errors import UsageError
from lso.vae.values import convert

if TYPE_CHECKING:
    from torch import Tensor

    from lso.generation import Generation
    from lso.tasks.explore import Drawing
    from lso.vae.model import VAE


AVERAGED = 16  # draws in the mean of an autoregressive decoder of images


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How the user wants codes to be drawn, as the flags say.

    Args:
        how: of ``--how``, or None.
        samples: of ``--samples``, of images.
        temperature: of text, as the next two.
        top_p: see above.
        beam_width: see above.
        seed: of the uniforms.
        device: where.
    """

    how: str | None = None
    samples: int = AVERAGED
    temperature: float | None = None
    top_p: float | None = None
    beam_width: int | None = None
    seed: int = 0
    device: str = "auto"

    @property
    def _of_text(self) -> dict[str, Any]:
        every = {"temperature": self.temperature, "top_p": self.top_p, "beam_width": self.beam_width}
        return {key: value for key, value in every.items() if value is not None}

    def of_images(self) -> "Asked":
        """The same for a model of images.

        Returns:
            Itself.
        Raises:
            UsageError: if a flag of text was given.
        """
        if flags := [f"--{key.replace('_', '-')}" for key in self._of_text]:
            raise UsageError(f"{' and '.join(flags)} is for text, and this model is of images", "Leave it out.")
        return self

    def way(self, usual: "Way", *, common: bool = True) -> "Generation":
        """How a model of sequences speaks.

        Args:
            usual: where no way was asked for, and no flag belongs to one.
            common: whether all codes share their uniforms.
        Returns:
            The way.
        Raises:
            UsageError: if there is no such way, or a flag is of another.
        """
        from lso.generation import OWNERS, Generation

        if self.samples != AVERAGED:
            raise UsageError("--samples is for images, and this model is of sequences", "Leave it out.")
        owner = next((OWNERS[key][0] for key in self._of_text), usual)
        how = owner if self.how is None else convert(self.how, Way, "--how")
        return Generation(how=how, common=common, seed=self.seed, **self._of_text)


def drawing(model: "VAE", asked: Asked, *, common: bool = True) -> "Drawing":
    """How codes become images.

    Args:
        model: the VAE.
        asked: how the user wants it; no way is the model's default.
        common: whether all codes share their uniforms.
    Returns:
        The drawing.
    Raises:
        UsageError: if there is no such way, or a flag is of text.
    """
    from lso.tasks.explore import Drawing, default_how

    given = asked.of_images()
    chosen = default_how(model) if given.how is None else convert(given.how, How, "--how")
    return Drawing(how=chosen, common=common, seed=given.seed, samples=given.samples)


def decoded(console: Console, model: "VAE", z: "Tensor", drawn: "Drawing") -> "Tensor":
    """Images of codes, with a bar.

    Args:
        console: where to print.
        model: the VAE.
        z: ``(..., latent)``.
        drawn: how.
    Returns:
        ``(..., C, H, W)``.
    """
    from lso.cli.bars import Counting
    from lso.tasks import explore

    bar = Counting(console, "images", "drawing pixel after pixel" if model.autoregressive else "decoding")
    try:
        return explore.decode(model, z, drawn, bar)
    finally:
        bar.close()

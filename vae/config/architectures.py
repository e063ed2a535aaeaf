"""Architectures by name: network families and their default sizes.

Torch-free, so that lists and the command line load fast; `lso.vae.models.vae` makes the networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lso.vae.errors import UsageError, unknown_name
from lso.vae.utils.settings import check_fields, documented, setting
from lso.vae.utils.user_module import is_user_module
from lso.vae.utils.validation import convert, require

Kind = Literal["image", "sequence"]
HEADS = 4  # attention heads of a transformer layer; they divide the width between them
MODEL = "Method and networks"  # heading in the help of the command line
LikelihoodName = Literal["bernoulli", "gaussian", "logistic", "categorical"]


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The networks of a VAE: a family of `ARCHITECTURES` and its sizes.

    Raises:
        UsageError: for an unknown name, a likelihood of another kind of data, or a size out of range.
    """

    name: str = setting(
        "mlp",
        "Encoder and decoder networks, e.g. mlp, conv or he2019. `lso list architectures` shows all; or a module of "
        "your own, package.module:Class. Default: the task's.",
        heading=MODEL,
        flag="--arch",
        metavar="NAME",
        table="lso.vae.config.architectures:ARCHITECTURES",
    )
    latent_dim: int = setting(
        32,
        "Number of latent dimensions; 0: an autoregressive decoder without latents. Default: the task's, mostly 32; "
        "of your own module, that module's.",
        heading=MODEL,
        least=0,
        remedy="2 to 64 is usual.",
    )
    likelihood: LikelihoodName = setting(
        "bernoulli",
        "Likelihood of pixels: bernoulli, gaussian or logistic (discretized). Default: the task's.",
        heading=MODEL,
        metavar="NAME",
    )
    width: int = setting(  # of the first stage (conv), or of all layers (PixelCNN families)
        256,
        "Hidden units (mlp and networks for sequences) or channels. Default: the architecture's.",
        heading=MODEL,
    )
    embedding: int = setting(  # 0 for images, and for the transformer, where it is the width
        0, "Size of a token's embedding (LSTMs). Default: the architecture's.", heading=MODEL
    )
    layers: int = setting(
        0,
        "Layers of the encoder and of the decoder (networks for sequences). Default: the architecture's.",
        heading=MODEL,
    )
    dropout: float = setting(  # at the decoder's inputs and after its layers
        0.0,
        "Dropout probability in the decoder (networks for sequences). Default: the architecture's.",
        heading=MODEL,
        metavar="P",
    )
    word_drop: float = setting(  # Bowman et al. 2016
        0.0,
        "Word dropout: share of its input tokens that the decoder sees as unknown. Default: 0.",
        heading=MODEL,
        metavar="P",
    )
    edition: int = setting(
        0,
        "Version of a published network where this library has had several: the newest is nearest to the authors' "
        "code, 0 is that of version 0.1.",
    )

    def __post_init__(self) -> None:
        own = is_user_module(self.name)  # 0 latents then mean those of the module, which is not made yet
        if self.name not in ARCHITECTURES and not own:
            raise unknown_name("architecture", self.name, ARCHITECTURES)
        if self.latent_dim == 0 and not self.spec.autoregressive and not own:
            raise UsageError(
                f"{self.name} decodes from z alone, and latent_dim is 0",
                f"Take an autoregressive architecture, e.g. --arch {BASELINES['image']}, or --latent-dim 32.",
            )
        check_fields(self)
        spec = self.spec
        if own:
            require(
                self.width == 0,
                "no width for a module of your own",
                self.width,
                "Its layers are its own; leave it out.",
            )
        else:
            require(self.width >= 1, "width >= 1", self.width, f"The default is {spec.width} ({self.name}).")
        sequence = spec.kind == "sequence"
        if (self.likelihood == "categorical") != sequence:
            fitting = [name for name, row in ARCHITECTURES.items() if (row.kind == "sequence") != sequence]
            raise UsageError(
                f"{self.name} is for {spec.kind}s, and the likelihood {self.likelihood} is not",
                f"Architectures with this likelihood: {', '.join(fitting)}.",
            )
        for key in ("embedding", "layers"):
            size, default = getattr(self, key), getattr(spec, key)
            remedy = f"The default is {default} ({self.name})." if default else f"{self.name} has no {key} to set."
            require(size >= 1 if default else size == 0, f"{key} {'>= 1' if default else '0'}", size, remedy)
        for key in ("dropout", "word_drop"):
            share = getattr(self, key)
            usual = f"0 switches it off; the default is {getattr(spec, key):g}."
            remedy = usual if sequence else f"{self.name} is for images, and {key} for sequences; leave it out."
            require(
                0 <= share < 1 if sequence else share == 0, f"0 <= {key} < 1" if sequence else f"{key} 0", share, remedy
            )
        require(
            0 <= self.edition <= spec.edition,
            f"an edition from 0 to {spec.edition}",
            self.edition,
            f"The newest edition of {self.name} is the default.",
        )
        if spec.divisor > 1:
            require(
                self.width % spec.divisor == 0,
                f"a width divisible by {spec.divisor}",
                self.width,
                f"The {spec.divisor} attention heads of {self.name} divide it between them.",
            )

    @property
    def spec(self) -> "ArchitectureSpec":
        """The row of `ARCHITECTURES`; for a module of the user's own a row that says what kind of data it is for."""
        if is_user_module(self.name):
            return USER_MODULES["sequence" if self.likelihood == "categorical" else "image"]
        return ARCHITECTURES[self.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureSpec:
    """A row of `ARCHITECTURES`: what a family of networks is, and its default sizes (see `Architecture`)."""

    summary: str  # one line for lists
    # ``"module:name"`` of the class, or of a function that makes one, called with ``(shape, latent_dim, width)`` for
    # images and ``(shape, architecture)`` for sequences; the decoder also with the likelihood of images and ``skip``.
    # `lso.vae.models.vae.VAE` calls them.
    encoder: str
    decoder: str
    width: int
    autoregressive: bool = False  # whether a pixel's or token's distribution depends on those before it
    kind: Kind = "image"  # of data
    embedding: int = 0
    layers: int = 0
    dropout: float = 0.0
    word_drop: float = 0.0
    divisor: int = 1  # number that must divide the width
    edition: int = 0  # the newest
    optimizer: str = ""  # default in place of the task's; empty leaves the task's
    batched_from: int = 0  # number of models from which one batched model trains faster on a CPU; 0 is never
    batched_size: int = 0  # largest number of values in a datum for which that holds


def _sequence(
    summary: str,
    width: int,
    embedding: int,
    layers: int = 1,
    dropout: float = 0.5,
    edition: int = 1,
    *,
    encoder: str = "lso.vae.models.lstm:LstmEncoder",
    decoder: str = "lso.vae.models.lstm:LstmDecoder",
    **others: Any,
) -> ArchitectureSpec:
    return ArchitectureSpec(
        summary=summary,
        encoder=encoder,
        decoder=decoder,
        width=width,
        autoregressive=True,
        kind="sequence",
        embedding=embedding,
        layers=layers,
        dropout=dropout,
        edition=edition,
        **others,
    )


# From how many models on, and up to how many pixels, one batched model is faster was measured by
# `benchmarks/sweep_together.py`: where networks are small. The grouped convolutions of a PixelCNN take 1.6 times as
# long as one model after another.
ARCHITECTURES: Mapping[str, ArchitectureSpec] = {
    "mlp": ArchitectureSpec(
        summary="two hidden layers each way, any image of 8x8 to 64x64",
        encoder="lso.vae.models.mlp:MlpEncoder",
        decoder="lso.vae.models.mlp:MlpDecoder",
        width=256,
        batched_from=8,
        batched_size=8 * 8,
    ),
    "conv": ArchitectureSpec(
        summary="small strided convolutions each way, any image of 8x8 to 64x64",
        encoder="lso.vae.models.conv:ConvEncoder",
        decoder="lso.vae.models.conv:ConvDecoder",
        width=32,
        batched_from=4,
        batched_size=16 * 16,
    ),
    "he2019": ArchitectureSpec(
        summary="ResNet encoder, 13-layer residual PixelCNN decoder (He et al. 2019)",
        encoder="lso.vae.models.resnet:ResnetEncoder",
        decoder="lso.vae.models.pixelcnn:he2019_decoder",
        width=64,
        autoregressive=True,
    ),
    "he2019-small": ArchitectureSpec(
        summary="the same with 7 layers and half the channels, for a CPU",
        encoder="lso.vae.models.resnet:ResnetEncoder",
        decoder="lso.vae.models.pixelcnn:he2019_small_decoder",
        width=32,
        autoregressive=True,
    ),
    "kim2018": ArchitectureSpec(
        summary="residual encoder, 12-layer gated PixelCNN decoder (Kim et al. 2018)",
        encoder="lso.vae.models.resnet:KimEncoder",
        decoder="lso.vae.models.gated_pixelcnn:kim2018_decoder",
        width=32,
        autoregressive=True,
        edition=1,
    ),
    "kim2018-masked": ArchitectureSpec(
        summary="the same as published: z passes the causal masks",
        encoder="lso.vae.models.resnet:KimEncoder",
        decoder="lso.vae.models.gated_pixelcnn:kim2018_masked_decoder",
        width=32,
        autoregressive=True,
        edition=1,
    ),
    "dieng2019": ArchitectureSpec(
        summary="residual encoder, 8-layer gated PixelCNN decoder (Dieng et al. 2019)",
        encoder="lso.vae.models.resnet:KimEncoder",
        decoder="lso.vae.models.gated_pixelcnn:dieng2019_decoder",
        width=32,
        autoregressive=True,
        edition=1,
    ),
    "dieng2019-masked": ArchitectureSpec(
        summary="the same as published: z passes the causal masks",
        encoder="lso.vae.models.resnet:KimEncoder",
        decoder="lso.vae.models.gated_pixelcnn:dieng2019_masked_decoder",
        width=32,
        autoregressive=True,
        edition=1,
    ),
    "lstm": _sequence("LSTM encoder and decoder of He et al. (2019) at a size for a CPU", 256, 128),
    "he2019-text": _sequence("LSTM encoder and decoder (He et al. 2019)", 1024, 512),
    "kim2018-text": _sequence(
        "LSTM encoder and decoder (Kim et al. 2018)",
        1024,
        512,
        encoder="lso.vae.models.lstm:kim2018_text_encoder",
        decoder="lso.vae.models.lstm:kim2018_text_decoder",
    ),
    "he2019-toy": _sequence("LSTMs of the synthetic experiment (He et al. 2019, app. B.1)", 50, 50),
    "he2019-toy-offset": _sequence(
        "the same with offset initialization (their app. G)",
        50,
        50,
        encoder="lso.vae.models.lstm:he2019_toy_offset_encoder",
        decoder="lso.vae.models.lstm:he2019_toy_offset_decoder",
    ),
    "transformer": _sequence(
        "pre-norm transformer encoder and decoder, for molecules",
        128,
        0,
        3,
        0.1,
        0,
        encoder="lso.vae.models.transformer:TransformerEncoder",
        decoder="lso.vae.models.transformer:TransformerDecoder",
        divisor=HEADS,
        optimizer="adam",
    ),
}
# What stands for a row where the name is that of a user's own module (`lso.vae.models.user_module`): its networks come
# with it, and are told apart by the likelihood alone.
USER_MODULES: Mapping[Kind, ArchitectureSpec] = {
    "image": ArchitectureSpec(summary="a module of your own for images", encoder="", decoder="", width=0),
    "sequence": ArchitectureSpec(
        summary="a module of your own for sequences",
        encoder="",
        decoder="",
        width=0,
        kind="sequence",
        autoregressive=True,
    ),
}
# Architecture of a baseline without latents where the user names none.
BASELINES: Mapping[Kind, str] = {"image": "he2019-small", "sequence": "lstm"}


def architecture(
    name: str, latent_dim: int = 32, likelihood: str | None = None, width: int | None = None, **sizes: Any
) -> Architecture:
    """An architecture by name, with its family's default sizes.

    Args:
        name: row of `ARCHITECTURES`, or the name of a module of the user's own.
        latent_dim: size of z.
        likelihood: of pixels or tokens; None is Bernoulli for images and categorical for sequences.
        width: hidden units or channels; None is the family's default.
        sizes: other fields of `Architecture` that differ from the family's defaults.
    Returns:
        The architecture, complete and checked.
    Raises:
        UsageError: for an unknown name or a size out of range.
    """
    if is_user_module(name):
        checked = convert("bernoulli" if likelihood is None else likelihood, LikelihoodName, "likelihood")
        return Architecture(name=name, latent_dim=latent_dim, likelihood=checked, width=width or 0, **sizes)
    if name not in ARCHITECTURES:
        raise unknown_name("architecture", name, ARCHITECTURES)
    spec = ARCHITECTURES[name]
    usual = "categorical" if spec.kind == "sequence" else "bernoulli"
    checked = convert(usual if likelihood is None else likelihood, LikelihoodName, "likelihood")
    defaults = {key: getattr(spec, key) for key in ("width", "embedding", "layers", "dropout", "word_drop", "edition")}
    defaults |= {"width": width} if width is not None else {}
    return Architecture(name=name, latent_dim=latent_dim, likelihood=checked, **{**defaults, **sizes})

"""The table of architectures: network families with their sizes. Torch-free; `lso.vae.models.vae` makes networks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lso.vae.errors import UsageError, unknown_name
from lso.vae.utils.validation import convert, require

Kind = Literal["image", "sequence"]
HEADS = 4  # of attention
LikelihoodName = Literal["bernoulli", "gaussian", "logistic", "categorical"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Sizes of a VAE.

    Args:
        name: row of `ARCHITECTURES`.
        latent_dim: size of z; 0 for an autoregressive decoder alone.
        likelihood: of the pixels: Bernoulli, Gaussian or discretized logistic; categorical of tokens.
        width: hidden units (mlp, sequences), channels of the first stage (conv) or of all layers (PixelCNN families).
        embedding: size of a token's embedding; 0 for images, and for the transformer, where it is the width.
        layers: of encoder and decoder each; 0 for images, as are the following.
        dropout: share of the features dropped at the decoder's inputs and after its layers.
        word_drop: share of the tokens that the decoder reads as unknown (Bowman et al. 2016).
        edition: which reading of a published network, where the family has had several: the last is nearest to the
            authors' code, 0 is that of version 0.1.
    Raises:
        UsageError: for an unknown name, a likelihood of another kind of data, or a size out of range.
    """

    name: str = "mlp"
    latent_dim: int = 32
    likelihood: LikelihoodName = "bernoulli"
    width: int = 256
    embedding: int = 0
    layers: int = 0
    dropout: float = 0.0
    word_drop: float = 0.0
    edition: int = 0

    def __post_init__(self) -> None:
        if self.name not in ARCHITECTURES:
            raise unknown_name("architecture", self.name, ARCHITECTURES)
        if self.latent_dim == 0 and not ARCHITECTURES[self.name].autoregressive:
            raise UsageError(
                f"{self.name} decodes nothing but z, and latent_dim is 0",
                f"Take an autoregressive architecture, e.g. --arch {BASELINES['image']}, or --latent-dim 32.",
            )
        require(self.latent_dim >= 0, "latent_dim >= 0", self.latent_dim, "2 to 64 is usual.")
        spec = ARCHITECTURES[self.name]
        require(self.width >= 1, "width >= 1", self.width, f"The default is {spec.width} ({self.name}).")
        sequence = spec.kind == "sequence"
        if (self.likelihood == "categorical") != sequence:
            fitting = [name for name, row in ARCHITECTURES.items() if (row.kind == "sequence") != sequence]
            raise UsageError(
                f"{self.name} is for {spec.kind}s, and the likelihood {self.likelihood} is not",
                f"Networks for such data: {', '.join(fitting)}.",
            )
        for key in ("embedding", "layers"):
            size, usual = getattr(self, key), getattr(spec, key)
            remedy = f"The default is {usual} ({self.name})." if usual else f"{self.name} has none of its own."
            require(size >= 1 if usual else size == 0, f"{key} {'>= 1' if usual else '0'}", size, remedy)
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
            f"The newest is the default ({self.name}).",
        )
        if spec.divisor > 1:
            require(
                self.width % spec.divisor == 0,
                f"a width divisible by {spec.divisor}",
                self.width,
                f"The {spec.divisor} heads of {self.name} share it.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureSpec:
    """A row of the table.

    Args:
        summary: one line for lists.
        encoder: ``"module:class"``, or a function that makes one: of images ``(shape, latent_dim, width)``, of
            sequences ``(shape, architecture)``.
        decoder: likewise, with the likelihood of images and ``skip`` besides; see `lso.vae.models.vae.VAE`.
        width: default of `Architecture.width`.
        autoregressive: whether a pixel's or token's distribution depends on those before it.
        kind: of the data.
        embedding: default of `Architecture.embedding`, as the following of theirs.
        layers: see above.
        dropout: see above.
        divisor: of the width.
        edition: the newest, see `Architecture`.
        optimizer: that suits it where the task's does not; empty leaves the task's.
        batched_from: models from which on training them as one batched model is faster on a CPU; 0 is never.
        batched_size: numbers of a datum up to which it is.
    """

    summary: str
    encoder: str
    decoder: str
    width: int
    autoregressive: bool = False
    kind: Kind = "image"
    embedding: int = 0
    layers: int = 0
    dropout: float = 0.0
    word_drop: float = 0.0
    divisor: int = 1
    edition: int = 0
    optimizer: str = ""
    batched_from: int = 0
    batched_size: int = 0


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
BASELINES: Mapping[Kind, str] = {"image": "he2019-small", "sequence": "lstm"}  # without latents, where none is named


def architecture(
    name: str, latent_dim: int = 32, likelihood: str | None = None, width: int | None = None, **sizes: Any
) -> Architecture:
    """An architecture by name, with the family's own default sizes.

    Args:
        name: row of `ARCHITECTURES`.
        latent_dim: size of z.
        likelihood: of the pixels; None is Bernoulli, or categorical where data are sequences.
        width: hidden units or channels; None is the family's default.
        sizes: other fields of `Architecture` that differ from the family's default.
    Returns:
        The architecture.
    Raises:
        UsageError: for an unknown name or a size below 1.
    """
    if name not in ARCHITECTURES:
        raise unknown_name("architecture", name, ARCHITECTURES)
    spec = ARCHITECTURES[name]
    usual = "categorical" if spec.kind == "sequence" else "bernoulli"
    known = convert(usual if likelihood is None else likelihood, LikelihoodName, "likelihood")
    own = {key: getattr(spec, key) for key in ("width", "embedding", "layers", "dropout", "word_drop", "edition")}
    own |= {"width": width} if width is not None else {}
    return Architecture(name=name, latent_dim=latent_dim, likelihood=known, **{**own, **sizes})

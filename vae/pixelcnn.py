"""The residual PixelCNN decoder of He et al. (2019): masked bottleneck blocks with long skips, z open at the input."""

import math
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lso.vae import ancestral
from lso.vae.batch_norm import BatchNorm2d
from lso.vae.errors import ShapeError
from lso.vae.folding import fold, twin_of
from lso.vae.likelihoods import Head, Likelihood
from lso.vae.masked import MaskedConv2d
from lso.vae.pixelcnn_columns import PixelCnnColumns, wire
from lso.vae.resnet import convolution

HE2019 = (7,) * 5 + (5,) * 4 + (3,) * 4
SMALL = (7, 7, 7, 5, 5, 3, 3)
Z_MAPS = 4


class PixelCnnDecoder(nn.Module):
    """p(x|z) with each pixel given z and the pixels before it; the channels of a pixel are independent given those.

        h_0 = ELU(BN(conv_A([x, maps of z])));  h_i = block_i(h_{i-1} + D_{i-3}(h_{i-3})), the D from i = 3 on;
        logits = W' ELU(BN(W (h_last + D(h_{last-2})))).

    Four maps of z, a linear function of it, are open: every pixel sees the whole window of them, so all depend on z.
    With the 13 kernels of `HE2019`, 28x28 and 32 latents these are 894,400 parameters, 569,216 of them live taps; the
    baseline without latents has 778,368. With ``skip`` each of the 23 blocks and the head also see one own map of z
    beside their input: + 621,728 at that size. Activations are in place: hooks that keep a norm's output see it after
    the ELU (but for the last of a block), and full backward hooks on such norms are refused by torch.

    Args:
        shape: ``(channels, height, width)`` of a datum.
        latent_dim: size of z; 0 for none.
        width: channels of every layer.
        likelihood: name of the pixel likelihood.
        skip: whether z enters every block and the head (Dieng et al. 2019, arXiv:1807.04863).
        kernels: side of each layer's window; the long skip from layer j has that of layer j + 1.
    Source: He et al. (2019), arXiv:1901.05534, authors' code, which differs from the paper's "gated PixelCNN": it is
        ungated and has the long skips. Deviations: logits instead of clamped probabilities; ``skip`` is ours, as the
        combination was not published.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent_dim: int,
        width: int,
        likelihood: str,
        skip: bool,
        kernels: tuple[int, ...] = HE2019,
    ) -> None:
        super().__init__()
        self.shape = shape
        edge = 1 if skip and latent_dim else 0
        self.input = ZMaps(latent_dim, Z_MAPS if latent_dim else 0, shape)
        self.first = MaskedConv2d(shape[0], width, kernels[0], centre=False, open_channels=self.input.maps)
        self.norm: nn.Module = BatchNorm2d(width)
        self.blocks = nn.ModuleList(Block(width, kernel, edge) for kernel in kernels[1:])
        self.skips = nn.ModuleList(Block(width, kernel, edge) for kernel in kernels[1:-1])
        count = len(self.blocks) + len(self.skips) + 1
        self.edges = nn.ModuleList(ZMaps(latent_dim, edge, shape) for _ in range(count * edge))  # the head's last
        self.mix = nn.Conv2d(width + edge, width, 1, bias=False)
        self.mix_norm: nn.Module = BatchNorm2d(width)
        self.output = nn.Conv2d(width, shape[0], 1, bias=False)
        self.head = Head(likelihood, shape[0])

    def forward(self, z: Float[Tensor, "batch latent"], x: Tensor | None = None) -> Likelihood:
        """The likelihood of a batch of codes, teacher-forced.

        Args:
            z: ``(batch, latent)``.
            x: ``(batch, channels, height, width)`` in [0, 1], whose pixels are the context of the later ones.
        Returns:
            p(x|z).
        Raises:
            ShapeError: if there is no x.
        """
        h = F.elu(self.norm(self.first(teacher(x), self.input(z) if self.input.maps else None)), inplace=True)
        maps = [edge(z) for edge in self.edges]
        h = wire(self.blocks, self.skips, h, maps)
        h = F.elu(self.mix_norm(self.mix(beside(h, maps[-1:]))), inplace=True)
        likelihood: Likelihood = self.head(self.output(h))
        return likelihood

    @torch.no_grad()
    def generate(
        self, z: Float[Tensor, "batch latent"], noise: Tensor | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """Images in raster order, each pixel at the cost of one column of the network, with running statistics.

        Args:
            z: ``(batch, latent)``.
            noise: uniforms ``(batch, channels, height, width)``, or one image of them for all codes; None takes the
                likeliest value of each pixel.
        Returns:
            ``(batch, channels, height, width)``.
        """
        drawn = None if noise is None else noise.to(z).expand(len(z), *self.shape)
        return ancestral.generate(partial(PixelCnnColumns, self.folded()), self.head, self.shape, drawn, z)

    def folded(self) -> "PixelCnnDecoder":
        """The same network in eval mode with its batch-norms folded into its convolutions.

        Returns:
            A copy, which is to be used and not trained.
        """
        twin = twin_of(self)
        twin.norm, twin.mix_norm = fold(twin.first, twin.norm), fold(twin.mix, twin.mix_norm)
        for block in (*twin.blocks, *twin.skips):
            assert isinstance(block, Block)
            layers = (block.down, block.masked, block.up)
            block.norms = nn.ModuleList(fold(*both) for both in zip(layers, block.norms, strict=True))
        return twin


def teacher(x: Tensor | None) -> Tensor:
    """The data that an autoregressive decoder is forced on.

    Args:
        x: data or None.
    Returns:
        The data.
    Raises:
        ShapeError: if there are none.
    """
    if x is None:
        raise ShapeError(
            "this decoder is autoregressive: it needs the data x whose pixels come before each pixel",
            "Give decode(z, x), or let it write its own: generate(z).",
        )
    return x


class ZMaps(nn.Module):
    """Feature maps of the size of the image, linear in z.

    Args:
        latent_dim: size of z.
        maps: how many.
        shape: ``(channels, height, width)`` of a datum.
    """

    def __init__(self, latent_dim: int, maps: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.maps, self.size = maps, shape[1:]
        self.linear = nn.Linear(latent_dim, maps * math.prod(self.size)) if maps else None
        if self.linear is not None:
            nn.init.xavier_uniform_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch maps height width"]:
        """The maps of a batch of codes.

        Args:
            z: ``(batch, latent)``.
        Returns:
            ``(batch, maps, height, width)``.
        """
        if self.linear is None:
            return z.new_zeros(len(z), 0, *self.size)
        maps: Tensor = self.linear(z).reshape(len(z), self.maps, *self.size)
        return maps


class Block(nn.Module):
    """1x1 down to half the channels, a masked convolution, 1x1 up again, each with BN; ELU; and what came in.

    Args:
        width: channels.
        kernel: side of the masked window.
        maps: of z, beside the input of the first 1x1.
    """

    def __init__(self, width: int, kernel: int, maps: int) -> None:
        super().__init__()
        half = max(1, width // 2)
        self.down = convolution(width + maps, half, (1, 1))
        self.masked = MaskedConv2d(half, half, kernel, centre=True)
        self.up = convolution(half, width, (1, 1))
        self.norms = nn.ModuleList(BatchNorm2d(channels) for channels in (half, half, width))

    def forward(self, x: Float[Tensor, "batch width h w"], maps: list[Tensor]) -> Float[Tensor, "batch width h w"]:
        """Apply the block.

        Args:
            x: ``(batch, width, h, w)``.
            maps: one of ``(batch, maps, h, w)``, or none.
        Returns:
            ``(batch, width, h, w)``.
        """
        h = F.elu(self.norms[0](self.down(beside(x, maps))), inplace=True)
        h = F.elu(self.norms[1](self.masked(h)), inplace=True)
        return F.elu(self.norms[2](self.up(h)) + x, inplace=True)


def beside(x: Tensor, maps: list[Tensor]) -> Tensor:
    """Maps appended to the channels.

    Args:
        x: ``(batch, channels, ...)``.
        maps: one of ``(batch, maps, ...)``, or none.
    Returns:
        ``(batch, channels + maps, ...)``.
    """
    return torch.cat([x, *maps], 1) if maps else x

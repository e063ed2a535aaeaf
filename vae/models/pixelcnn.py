"""The residual PixelCNN decoder of He et al. (2019), and its cached sampling.

Masked bottleneck blocks with long skips, z open at the input. Sampling runs one column of the network for each pixel:
all layers at that pixel, given their values at the pixels before, with batch-norms fused into the convolutions.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lso.vae.config.architectures import Architecture
from lso.vae.distributions.pixels import Head
from lso.vae.errors import ShapeError
from lso.vae.models import autoregressive
from lso.vae.models.autoregressive import CausalRowConv, Conv1x1Cache, RowCache
from lso.vae.models.layers import BatchNorm2d, MaskedConv2d, fuse_norm, shallow_copy
from lso.vae.models.resnet import convolution
from lso.vae.protocols import Likelihood


class MaskedColumn:
    """A masked convolution with the caches for sampling.

    Args:
        masked: the convolution, whose window has a side of at least 3.
        width: of the image.
        like: tensor whose batch size, device and dtype are taken.
    """

    def __init__(self, masked: MaskedConv2d, width: int, like: Tensor) -> None:
        half = masked.kernel // 2
        weight, self.bias = masked.causal_weight(), masked.bias
        self.upper = weight[:, :, :-1].contiguous(memory_format=torch.channels_last)
        self.above = RowCache(like, masked.causal, half, width, half)
        # Where a pixel does not see itself (type A), its own tap is 0.
        self.ahead = CausalRowConv(weight[:, :, -1, : half + 1], shift=0)

    def start_row(self, opened: Float[Tensor, "batch out 1 width"] | float = 0.0) -> None:
        """Begin a row, given the part of the open channels in it."""
        self.ahead.start_row(F.conv2d(self.above.advance_row(), self.upper, self.bias) + opened)

    def push(self, column: int, value: Float[Tensor, "batch inputs"]) -> None:
        """Feed the value of one pixel to the convolution."""
        self.above.line[:, column] = value
        self.ahead.push(column, value)


class BlockColumn:
    """A block with the caches for sampling; it computes the pixel in ``column`` of the current row."""

    def __init__(self, block: "PixelCnnBlock", width: int, like: Tensor) -> None:
        maps = block.down.in_channels - block.up.out_channels
        self.down, self.up = Conv1x1Cache(block.down, maps), Conv1x1Cache(block.up)
        self.masked = MaskedColumn(block.masked, width, like)
        self.column = 0

    def start_row(self, maps: Tensor | None) -> None:
        """Begin a row, given its maps of z where there are some."""
        self.down.start_row(maps)
        self.masked.start_row()

    def __call__(self, x: Float[Tensor, "batch width"], maps: list[Tensor]) -> Float[Tensor, "batch width"]:
        """The block's output at the pixel."""
        self.masked.push(self.column, F.elu(self.down(x, self.column), inplace=True))
        h = F.elu(self.masked.ahead.read(self.column))
        return F.elu(self.up(h).add_(x), inplace=True)


class PixelCnnColumns:
    """A residual PixelCNN in the middle of drawing images, see `autoregressive.ImageColumns`; its norms are fused."""

    def __init__(self, decoder: "PixelCnnDecoder", z: Float[Tensor, "batch latent"]) -> None:
        width = decoder.shape[2]
        self.first = MaskedColumn(decoder.first, width, z)
        self.opened = decoder.first.convolve_open(decoder.input(z)) if decoder.input.maps else None
        self.blocks, self.skips = (
            [BlockColumn(block, width, z) for block in group]  # type: ignore[arg-type]
            for group in (decoder.blocks, decoder.skips)
        )
        self.maps = [edge(z) for edge in decoder.edges]
        self.mix = Conv1x1Cache(decoder.mix, maps=decoder.mix.in_channels - decoder.mix.out_channels)
        self.output = decoder.output.weight.flatten(1).T.contiguous()

    def start_row(self, row: Int[Tensor, "1"]) -> None:
        """Begin a row of all layers."""
        self.first.start_row(0.0 if self.opened is None else self.opened.index_select(2, row))
        layers = [*self.blocks, *self.skips, self.mix]
        maps = [m.index_select(2, row) for m in self.maps] or [None] * len(layers)
        for layer, own in zip(layers, maps, strict=True):
            layer.start_row(own)  # type: ignore[attr-defined]

    def read(self, column: int) -> Float[Tensor, "batch channels"]:
        """The raw output at the next pixel."""
        for block in chain(self.blocks, self.skips):
            block.column = column
        h = run_blocks(self.blocks, self.skips, F.elu(self.first.ahead.read(column)), [])
        return F.elu(self.mix(h, column), inplace=True) @ self.output

    def push(self, column: int, pixel: Float[Tensor, "batch channels"]) -> None:
        """Feed the pixel's value to the first layer."""
        self.first.push(column, pixel)


Layer = Callable[[Tensor, list[Tensor]], Tensor]


def run_blocks(blocks: Iterable[Layer], skips: Iterable[Layer], h: Tensor, maps: list[Tensor]) -> Tensor:
    """Run the blocks in order, with a long skip from the input of the layer two before added to each block's input.

    Args:
        blocks: the layers after the first.
        skips: the blocks on the long skips, one fewer.
        h: output of the first layer.
        maps: maps of z, those of the blocks, then those of the skips; or none.
    """
    chain, bridges = list(blocks), list(skips)
    own = [maps[i : i + 1] for i in range(len(chain) + len(bridges))]
    hs = [h]
    for i, block in enumerate(chain):
        into = hs[-1] if i < 2 else hs[-1] + bridges[i - 2](hs[i - 2], own[len(chain) + i - 2])
        hs.append(block(into, own[i]))
    return hs[-1] + bridges[-1](hs[-3], own[-1]) if bridges else hs[-1]


HE2019 = (7,) * 5 + (5,) * 4 + (3,) * 4
HE2019_SMALL = (7, 7, 7, 5, 5, 3, 3)
Z_MAPS = 4


class PixelCnnDecoder(nn.Module):
    """p(x|z) with each pixel given z and the pixels before it; the channels of a pixel are independent given those.

        h_0 = ELU(BN(conv_A([x, maps of z])));  h_i = block_i(h_{i-1} + D_{i-3}(h_{i-3})), the D from i = 3 on;
        logits = W' ELU(BN(W (h_last + D(h_{last-2})))).

    Four maps of z, linear in it, are open: every pixel sees them in its whole window, so that all pixels depend on z.
    With the 13 kernels of `HE2019`, 28x28 and 32 latents there are 894,400 parameters, of which 569,216 are not masked;
    the baseline without latents has 778,368. With ``skip`` each of the 23 blocks and the head also see a map of z of
    their own beside their input: + 621,728 at that size. Activations are in place: hooks that keep a norm's output see
    it after the ELU (but for the last of a block), and torch refuses full backward hooks on such norms.

    Args:
        shape: ``(channels, height, width)`` of a datum.
        architecture: size of z, 0 for none; width, the channels of every layer; likelihood of pixels.
        skip: whether z enters every block and the head (Dieng et al. 2019, arXiv:1807.04863).
        kernels: side of each layer's window; the long skip from layer j has that of layer j + 1.
    Source: He et al. (2019), arXiv:1901.05534, authors' code, which differs from the paper's "gated PixelCNN": it is
        ungated and has the long skips. Deviations: logits instead of clamped probabilities; ``skip`` is ours, as the
        combination was not published.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        architecture: Architecture,
        skip: bool = False,
        kernels: tuple[int, ...] = HE2019,
    ) -> None:
        super().__init__()
        latent_dim, width = architecture.latent_dim, architecture.width
        self.shape = shape
        edge = 1 if skip and latent_dim else 0
        self.input = ZMaps(latent_dim, Z_MAPS if latent_dim else 0, shape)
        self.first = MaskedConv2d(shape[0], width, kernels[0], centre=False, open_channels=self.input.maps)
        self.norm: nn.Module = BatchNorm2d(width)
        self.blocks = nn.ModuleList(PixelCnnBlock(width, kernel, edge) for kernel in kernels[1:])
        self.skips = nn.ModuleList(PixelCnnBlock(width, kernel, edge) for kernel in kernels[1:-1])
        count = len(self.blocks) + len(self.skips) + 1
        self.edges = nn.ModuleList(ZMaps(latent_dim, edge, shape) for _ in range(count * edge))  # the head's last
        self.mix = nn.Conv2d(width + edge, width, 1, bias=False)
        self.mix_norm: nn.Module = BatchNorm2d(width)
        self.output = nn.Conv2d(width, shape[0], 1, bias=False)
        self.head = Head(architecture.likelihood, shape[0])

    def forward(self, z: Float[Tensor, "batch latent"], x: Tensor | None = None) -> Likelihood:
        """The likelihood p(x|z) of a batch of codes, teacher-forced on data x in [0, 1], without which it raises."""
        h = F.elu(self.norm(self.first(require_data(x), self.input(z) if self.input.maps else None)), inplace=True)
        maps = [edge(z) for edge in self.edges]
        h = run_blocks(self.blocks, self.skips, h, maps)
        h = F.elu(self.mix_norm(self.mix(append_maps(h, maps[-1:]))), inplace=True)
        likelihood: Likelihood = self.head(self.output(h))
        return likelihood

    @torch.no_grad()
    def generate(
        self, z: Float[Tensor, "batch latent"], noise: Tensor | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """Draw images in raster order, each pixel at the cost of one column of the network, with running statistics.

        ``noise`` are uniforms ``(batch, channels, height, width)``, or one image of them for all codes; None takes the
        likeliest value of each pixel.
        """
        drawn = None if noise is None else noise.to(z).expand(len(z), *self.shape)
        return autoregressive.draw_images(partial(PixelCnnColumns, self.folded()), self.head, self.shape, drawn, z)

    def folded(self) -> "PixelCnnDecoder":
        """A copy of the network in eval mode with its batch-norms fused into its convolutions, for inference only."""
        twin = shallow_copy(self)
        twin.norm, twin.mix_norm = fuse_norm(twin.first, twin.norm), fuse_norm(twin.mix, twin.mix_norm)
        for block in (*twin.blocks, *twin.skips):
            assert isinstance(block, PixelCnnBlock)
            layers = (block.down, block.masked, block.up)
            block.norms = nn.ModuleList(fuse_norm(*both) for both in zip(layers, block.norms, strict=True))
        return twin


def require_data(x: Tensor | None) -> Tensor:
    """The data that an autoregressive decoder is forced on, or a `ShapeError` where there are none."""
    if x is None:
        raise ShapeError(
            "this decoder is autoregressive: it needs the data x whose pixels come before each pixel",
            "Call decode(z, x) with data, or generate(z), which draws them.",
        )
    return x


he2019_decoder = partial(PixelCnnDecoder, kernels=HE2019)
he2019_small_decoder = partial(PixelCnnDecoder, kernels=HE2019_SMALL)


class ZMaps(nn.Module):
    """A number of feature maps of the size of the image, linear in z."""

    def __init__(self, latent_dim: int, maps: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.maps, self.size = maps, shape[1:]
        self.linear = nn.Linear(latent_dim, maps * math.prod(self.size)) if maps else None
        if self.linear is not None:
            nn.init.xavier_uniform_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch maps height width"]:
        """The maps of a batch of codes."""
        if self.linear is None:
            return z.new_zeros(z.shape[0], 0, *self.size)
        maps: Tensor = self.linear(z).reshape(-1, self.maps, *self.size)
        return maps


class PixelCnnBlock(nn.Module):
    """A residual bottleneck: 1x1 down to half the channels, a masked convolution, 1x1 up again, each with BN and ELU.

    ``maps`` is the number of maps of z beside the input of the first 1x1 convolution.
    """

    def __init__(self, width: int, kernel: int, maps: int) -> None:
        super().__init__()
        half = max(1, width // 2)
        self.down = convolution(width + maps, half, (1, 1))
        self.masked = MaskedConv2d(half, half, kernel, centre=True)
        self.up = convolution(half, width, (1, 1))
        self.norms = nn.ModuleList(BatchNorm2d(channels) for channels in (half, half, width))

    def forward(self, x: Float[Tensor, "batch width h w"], maps: list[Tensor]) -> Float[Tensor, "batch width h w"]:
        """Apply the block."""
        h = F.elu(self.norms[0](self.down(append_maps(x, maps))), inplace=True)
        h = F.elu(self.norms[1](self.masked(h)), inplace=True)
        return F.elu(self.norms[2](self.up(h)) + x, inplace=True)


def append_maps(x: Tensor, maps: list[Tensor]) -> Tensor:
    """x with maps of z appended to its channels."""
    return torch.cat([x, *maps], 1) if maps else x

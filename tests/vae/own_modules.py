"""Modules as a user writes them, with torch alone: some keep the promise of `AutoencoderModule`, others break it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lso.vae.models.dropout import Dropout


class Pictures(nn.Module):
    """Images of 8x8, with dropout, running statistics and weights of encoder and decoder apart."""

    steps: Tensor

    def __init__(self, latent_dim: int = 3, width: int = 12, dropout: float = 0.1) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        first = nn.Sequential(nn.Linear(64, width), nn.BatchNorm1d(width), nn.ELU(), nn.Dropout(dropout))
        self.to_code = nn.Sequential(nn.Flatten(), first, nn.Linear(width, 2 * latent_dim))
        self.to_image = nn.Sequential(nn.Linear(latent_dim, width), nn.ELU(), nn.Linear(width, 64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            self.steps += 1
        mean, log_var = self.to_code(x).chunk(2, -1)
        return mean, log_var

    def decode(self, z: Tensor) -> Tensor:
        raw: Tensor = self.to_image(z)
        return raw.view(len(z), 1, 8, 8)


class DropoutInDecode(Pictures):
    """Draws random numbers in decode, too."""

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(F.dropout(z, 0.2, self.training))


class DropoutOfLso(Pictures):
    """Drops in decode by random numbers from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = Dropout(0.2, (3,))

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(self.dropout(z))


class SharedLayer(Pictures):
    """Encoder and decoder share a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(3, 3, bias=False)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = super().encode(x)
        return self.both(mean), log_var

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z @ self.both.weight)


class MaskedConv(nn.Conv2d):
    """A convolution that sees the pixels before it in raster order."""

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones_like(self.weight)
        mask[..., 1, 1:], mask[..., 2:, :] = 0, 0
        return F.conv2d(x, self.weight * mask, self.bias, padding=1)


class Pixels(Pictures):
    """Images by an autoregressive decoder."""

    autoregressive = True

    def __init__(self, latent_dim: int = 3) -> None:
        super().__init__(latent_dim)
        self.before = MaskedConv(1, 4, 3)
        self.out = nn.Conv2d(4, 1, 1)

    def decode(self, z: Tensor, x: Tensor) -> Tensor:  # type: ignore[override]
        raw: Tensor = self.out(F.elu(self.before(x)))
        return raw + super().decode(z)


class Words(nn.Module):
    """Sequences by recurrent networks whose embedding is the output layer, too."""

    autoregressive = True

    def __init__(self, shape: tuple[int, int], latent_dim: int = 3, width: int = 8) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.embedding = nn.Embedding(shape[1], width)
        self.reader = nn.GRU(width, width, batch_first=True)
        self.to_code = nn.Linear(width, 2 * latent_dim)
        self.start = nn.Linear(latent_dim, width)
        self.writer = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, shape[1], bias=False)
        self.out.weight = self.embedding.weight
        self.dropout = nn.Dropout(0.1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        soft = x.is_floating_point()
        last = ((x.sum(-1) > 0) if soft else (x != 0)).sum(1) - 1
        outputs, _ = self.reader(x @ self.embedding.weight if soft else self.embedding(x))
        mean, log_var = self.to_code(outputs[torch.arange(len(x)), last]).chunk(2, -1)
        return mean, log_var

    def decode(self, z: Tensor, x: Tensor) -> Tensor:
        outputs, _ = self.writer(self.dropout(self.embedding(x)), self.start(z)[None])
        logits: Tensor = self.out(outputs)
        return logits


class WordsByStep(Words):
    """The same with methods that advance token by token."""

    def begin(self, z: Tensor) -> tuple[Tensor, ...]:
        return (self.start(z),)

    def advance(self, state: tuple[Tensor, ...], token: Tensor, z: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        outputs, last = self.writer(self.embedding(token)[:, None], state[0][None].contiguous())
        return self.out(outputs[:, 0]), (last[0],)


class Bag(Words):
    """Sequences whose tokens are independent given z."""

    autoregressive = False

    def __init__(self, shape: tuple[int, int], latent_dim: int = 3) -> None:
        super().__init__(shape, latent_dim)
        self.size = (shape[0] - 1, shape[1])
        self.all = nn.Linear(latent_dim, self.size[0] * self.size[1])

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        logits: Tensor = self.all(z)
        return logits.view(len(z), *self.size)


class HardWords(Words):
    """Its encoder takes token numbers alone."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().encode(x.long()) if not x.is_floating_point() else super().encode(self.embedding(x))


class LastActivations(Pictures):
    """Keeps its last codes to look at, which does no harm."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Any = None

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.seen = super().encode(x)
        return self.seen  # type: ignore[no-any-return]


# --- broken promises --------------------------------------------------------------------------------------------------


class NoDecode(nn.Module):
    latent_dim = 3
    layer = nn.Linear(1, 1)

    def encode(self, x: Tensor) -> Tensor:
        return x


class NoLatents(Pictures):
    def __init__(self) -> None:
        super().__init__()
        del self.latent_dim


class OneTensor(Pictures):
    def encode(self, x: Tensor) -> Any:
        return super().encode(x)[0]


class FlatImages(Pictures):
    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z).flatten(1)


class NotFinite(Pictures):
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = super().encode(x)
        return mean, (log_var - log_var).log() * 0


class Counter(Pictures):
    """Counts its calls outside of its state_dict."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return super().encode(x)


class LooseBuffer(Pictures):
    """Averages into a buffer that is not stored."""

    average: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(3), persistent=False)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = super().encode(x)
        if self.training:
            self.average.mul_(0.9).add_(0.1 * mean.detach().mean(0) + 1)
        return mean, log_var


class NumpyNoise(Pictures):
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = super().encode(x)
        return (mean + float(np.random.default_rng().normal()), log_var) if self.training else (mean, log_var)


class NoisyEval(Pictures):
    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z) + torch.randn(1)


class BatchStatistics(Pictures):
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = super().encode(x)
        return mean - mean.mean(0), log_var


class Peeking(Pixels):
    def decode(self, z: Tensor, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().decode(z, x) + x


class Double(Pictures):
    def __init__(self) -> None:
        super().__init__()
        self.double()


class NoWeights(nn.Module):
    latent_dim = 3

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1)[:, :3], x.flatten(1)[:, :3]

    def decode(self, z: Tensor) -> Tensor:
        return z.new_zeros(len(z), 1, 8, 8)


class NeedsMore(Pictures):
    def __init__(self, depth: int) -> None:
        super().__init__(depth)


class Fails(Pictures):
    def __init__(self) -> None:
        super().__init__()
        raise RuntimeError("no such file")


class FailsLater(Pictures):
    missing: Any

    def decode(self, z: Tensor) -> Tensor:
        return self.missing(z)  # type: ignore[no-any-return]

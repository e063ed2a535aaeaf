"""The published LSTM models: sizes, wiring and initialization. Laws of all sequence models are in test_sequences."""

import pytest
import torch
from torch import Tensor, nn

from lso.vae.config.architectures import architecture
from lso.vae.errors import UsageError
from lso.vae.models.lstm import LstmDecoder
from lso.vae.models.vae import VAE, build
from tests.vae.sequence_models import LATENT, VARIANTS, codes, forced, padded, same, tiny


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# Section 2 and 5 of the reference page; the encoder of Kim et al. has the biases of its last layer beside He's.
@pytest.mark.parametrize(
    ("name", "latent_dim", "skip", "encoder", "decoder"),
    [
        ("he2019-text", 32, False, 16_605_184, 37_183_488),
        ("he2019-text", 0, False, 0, 37_019_648),
        ("kim2018-text", 32, True, 16_605_184 + 64, 37_844_512),
    ],
)
def test_parameters_are_as_published(name: str, latent_dim: int, skip: bool, encoder: int, decoder: int) -> None:
    with torch.device("meta"):
        made = VAE(architecture(name, latent_dim=latent_dim), skip, (80, 20_000))
    assert (count(made.encoder), count(made.decoder)) == (encoder, decoder)


@pytest.mark.parametrize(
    ("name", "weights", "embeddings"),
    [
        ("he2019-text", (-0.01, 0.01), (-0.1, 0.1)),
        ("he2019-toy-offset", (0.0, 0.04), (0.0, 0.2)),
        ("kim2018-text", (-0.1, 0.1), (-0.1, 0.1)),
    ],
)
def test_initial_weights_fill_their_intervals(
    name: str, weights: tuple[float, float], embeddings: tuple[float, float]
) -> None:
    made = build(architecture(name, width=40, embedding=30, layers=2), True, (9, 50))
    for place, p in made.named_parameters():
        low, high = embeddings if ".embedding." in place else weights
        assert low <= p.min() and p.max() <= high
        # The mean of n uniforms deviates by (high - low) / sqrt(12 n).
        assert abs(p.mean() - (low + high) / 2) < 5 * (high - low) / (12 * p.numel()) ** 0.5


def test_codes_make_the_first_state_as_published() -> None:
    he, kim = tiny("lstm of 2 layers"), tiny("kim2018-text")
    z = codes(he, 4)
    state = he.stepwise.begin(z)
    assert len(state) == 4 and not state[0].any() and not state[1].any()  # z makes that of the last layer
    assert torch.equal(state[2], torch.tanh(state[3])) and state[3].any()
    assert not any(part.any() for part in he.stepwise.begin(torch.zeros_like(z)))  # no bias
    first, cell = kim.stepwise.begin(z)
    assert not cell.any() and first.abs().max() > 1
    assert kim.stepwise.begin(torch.zeros_like(z))[0].any()


def test_the_edition_of_version_0_1_begins_and_drops_everywhere() -> None:
    """The authors' code has one map of z, to the last layer's first state, and no dropout between layers."""
    for edition, starts, dropouts in ((0, 3, 4), (1, 1, 2)):
        made = build(architecture("kim2018-text", 2, width=8, embedding=5, layers=3, edition=edition), False, (9, 12))
        assert isinstance(made.decoder, LstmDecoder)
        assert (len(made.decoder.starts), len(made.decoder.dropouts)) == (starts, dropouts)
        first = made.stepwise.begin(torch.ones(1, 2))[::2]
        assert [bool(part.any()) for part in first] == [edition == 0, edition == 0, True]


def test_skips_reach_further_layers_and_the_output() -> None:
    plain, skip = tiny("lstm of 2 layers"), tiny("lstm of 2 layers", skip=True)
    widths = []
    for made in (plain, skip):
        assert isinstance(made.decoder, LstmDecoder)
        inputs = [layer.get_parameter("weight_ih_l0").shape[1] for layer in made.decoder.layers]
        widths.append((*inputs, made.decoder.head.in_features))
    assert widths == [(5 + LATENT, 8, 8), (5 + LATENT, 8 + LATENT, 8 + LATENT)]


def test_a_decoder_is_the_recurrence_of_the_textbook() -> None:
    made, x = tiny("lstm of 2 layers", skip=True).eval(), padded([[1, 4, 6, 5, 2]])
    decoder, z = made.decoder, codes(made, 1)
    assert isinstance(decoder, LstmDecoder)
    state = list(decoder.begin(z))
    for t in range(4):
        h = torch.cat([decoder.embedding.weight[x[:, t]], z], -1)
        for i, layer in enumerate(decoder.layers):
            h, state[2 * i + 1] = cell(layer, torch.cat([h, z], -1) if i else h, state[2 * i], state[2 * i + 1])
            state[2 * i] = h
        wanted = torch.cat([h, z], -1) @ decoder.head.weight.T
        same(forced(made, z, x)[:, t], wanted)


def cell(layer: nn.Module, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Output and cell after one input."""
    weights = [layer.get_parameter(f"{kind}_l0") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    i, f, g, o = (x @ weights[0].T + h @ weights[1].T + weights[2] + weights[3]).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


@pytest.mark.gpu
def test_gradients_are_to_be_had_in_eval_mode_on_a_gpu() -> None:
    made = tiny("lstm of 2 layers").eval().cuda()
    z, x = codes(made, 2).cuda().requires_grad_(), padded([[1, 4, 2], [1, 4, 2]]).cuda()
    (gradient,) = torch.autograd.grad(made.decode(z, x).log_prob(x).sum() + made.encode(x).mean.sum(), z)
    assert bool(gradient.any())


def test_sizes_out_of_range_are_refused() -> None:
    for sizes, text in (
        ({"layers": 0}, "layers >= 1"),
        ({"dropout": 1.0}, "dropout < 1"),
        ({"embedding": 0}, "embedding >= 1"),
    ):
        with pytest.raises(UsageError, match=text):
            architecture("lstm", **sizes)
    assert all(architecture(**sizes) for sizes in VARIANTS.values())

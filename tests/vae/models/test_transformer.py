"""The transformer pair against torch's own layers, and what is its own. Further laws are in test_sequences."""

import pytest
import torch
from torch import Tensor, nn

from lso.vae.config.architectures import HEADS, architecture
from lso.vae.errors import UsageError
from lso.vae.models.transformer import TransformerBlock, TransformerDecoder, sinusoids
from lso.vae.models.vae import build
from lso.vae.utils.random import generator
from tests.vae.sequence_models import LATENT, WORDS, codes, forced, padded, same, tiny


def torchs(block: TransformerBlock, width: int) -> nn.TransformerEncoderLayer:
    """Torch's pre-norm layer with the weights of a block."""
    layer = nn.TransformerEncoderLayer(
        width, HEADS, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    pairs = [
        (layer.linear1, block.widen),
        (layer.linear2, block.narrow),
        (layer.self_attn.out_proj, block.merge),
        (layer.norm1, block.norms[0]),
        (layer.norm2, block.norms[1]),
    ]
    for theirs, ours in pairs:
        theirs.load_state_dict(ours.state_dict())
    layer.self_attn.in_proj_weight.data = block.project.weight.data
    assert layer.self_attn.in_proj_bias is not None
    layer.self_attn.in_proj_bias.data = block.project.bias.data
    return layer


def test_a_block_is_torchs_pre_norm_layer() -> None:
    block = TransformerBlock(16, 0.0).double()
    for i, p in enumerate(block.parameters()):
        p.data = torch.randn(p.shape, generator=generator(i, "block"), dtype=torch.float64) / 2
    h = torch.randn(3, 6, 16, generator=generator(0, "h"), dtype=torch.float64)
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    wanted = torchs(block, 16)(h, src_mask=~causal)
    found, (key, value) = block(h, causal[None, None])
    same(found, wanted)
    assert key.shape == value.shape == h.shape


def test_positions_differ_everywhere_and_move_with_their_number() -> None:
    like = torch.zeros(1, 16, dtype=torch.float64)
    table = sinusoids(0, 4000, like)
    same(sinusoids(3990, 10, like), table[3990:])
    assert torch.cdist(table[:2000], table[:2000]).add(torch.eye(2000)).min() > 0.05
    same(table.square().sum(1), torch.full((4000,), 8.0, dtype=torch.float64))


def test_longer_sequences_than_the_models_own_are_read_and_written() -> None:
    made = tiny("transformer", longest=8).eval()
    x = padded([[1, *[4, 5, 6] * 30, 2]])
    z = codes(made, 1)
    assert bool(made.decode(z, x).log_prob(x).isfinite()) and bool(made.encode(x).mean.isfinite().all())
    state = made.stepwise.begin(z)
    for token in x[0, :20]:
        logits, state = made.stepwise.advance(state, token[None], z)
    same(logits, forced(made, z, x)[:, 19])


def test_one_token_costs_one_column() -> None:
    made = tiny("transformer").eval()
    z, columns = codes(made, 2), []
    for block in made.decoder.get_submodule("blocks").children():
        block.register_forward_hook(lambda module, given, out: columns.append(given[0].shape[1]))
    state = made.stepwise.begin(z)
    for _ in range(5):
        _, state = made.stepwise.advance(state, torch.tensor([4, 5]), z)
    assert columns == [1] * 10 and all(part.shape == (2, 5, 8) for part in state)


def test_codes_enter_as_the_skip_says() -> None:
    for skip, entries in ((False, 1), (True, 3)):
        decoder = tiny("transformer", skip).decoder
        assert isinstance(decoder, TransformerDecoder)
        assert [tuple(entry.get_parameter("weight").shape) for entry in decoder.entries] == [(8, LATENT)] * entries


def test_initial_outputs_are_of_ordinary_size() -> None:
    made = build(architecture("transformer", latent_dim=8), True, (40, 50)).eval()
    x = torch.randint(4, 50, (16, 40), generator=generator(0, "x"))
    z = torch.randn(16, 8, generator=generator(0, "z"))
    logits, q = forced(made, z, x), made.encode(x)
    assert 0.05 < logits.std() < 1 and q.mean.abs().max() < 2 and q.log_var.abs().max() < 2
    embedding = made.decoder.get_parameter("embedding.weight")
    assert embedding.std().item() == pytest.approx(128**-0.5, rel=0.05)


def test_its_embeddings_have_its_width() -> None:
    assert architecture("transformer", width=64).embedding == 0
    for sizes, text in (({"embedding": 32}, "embedding 0"), ({"width": 30}, "divisible by 4")):
        with pytest.raises(UsageError, match=text):
            architecture("transformer", **sizes)  # type: ignore[arg-type]


def test_a_few_steps_learn_a_rule_through_the_code() -> None:
    """x repeats one word, which only the code tells: teacher-forced NLL falls below that without it, log 3."""
    made = build(architecture("transformer", latent_dim=2, width=16, layers=1, dropout=0.0), False, (4, WORDS))
    x: Tensor = torch.tensor([[1, word, word, 2] for word in (4, 5, 6)])
    optimizer = torch.optim.Adam(made.parameters(), lr=0.02)
    for _ in range(40):
        loss = -made.decode(made.encode(x).mean, x).log_prob(x).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert loss.item() < 0.5 < torch.tensor(3.0).log().item()

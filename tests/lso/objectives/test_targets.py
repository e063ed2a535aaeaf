"""Autoregressive decoders in a search: what they are forced on, and that each code stays on its own."""

import pytest
import torch
from torch import Tensor

from lso.analysis.latent_dimensions import decode_on_cpu
from lso.analysis.summary import search_summary
from lso.decoders.decoder import Decoder
from lso.gradient.initial_points import make_starts
from lso.gradient.search import minimize
from lso.objectives.latent_objective import CONTEXTS, LatentObjective
from lso.vae.config.architectures import ARCHITECTURES, architecture
from lso.vae.config.methods import method
from lso.vae.errors import UsageError
from lso.vae.inference.posterior import posterior
from lso.vae.models.vae import VAE, build
from tests.lso.example_decoders import draws
from tests.vae.small import small_model

NETWORKS = [name for name, spec in ARCHITECTURES.items() if spec.autoregressive and spec.kind == "image"]


def model(name: str = "he2019-small", skip: bool = False) -> VAE:
    return build(architecture(name, latent_dim=3, width=4), skip, (1, 8, 8)).double().eval()


def images(n: int = 3) -> Tensor:
    return (torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) < 0.4).double()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("skip", [False, True])
def test_targets_are_decoded_teacher_forced_each_on_its_own(name: str, skip: bool) -> None:
    vae, x, z = model(name, skip), images(), draws(3, 2, 3)
    objective = LatentObjective.reconstruct(Decoder(vae), x, "nll", prior_weight=1.0)
    twin = torch.stack([-vae.decode(z[:, s], x).log_prob(x) + 0.5 * z[:, s].square().sum(-1) for s in range(2)], 1)
    torch.testing.assert_close(objective(z), twin, rtol=1e-10, atol=1e-10)
    pairs = torch.tensor([[2, 0], [0, 1]])
    torch.testing.assert_close(objective.take(pairs)(z[pairs[:, 0], pairs[:, 1]]), twin[[2, 0], [0, 1]])
    chunked = LatentObjective.reconstruct(Decoder(vae, batch_size=2), x, "nll", prior_weight=1.0)
    torch.testing.assert_close(chunked(z), twin, rtol=1e-10, atol=1e-10)
    seen = decode_on_cpu(objective, z)
    torch.testing.assert_close(seen[1, 1], vae.reconstruct(z[1, 1:], x[1:2])[0].detach())


SLOW = ("he2019", "kim2018-masked", "dieng2019-masked")  # whose small or open kin are among the others


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in NETWORKS])
def test_without_a_target_the_context_is_the_models_own_draw(name: str) -> None:
    vae, z = model(name), draws(4, 3)
    decoder = Decoder(vae)
    own = decoder.own(z)
    assert bool(((own == 0) | (own == 1)).all())
    torch.testing.assert_close(decoder(z), vae.reconstruct(z, own), rtol=0, atol=0)
    torch.testing.assert_close(decoder(z)[2:3], decoder(z[2:3]), rtol=1e-10, atol=1e-12)
    assert not [finding for finding in decoder.check() if finding.serious]


def test_contexts_are_target_own_and_blank() -> None:
    vae, x, z = model(), images(), draws(3, 1, 3)
    found = {}
    for context in CONTEXTS:
        objective = LatentObjective.reconstruct(Decoder(vae), x, "sse", context=context)
        given = {"target": x, "own": objective.decoder.own(z[:, 0]), "blank": torch.zeros_like(x)}[context]
        found[context] = objective(z)[:, 0]
        twin = (vae.reconstruct(z[:, 0], given) - x).square().sum((1, 2, 3))
        torch.testing.assert_close(found[context], twin.detach())
        _, gradient = objective.take(torch.arange(3)).loss_and_grad(z[:, 0])
        assert gradient.isfinite().all() and gradient.any()
    assert len({tuple(value.tolist()) for value in found.values()}) == 3
    with pytest.raises(UsageError, match="Did you mean 'blank'"):
        LatentObjective.reconstruct(Decoder(vae), x, context="blnk")


def test_factorised_decoders_have_no_context() -> None:
    vae = build(architecture("mlp", latent_dim=3, width=8), False, (1, 8, 8)).double()
    values = [LatentObjective.reconstruct(Decoder(vae), images(), context=c)(draws(3, 1, 3)) for c in CONTEXTS]
    assert torch.equal(values[0], values[1]) and torch.equal(values[0], values[2])


def test_a_search_through_an_autoregressive_decoder_ends_with_its_report_numbers() -> None:
    vae, x = model(), images()
    decoder = Decoder(vae)
    objective = LatentObjective.reconstruct(decoder, x, "nll", prior_weight=1.0)
    result = minimize(objective, make_starts(["mean", "prior"], objective.space, decoder, x, 2), max_steps=30)
    assert (result.value <= result.value0 + 1e-9).all()
    summary = search_summary(result)
    best = summary.decoded[torch.arange(3), result.best]
    torch.testing.assert_close(best, vae.reconstruct(result.best_z, x).detach(), rtol=1e-9, atol=1e-9)
    assert len(result.evaluations()) == 6


@pytest.mark.parametrize("name", ["svi", "sa-vae", "vae"])
def test_codes_of_targets_are_those_of_the_models_own_inference(name: str) -> None:
    vae = small_model(method(name)).eval()
    x = images().float()
    code = Decoder(vae).code_means(x)
    assert code is not None and torch.equal(code, posterior(vae, x).mean)


def test_a_baseline_without_latents_cannot_be_searched() -> None:
    baseline = build(architecture("he2019-small", latent_dim=0, width=4), False, (1, 8, 8))
    with pytest.raises(UsageError, match=r"without latents, so there is nothing to search\nTrain a VAE"):
        Decoder(baseline)

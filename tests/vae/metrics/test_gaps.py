"""Gaps in a linear-Gaussian world, where the posterior, its mean-field twin and the evidence are known."""

import math

import pytest
import torch
from torch import Tensor

from lso.vae.config.components import Refinement, SemiAmortized, Svi
from lso.vae.config.methods import method
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.errors import UsageError
from lso.vae.inference.posterior import count_draws, infer, posterior
from lso.vae.metrics import inference_gap as gaps_module
from lso.vae.metrics.inference_gap import best_gaussian, gaps, mirrored, neg_elbo
from lso.vae.metrics.passes import pass_size
from lso.vae.utils.random import generator
from tests.vae.linear_gaussian import SCALE, SHAPE, LinearDecoder, World, linear_gaussian
from tests.vae.small import small_model

NATS = [0.2, 0.7, 1.5]


def correlated() -> tuple[World, Tensor]:
    """A world whose decoder columns are not orthogonal, and the precision of its exact posterior."""
    world = linear_gaussian(NATS)
    mix = torch.tensor([[1.0, 0.5, 0.2], [0.0, 1.0, -0.6], [0.3, 0.0, 1.0]], dtype=torch.float64)
    weight = world.weight @ mix
    world.model.decoder = LinearDecoder(weight, world.bias)
    twin = World(world.model, weight, world.bias, world.information, 0.0, 1.0)
    return twin, torch.eye(3, dtype=torch.float64) + weight.T @ weight / SCALE**2


def exact_mean(world: World, precision: Tensor, x: Tensor) -> Tensor:
    found: Tensor = torch.linalg.solve(precision, world.weight.T @ (x.flatten(1) - world.bias).T / SCALE**2)
    return found.T


def test_refinement_finds_the_mean_field_optimum() -> None:
    """Exact mean and variances 1/L_ii, L the precision of the posterior; with orthogonal columns it is exact.

    Mirrored draws leave no noise in the slope of the mean. That of the log-variance has some: 100 codes and 300 steps
    leave deviations of 0.02 there (measured), which cost 1/4 of their squares in nats."""
    for world, precision in (correlated(), (linear_gaussian(NATS), None)):
        if precision is None:
            precision = torch.diag(torch.exp(2 * world.information))
        x = world.data(6, generator(0, "x"))
        start = DiagonalGaussian(*torch.zeros(2, 6, 3, dtype=torch.float64))
        q, moved = best_gaussian(world.model, x, start, generator(0, "g"), steps=300, samples=100)
        torch.testing.assert_close(q.mean, exact_mean(world, precision, x), rtol=0, atol=0.05)
        off = q.log_var + precision.diagonal().log()
        assert off.abs().max() < 0.06 and 0.5 * (off.exp() - 1 - off).sum(-1).max() < 1e-3
        assert abs(moved.mean()) < 0.05


def test_a_refinement_that_was_cut_short_says_so() -> None:
    world = linear_gaussian(NATS, shift=3.0)
    found = [gaps(world.model, world.data(8, generator(0, "x")), steps=n, samples=50, iw_samples=2) for n in (3, 300)]
    assert found[0].moved > 1 and abs(found[1].moved) < 0.05


def test_approximation_gap_is_that_of_the_correlations() -> None:
    """1/2 (sum log L_ii - log det L)."""
    world, precision = correlated()
    x = world.data(8, generator(0, "x"))
    found = gaps(world.model, x, steps=300, samples=50, iw_samples=4000)
    expected = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision)).item()
    # log p(x|z) has deviation 1 over pairs of codes: a standard error of 1 / sqrt(2,000 pairs * 8 data) = 0.008. The
    # importance weights have long tails.
    assert expected > 0.3 and found.nll == pytest.approx(-world.log_evidence(x).mean().item(), abs=0.05)
    assert found.refined.neg_elbo + world.log_evidence(x).mean().item() == pytest.approx(expected, abs=0.024)
    assert found.approximation == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize(("shift", "inflate"), [(0.0, 1.0), (0.7, 1.0), (0.3, 2.0)])
def test_orthogonal_columns_leave_the_amortization_gap_alone(shift: float, inflate: float) -> None:
    """0 for the optimal encoder, KL(q || posterior) for a spoiled one; no approximation gap."""
    world = linear_gaussian(NATS, shift=shift, inflate=inflate)
    x = world.data(8, generator(0, "x"))
    found = gaps(world.model, x, steps=300, samples=50, iw_samples=4000)
    assert found.approximation == pytest.approx(0, abs=0.024)  # standard error 0.008, as above
    assert found.amortization == pytest.approx(world.gap(), abs=0.024)
    assert found.inference == pytest.approx(found.approximation + found.amortization, abs=1e-12)
    assert found.nll == found.refined.iw_nll == pytest.approx(-world.log_evidence(x).mean().item(), abs=1e-3)
    assert found.own.neg_elbo == pytest.approx(found.nll + world.gap(), abs=0.024)


def test_svi_of_training_approaches_the_same_optimum() -> None:
    world, precision = correlated()
    x = world.data(4, generator(0, "x"))
    chosen = Svi(refinement=Refinement(steps=1500, step_size=0.006, momentum=0.5, clip=0.0, batch=1))
    noise = torch.randn(count_draws(chosen), 4, 3, generator=generator(0, "noise"), dtype=torch.float64)
    q = infer(chosen, world.model, x, noise, 1.0)
    torch.testing.assert_close(q.mean, exact_mean(world, precision, x), rtol=0, atol=0.15)
    torch.testing.assert_close(q.log_var, -precision.diagonal().log().expand(4, 3), rtol=0, atol=0.25)


def test_elbo_of_a_bernoulli_decoder_is_that_of_plain_draws() -> None:
    """Draws of one length, whose second moments are right, are off by more than a nat here."""
    model = small_model(method("vae")).double().eval().requires_grad_(False)
    for p in model.decoder.parameters():
        p.mul_(3)
    x = (torch.rand(20, *SHAPE, generator=generator(0, "x"), dtype=torch.float64) < 0.4).double()
    q, log_p = model.encode(x), []
    noise = torch.randn(5000, 20, 4, generator=generator(0, "plain"), dtype=torch.float64)
    for z in torch.split(q.sample(noise), 100):
        log_p.append(model.decode(z.flatten(0, 1)).log_prob(x.repeat(100, 1, 1, 1)).reshape(100, 20))
    each = (q.kl(model.prior, q.mean).sum(-1) - torch.cat(log_p)).mean(1)
    error = each.std().item() / math.sqrt(len(each))
    found = neg_elbo(model, x, q, mirrored(5001, q.mean, generator(0, "mirrored"))).mean()
    assert abs(found - each.mean()) < 3 * math.sqrt(2) * error < 0.5  # pairs are no worse than plain draws
    assert gaps(model, x, steps=1, iw_samples=2000).own.neg_elbo == pytest.approx(each.mean().item(), abs=0.6)


def test_draws_come_in_pairs_and_are_not_of_one_length() -> None:
    noise = mirrored(9, torch.zeros(400, 3, dtype=torch.float64), generator(0, "g"))
    assert noise.shape == (9, 400, 3) and torch.equal(noise[:8:2], -noise[1:8:2])
    assert torch.equal(noise[:4], mirrored(4, noise[0], generator(0, "g")))
    lengths = noise.square().sum(-1)  # chi-square of 3: variance 6, with 2,000 independent ones
    assert lengths.mean().item() == pytest.approx(3, abs=0.17) and lengths.var().item() == pytest.approx(6, abs=1)


def test_blocks_have_draws_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model, found = small_model(method("svi", steps=1, step_size=1e-9)), []
    monkeypatch.setattr(gaps_module, "posterior", lambda *args: found.append(posterior(*args)) or found[-1])  # type: ignore[func-returns-value]
    gaps(model, torch.zeros(100, *SHAPE), steps=1, iw_samples=2)
    assert len(found) == 2 and not torch.isclose(found[0].mean, found[1].mean).any()


def test_weights_modes_and_flags_are_left_alone_and_blocks_do_not_matter() -> None:
    model = small_model(method("vae"), "he2019-small", 3, width=4).double()
    model.decoder.requires_grad_(False)
    x = (torch.rand(52, *SHAPE, generator=generator(0, "x"), dtype=torch.float64) < 0.4).double()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    decoded: list[int] = []
    model.decoder.register_forward_hook(lambda module, args, result: decoded.append(len(args[0])))
    found = gaps(model, x, steps=3, samples=4, iw_samples=9)
    assert max(decoded) <= pass_size(model) == 100  # codes in a pass,
    assert sum(decoded) == 52 * (3 * 4 + 2 * (9 + 9))  # and in all: of the refinement, two ELBOs and two estimates
    assert model.training and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.encoder.parameters())
    assert not any(p.requires_grad for p in model.decoder.parameters())
    assert found.n == 52 and math.isfinite(found.inference) and "amortization" in found.to_json()
    with pytest.raises(UsageError, match="has no gaps"):
        gaps(small_model(method("pixelcnn")), x.float())


def test_another_inference_is_reported_beside_its_encoder() -> None:
    world = linear_gaussian(NATS, shift=0.7)
    world.model.inference = SemiAmortized(
        refinement=Refinement(steps=100, step_size=0.01, momentum=0.5, clip=0.0, batch=1)
    )
    found = gaps(world.model, world.data(8, generator(0, "x")), steps=300, samples=6, iw_samples=4000)
    assert found.encoder is not None
    assert found.refined.neg_elbo < found.own.neg_elbo < found.encoder.neg_elbo
    assert found.encoder.neg_elbo - found.refined.neg_elbo == pytest.approx(world.gap(), abs=0.03)

"""Metrics against closed forms: the linear-Gaussian world, hand-made posteriors and invariances."""

import json
import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from lso.vae.config.architectures import Architecture
from lso.vae.config.methods import method
from lso.vae.distributions.gaussian import DiagonalGaussian, normal_log_prob
from lso.vae.errors import UsageError
from lso.vae.metrics import evaluation as metrics_module
from lso.vae.metrics.active_units import is_active, mean_variance, redraw_rise
from lso.vae.metrics.evaluation import (
    Metrics,
    decoder_use,
    evaluate_split,
    kl_per_dimension,
    negative_elbo,
    reconstruction,
    reencoding_error,
    validate,
)
from lso.vae.metrics.importance import importance_nll, log_importance_weights
from lso.vae.metrics.information import aggregate_kl, log_mixture, log_mixture_within, mutual_information
from lso.vae.models.vae import VAE, build
from tests.vae.importance import importance_bound
from tests.vae.linear_gaussian import linear_gaussian
from tests.vae.small import small_model

WRONG = {"shift": 0.4, "inflate": 1.5}  # the deliberately wrong encoder of the acceptance list
NATS = [1.0, 0.6, 0.3, 0.1]


def world_weights(world: Any, x: Tensor, noise: Tensor) -> Tensor:
    """Log importance weights under the encoder of a linear-Gaussian world."""
    return log_importance_weights(world.model.decode, world.model.prior, x, world.model.encode(x), noise)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def standard_error(values: Tensor) -> float:
    return values.std().item() / math.sqrt(values.numel())


def posteriors(n: int, variance: float, latent: int, seed: int) -> tuple[DiagonalGaussian, Tensor]:
    """Posteriors N(mu, v), mu ~ N(0, 1 - v): their mixture is the prior, the MI -d/2 log v; with one code each."""
    mean = math.sqrt(1 - variance) * normal(n, latent, seed=seed)
    q = DiagonalGaussian(mean, torch.full_like(mean, math.log(variance)))
    return q, q.sample(normal(n, latent, seed=seed + 1))


@pytest.fixture(scope="module")
def digits() -> Tensor:
    """130 of scikit-learn's digits, in double: not a multiple of any batch size used."""
    from sklearn.datasets import load_digits

    return torch.from_numpy(load_digits().images[:130] / 16)[:, None]


@pytest.fixture
def model() -> VAE:
    return build(Architecture(latent_dim=6, width=32), False, (1, 8, 8), seed=1).double()


# --- evidence and its bounds ----------------------------------------------------------------------


@torch.no_grad()
def test_exact_encoder_attains_the_evidence_at_every_count() -> None:
    # All log-weights of a datum are equal, whatever the noise: any count, divisible or not, gives log p(x) exactly.
    world = linear_gaussian(NATS)
    x = world.data(7, seeded(0))
    q = world.model.encode(x)
    for samples, chunk in ((1, 1), (7, 3), (5, 100)):
        nll = importance_nll(world.model, x, q, seeded(1), samples=samples, chunk=chunk)
        torch.testing.assert_close(-nll, world.log_evidence(x), rtol=1e-12, atol=1e-10)


@torch.no_grad()
def test_one_sample_misses_the_evidence_by_the_known_kl() -> None:
    world = linear_gaussian(NATS, **WRONG)  # gap 0.701 nats
    x = world.data(50, seeded(2))
    log_weight = log_importance_weights(
        world.model.decode, world.model.prior, x, world.model.encode(x), normal(2000, 50, 4, seed=3)
    )
    missing = world.log_evidence(x)[:, None] - log_weight  # one distribution for all x: 100,000 draws
    assert abs(missing.mean() - world.gap()) < 3 * standard_error(missing)


@torch.no_grad()
def test_negative_elbo_exceeds_the_evidence_by_the_known_kl() -> None:
    world = linear_gaussian(NATS, **WRONG)
    x = world.data(50_000, seeded(4))
    q = world.model.encode(x)
    likelihood = world.model.decode(q.sample(normal(*q.mean.shape, seed=5)))
    over = negative_elbo(reconstruction(likelihood, x), q) + world.log_evidence(x)
    assert abs(over.mean() - world.gap()) < 3 * standard_error(over)


@torch.no_grad()
def test_many_samples_reach_the_evidence_within_three_standard_errors() -> None:
    world, n, samples = linear_gaussian(NATS, **WRONG), 100, 5000
    x = world.data(n, seeded(6))
    nll = importance_nll(world.model, x, world.model.encode(x), seeded(7), samples=samples)
    error = (nll + world.log_evidence(x)).mean().item()
    # Delta method: log of a mean of K weights has variance Var(w / p(x)) / K and bias half of that, here 0.07 errors.
    expected = math.sqrt(world.weight_variance() / samples / n)
    assert abs(error) < 3 * expected < 0.01


@torch.no_grad()
def test_bounds_tighten_with_the_number_of_samples() -> None:
    # On one table of weights the order holds for every draw: a mean of logs of groups is at most the log of their mean.
    world = linear_gaussian(NATS, **WRONG)
    x = world.data(100, seeded(8))
    log_weight = log_importance_weights(
        world.model.decode, world.model.prior, x, world.model.encode(x), normal(1000, 100, 4, seed=9)
    )
    bounds = [importance_bound(log_weight.reshape(-1, k)).mean().item() for k in (1, 2, 10, 100, 1000)]
    assert bounds == sorted(set(bounds))
    slack = 3 * math.sqrt(world.weight_variance() / 1000 / 100)
    assert bounds[-1] < world.log_evidence(x).mean().item() + slack


def test_equal_log_weights_give_exactly_the_elbo() -> None:
    value = torch.tensor([-88.79123, 0.0, -1e5])
    assert torch.equal(importance_bound(value[:, None].expand(3, 500)), value)


def test_bound_stands_extreme_weights() -> None:
    log_weight = torch.tensor([[-1e5, -2e5], [-math.inf, 0.0], [-math.inf, -math.inf]], dtype=torch.float64)
    expected = torch.tensor([-1e5 - math.log(2), -math.log(2), -math.inf], dtype=torch.float64)
    torch.testing.assert_close(importance_bound(log_weight), expected)


@torch.no_grad()
@pytest.mark.parametrize("samples", [1, 7, 23])
def test_importance_nll_does_not_depend_on_the_cut(model: VAE, digits: Tensor, samples: int) -> None:
    q = model.encode(digits)
    whole = importance_nll(model, digits, q, seeded(10), samples=samples, chunk=100)
    for chunk in (1, 3, 7):
        part = importance_nll(model, digits, q, seeded(10), samples=samples, chunk=chunk)
        torch.testing.assert_close(part, whole, rtol=1e-10, atol=0)


@torch.no_grad()
def test_importance_nll_is_the_bound_of_its_own_draws(model: VAE, digits: Tensor) -> None:
    x, generator = digits[:5], seeded(11)
    q = model.encode(x)
    noise = torch.stack([torch.randn(5, 6, generator=generator) for _ in range(9)]).double()
    expected = -importance_bound(log_importance_weights(model.decode, model.prior, x, q, noise))
    nll = importance_nll(model, x, q, seeded(11), samples=9, chunk=4)
    torch.testing.assert_close(nll, expected, rtol=1e-12, atol=0)


def test_counts_below_one_are_refused(model: VAE, digits: Tensor) -> None:
    q = model.encode(digits)
    with pytest.raises(UsageError, match="samples >= 1"):
        importance_nll(model, digits, q, seeded(0), samples=0)
    with pytest.raises(UsageError, match="iw_samples >= 0"):
        evaluate_split(model, digits, iw_samples=-1)


# --- information ----------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("true", [0.5, 1.0, 2.0])
def test_information_of_a_split_is_the_true_one(true: float) -> None:
    # 8,000 points, seeds 12 and 13; 0.02 allows for the datum itself among the components.
    world = linear_gaussian([share * true for share in (0.5, 0.25, 0.15, 0.1)])
    q = world.model.encode(world.data(8000, seeded(12)))
    z = q.sample(normal(8000, 4, seed=13))
    terms = mutual_information(q, z, log_mixture(q, z))
    assert abs(terms.mean() - true) < 3 * standard_error(terms) + 0.02


# Rows of section 1.7 of the reference page, measured there on 8,000 points; its settings are not stated, but fit
# 2, 4 and 8 dimensions of variance 0.1 and 12 of 0.05: the true values are d/2 log(1/v).
TABLE = [
    (2, 0.10, 2.30, {32: 2.02, 50: 2.11, 1000: 2.30, 8000: 2.30}),
    (4, 0.10, 4.61, {32: 3.07, 50: 3.37, 1000: 4.42, 8000: 4.58}),
    (8, 0.10, 9.21, {32: 3.42, 50: 3.88, 1000: 6.63, 8000: 8.03}),
    (12, 0.05, 17.97, {32: 3.46, 50: 3.90, 1000: 6.91, 8000: 8.97}),
]


@pytest.mark.parametrize(("latent", "variance", "true", "row"), TABLE)
def test_information_agrees_with_the_known_answers(
    latent: int, variance: float, true: float, row: dict[int, float]
) -> None:
    assert true == pytest.approx(-latent / 2 * math.log(variance), abs=0.005)
    q, z = posteriors(8000, variance, latent, seed=14)
    for batch, known in row.items():
        terms = mutual_information(q, z, log_mixture_within(q, z, torch.split(torch.arange(8000), batch)))
        # The table is by He et al.'s estimator, whose terms vary more. Those of one batch hang together: the error is
        # that of batch means, where there are enough of them.
        theirs = terms - q.log_prob(z) - q.entropy()
        means = theirs.reshape(-1, batch).mean(1) if 8000 % batch == 0 and batch < 1000 else theirs
        error = standard_error(means)
        # Both sides are draws of one size: sqrt(2) standard errors; the table is rounded to 0.005.
        assert abs(terms.mean() - known) < 3 * math.sqrt(2) * error + 0.005


@pytest.mark.parametrize("batch", [1, 32, 50])
def test_information_within_batches_cannot_exceed_log_b(batch: int) -> None:
    q, z = posteriors(500, 0.001, 16, seed=16)
    terms = mutual_information(q, z, log_mixture_within(q, z, torch.split(torch.arange(500), batch)))
    last = torch.full((500,), float(batch)).double()
    last[500 - 500 % batch :] = 500 % batch
    assert (terms <= torch.log(last) + 1e-9).all()


def test_information_of_collapsed_codes_is_zero_and_that_of_others_less_noisy_than_the_literatures() -> None:
    noise = normal(100, 32, seed=31)
    none = DiagonalGaussian(torch.full((100, 32), 0.3).double(), torch.full((100, 32), -0.2).double())
    z = none.sample(noise)
    batches = torch.split(torch.arange(100), 50)
    assert mutual_information(none, z, log_mixture_within(none, z, batches)).abs().max() < 1e-9
    for spread in (0.01, 0.3, 3.0):
        q = DiagonalGaussian(spread * normal(100, 32, seed=32), none.log_var)
        z = q.sample(noise)
        within = log_mixture_within(q, z, batches)
        terms, theirs = mutual_information(q, z, within), -q.entropy() - within
        assert terms.std() < theirs.std() and abs(terms.mean() - theirs.mean()) < 3 * standard_error(theirs)


def test_mixture_equals_the_dense_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    q = DiagonalGaussian(3 * normal(37, 5, seed=17), normal(37, 5, seed=18) - 2)
    z = 3 * normal(23, 5, seed=19)
    dense = normal_log_prob(z[:, None].expand(23, 37, 5), q.mean, q.log_var).sum(-1)
    expected = torch.logsumexp(dense, 1) - math.log(37)
    torch.testing.assert_close(log_mixture(q, z), expected, rtol=1e-10, atol=0)
    monkeypatch.setattr("lso.vae.metrics.information.ENTRIES", 1)  # 16 rows at a time, then 7
    torch.testing.assert_close(log_mixture(q, z), expected, rtol=1e-10, atol=0)


def test_batches_are_averaged_by_size() -> None:
    q, z = posteriors(7, 0.1, 2, seed=20)
    cuts = (slice(0, 5), slice(5, 7))
    parts = [mutual_information(q[rows], z[rows], log_mixture(q[rows], z[rows])) for rows in cuts]
    terms = mutual_information(q, z, log_mixture_within(q, z, torch.split(torch.arange(7), 5)))
    torch.testing.assert_close(terms.mean(), (5 * parts[0].mean() + 2 * parts[1].mean()) / 7)


def test_aggregate_kl_is_that_of_the_closed_form() -> None:
    # Means N(m, 1 - v) under variance r v: the mixture is N(m, 1 + (r - 1) v). Seeds 21 and 22.
    n, latent, m, v, r = 8000, 2, 0.5, 0.5, 1.5
    q, _ = posteriors(n, v, latent, seed=21)
    q = DiagonalGaussian(q.mean + m, q.log_var + math.log(r))
    z = q.sample(normal(n, latent, seed=22))
    terms = aggregate_kl(z, log_mixture(q, z))
    total = 1 + (r - 1) * v
    assert abs(terms.mean() - latent * 0.5 * (total + m**2 - 1 - math.log(total))) < 3 * standard_error(terms) + 0.005


def test_kl_is_exact() -> None:
    q = DiagonalGaussian(normal(9, 4, seed=23), normal(9, 4, seed=24))
    left = torch.distributions.Normal(q.mean, torch.exp(0.5 * q.log_var))
    right = torch.distributions.Normal(torch.zeros(4).double(), torch.ones(4).double())
    torch.testing.assert_close(kl_per_dimension(q), torch.distributions.kl_divergence(left, right).mean(0))


# --- activity -------------------------------------------------------------------------------------


def test_active_units_of_hand_made_means() -> None:
    # Two data a distance t apart have unbiased variance t^2 / 2; 0.125^2 / 2 is exact in binary, and below 0.01.
    mean = torch.tensor([[0.0, 0.0, 1e4, 5.0], [0.125, 0.25, 1e4 + 0.25, 5.0]], dtype=torch.float64)
    variance = mean_variance(mean)
    assert variance.tolist() == [0.0078125, 0.03125, 0.03125, 0.0]  # no cancellation at an offset of 1e4
    assert is_active(variance).tolist() == [False, True, True, False]
    assert is_active(variance, 0.03125).tolist() == [False, True, True, False]  # at the threshold: active
    assert mean_variance(mean[:1]).tolist() == [0.0] * 4


@torch.no_grad()
def test_decoder_use_of_a_linear_gaussian_is_its_gain() -> None:
    # E[rise_j] = c_j^2 / s^2 = exp(2 I_j) - 1 under the exact posterior; the last dimension is not decoded.
    world = linear_gaussian([1.0, 0.5, 0.1, 0.0])
    x = world.data(20_000, seeded(25))
    rise = redraw_rise(
        world.model, x, world.model.encode(x).sample(normal(20_000, 4, seed=26)), normal(20_000, 4, seed=27)
    )
    error = rise.std(0) / math.sqrt(20_000)
    assert ((rise.mean(0) - torch.expm1(2 * world.information)).abs() <= 3 * error).all()
    assert (rise[:, 3] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("family", ["mlp", "conv"])
def test_decoder_use_of_an_ignored_dimension_is_zero(family: str, skip: bool, digits: Tensor) -> None:
    model, digits = build(Architecture(name=family, latent_dim=6, width=8), skip, (1, 8, 8), seed=2), digits.float()
    for weight in model.decoder.parameters():
        if weight.dim() == 2 and weight.shape[1] == 6:  # every edge from z
            weight[:, 2] = 0
    use = decoder_use(model, digits, model.encode(digits))
    assert use[2] == 0 and (use[[0, 1, 3, 4, 5]] != 0).all()


def test_decoder_use_of_an_autoregressive_decoder_is_that_of_a_drawn_part(
    digits: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A split may be sorted: the part is drawn by the seed, in the order of the split."""
    model, seen = small_model(method("vae"), "he2019-small", width=4).double(), []
    monkeypatch.setattr(metrics_module, "USE_DATA", 7)

    def spy(model: VAE, x: Tensor, *rest: Tensor) -> Tensor:
        seen.append(x)
        return redraw_rise(model, x, *rest)

    monkeypatch.setattr(metrics_module, "redraw_rise", spy)
    q = model.eval().encode(digits)
    for seed in (0, 0, 1):
        decoder_use(model, digits, q, seed=seed, batch_size=7)
    found = [[int((digits == image).all((1, 2, 3)).nonzero()[0]) for image in part] for part in seen]
    assert found[0] == found[1] == sorted(set(found[0])) and max(found[0]) > 40 and found[0] != found[2]


# --- re-encoding ----------------------------------------------------------------------------------


def test_collapse_has_reencoding_error_two_and_no_information() -> None:
    world = linear_gaussian([0.0, 0.0])
    x = world.data(2000, seeded(28))
    result = evaluate_split(world.model, x, iw_samples=3)
    # (z - z~)^2 is twice a chi-square: variance 8 over 4,000 draws, seed 0 of `evaluate_split`.
    assert abs(result.reencoding_error - 2) < 3 * math.sqrt(8 / 4000)
    assert result.reencoding_error_mean == pytest.approx(0, abs=1e-20)
    assert result.kl == pytest.approx(0, abs=1e-12) and result.aggregate_kl == pytest.approx(0, abs=1e-12)
    assert result.active_units == 0 and result.decoder_use == (0.0, 0.0)


@torch.no_grad()
def test_reencoding_errors_of_a_linear_gaussian_are_known() -> None:
    # z~ = (1 - v) z + sqrt(v) e: sampled-sampled v^2 + v, mean-mean v^2 (1 - v). Seeds 29 to 31.
    world = linear_gaussian(NATS)
    q = world.model.encode(world.data(20_000, seeded(29)))
    z, v = q.sample(normal(20_000, 4, seed=30)), torch.exp(-2 * world.information)
    sampled = reencoding_error(world.model, z, world.model.decode(z), normal(20_000, 4, seed=31))
    mean = reencoding_error(world.model, q.mean, world.model.decode(q.mean))
    for error, expected in ((sampled, v**2 + v), (mean, v**2 * (1 - v))):
        assert ((error.mean(0) - expected).abs() < 3 * error.std(0) / math.sqrt(20_000)).all()


# --- a whole split --------------------------------------------------------------------------------


def numbers(metrics: Metrics) -> Tensor:
    """All members but names and time, in one row."""
    values = json.loads(metrics.to_json())
    flat = [value for key in sorted(values.keys() - {"split", "seconds"}) for value in _flat(values[key])]
    return torch.tensor(flat, dtype=torch.float64)


def _flat(value: float | list[float] | None) -> list[float]:
    return value if isinstance(value, list) else [math.nan if value is None else value]


def test_evaluate_is_a_function_of_its_seed(model: VAE, digits: Tensor) -> None:
    torch.manual_seed(0)
    first = evaluate_split(model, digits, iw_samples=5, seed=3)
    torch.manual_seed(1)
    again, other = (
        evaluate_split(model, digits, iw_samples=5, seed=3),
        evaluate_split(model, digits, iw_samples=5, seed=4),
    )
    torch.testing.assert_close(numbers(first), numbers(again), rtol=0, atol=0, equal_nan=True)
    assert first.neg_elbo != other.neg_elbo and first.iw_nll != other.iw_nll and first.kl == other.kl


@pytest.mark.parametrize("batch_size", [1, 37, 100])
def test_evaluate_does_not_depend_on_the_batch_size(model: VAE, digits: Tensor, batch_size: int) -> None:
    whole = numbers(evaluate_split(model, digits, iw_samples=7))
    part = numbers(evaluate_split(model, digits, iw_samples=7, batch_size=batch_size))
    torch.testing.assert_close(part, whole, rtol=1e-10, atol=1e-14, equal_nan=True)


@pytest.mark.parametrize("name", ["svi", "sa-vae"])
def test_evaluate_does_not_depend_on_the_batch_size_where_the_clip_is_over_a_batch(name: str, digits: Tensor) -> None:
    """Groups of 30 data, in passes of 130 (rounded to 120), 1, 37 and 64; the last group has 10."""
    chosen = method(name, steps=3, clip=0.01, clip_over="batch", batch=30)
    model = small_model(chosen).double()
    whole = numbers(evaluate_split(model, digits, iw_samples=2))
    for batch_size in (1, 37, 64):
        part = numbers(evaluate_split(model, digits, iw_samples=2, batch_size=batch_size))
        torch.testing.assert_close(part, whole, rtol=1e-10, atol=1e-14, equal_nan=True)
    model.inference = method(name, steps=3, clip=0.0, batch=30).inference
    other = numbers(evaluate_split(model, digits, iw_samples=2))
    assert not torch.isclose(other, whole, equal_nan=True).all()  # the clip is active


def test_validate_gives_the_numbers_of_evaluate(model: VAE, digits: Tensor) -> None:
    row, q = validate(model, digits, 5)
    full = evaluate_split(model, digits, iw_samples=0, seed=5)
    assert row == {key: getattr(full, key) for key in row} and full.iw_nll is None
    assert row["neg_elbo"] == pytest.approx(row["reconstruction"] + row["kl"])
    assert sum(full.kl_per_dimension) == pytest.approx(full.kl)
    assert not q.mean.requires_grad and torch.equal(q.mean, model.encode(digits).mean)
    torch.testing.assert_close(decoder_use(model, digits, q, seed=5).tolist(), list(full.decoder_use))


def test_modes_are_left_as_found(model: VAE, digits: Tensor) -> None:
    model.train()
    model.decoder.eval()
    modes = [module.training for module in model.modules()]
    evaluate_split(model, digits, iw_samples=1)
    assert [module.training for module in model.modules()] == modes


def test_bytes_are_pixels_over_255(model: VAE, digits: Tensor) -> None:
    pixels = (digits[:20] * 255).round()
    row, _ = validate(model.float(), pixels.to(torch.uint8), 0)
    assert row == validate(model, (pixels / 255).float(), 0)[0]


def test_information_within_batches_does_not_feel_a_sorted_split() -> None:
    world = linear_gaussian([2.0])
    x = world.data(4000, seeded(32))
    order = world.model.encode(x).mean[:, 0].argsort()
    straight, ordered = (validate(world.model, rows, 0)[0]["mi"] for rows in (x, x[order]))
    # A standard error of either is sqrt(1/2 / 4,000) = 0.011 at most; batches of neighbours would tell almost nothing.
    assert abs(straight - ordered) < 3 * math.sqrt(2) * 0.012


def test_a_small_split_says_its_own_batch(model: VAE, digits: Tensor) -> None:
    row, _ = validate(model, digits[:7], 0)
    assert row["mi_batch"] == 7
    assert evaluate_split(model, digits[:1], iw_samples=2).mi_split == pytest.approx(
        validate(model, digits[:1], 0)[0]["mi"]
    )


def test_json_is_strict_and_complete(model: VAE, digits: Tensor) -> None:
    seen: list[tuple[int, int]] = []
    metrics = evaluate_split(
        model, digits, iw_samples=1, split="validation", callback=lambda *counts: seen.append(counts)
    )
    values = json.loads(metrics.to_json())
    assert values["split"] == "validation" and values["n"] == 130 and len(values["activity"]) == 6
    assert seen == [(50, 130), (100, 130), (130, 130)]
    with torch.no_grad():
        next(model.decoder.parameters()).fill_(math.nan)
    assert json.loads(evaluate_split(model, digits, iw_samples=0).to_json())["neg_elbo"] is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", ["mlp", "conv"])
def test_cpu_and_gpu_agree(family: str, digits: Tensor) -> None:
    # The noise is drawn on the CPU for either; what is left is rounding in single precision.
    model, x = build(Architecture(name=family, latent_dim=6), False, (1, 8, 8), seed=3), digits.float()
    here, there = (
        numbers(evaluate_split(model, x, iw_samples=50)),
        numbers(evaluate_split(model.cuda(), x, iw_samples=50)),
    )
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-5, equal_nan=True)


def test_world_is_exact() -> None:
    world = linear_gaussian(NATS)
    # The dense evidence and Bayes' rule agree: log p(x) = log p(x|z) + log p(z) - log p(z|x) at any z.
    x = world.data(5, seeded(33))
    with torch.no_grad():
        weights = log_importance_weights(
            world.model.decode, world.model.prior, x, world.model.encode(x), 3 * normal(2, 5, 4, seed=34)
        )
    torch.testing.assert_close(weights, world.log_evidence(x)[:, None].expand(5, 2), rtol=1e-10, atol=1e-10)

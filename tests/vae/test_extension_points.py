"""A posterior, a prior and a penalty of somebody else: what they declare in their rows is drawn, batched and recorded.

Each is what CONTRIBUTING asks for, and nothing else: a row, a registered function, and a distribution that answers as
`lso.vae.protocols` says.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from lso.vae import DiagonalGaussian, Likelihood, Posterior, Prior, StandardNormal
from lso.vae.config import components, methods
from lso.vae.config.components import Component, NoiseSpec
from lso.vae.config.methods import Method, MethodSpec
from lso.vae.config.protocol import Monitor, Protocol
from lso.vae.data.dataset import take_batch
from lso.vae.distributions.categorical import Categorical
from lso.vae.distributions.families import make_posterior, make_prior, take_rows
from lso.vae.distributions.gaussian import norm_percentile, sampled_kl
from lso.vae.distributions.pixels import Bernoulli, DiscretizedLogistic, Gaussian
from lso.vae.errors import UsageError
from lso.vae.metrics.evaluation import evaluate_split
from lso.vae.metrics.inference_gap import gaps
from lso.vae.models.vae import VAE, build
from lso.vae.objectives.reencoding import penalty_of
from lso.vae.training.batched import stack, step_together
from lso.vae.training.cuda_graphs import Record, Replayed, cuda_graphs
from lso.vae.training.loop import Limits, resume_training, train_model
from lso.vae.training.step import State, StepInputs, StepMetrics, StepNoise, draw_noise, fresh_state, step
from lso.vae.utils.random import generator
from tests.vae.small import assert_same_run, config, digits, sentences, small_networks
from tests.vae.training.test_cuda_graphs import Recorder

# --- what a contributor writes ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LaplacePosterior(Component):
    """q(z_j|x) = Laplace(mean_j, scale), one scale for all dimensions of a datum."""

    def parameters(self, latent_dim: int) -> int:
        """A mean for each dimension and one log-scale."""
        return latent_dim + 1

    def code_noise(self, latent_dim: int) -> NoiseSpec:
        """A uniform for each dimension."""
        return NoiseSpec(stream="posterior", width=latent_dim, kind="uniform")


@dataclass(frozen=True, slots=True, kw_only=True)
class WidePrior(Component):
    """p(z) = N(0, scale^2 I), whose scale is learned from that on."""

    scale: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoothness(Component):
    """Mean square by which the decoded pixels move when the code is shifted at random."""

    weight: float = 1.0
    shift: float = 0.1

    def noise(self, code: NoiseSpec) -> tuple[NoiseSpec, ...]:
        """Two shifts of each code, and which pixels count."""
        pixels = NoiseSpec(stream="counted", width=None, kind="uniform")
        return (replace(code, stream="shift", count=2, kind="normal"), pixels)


@dataclass(frozen=True, slots=True, eq=False)
class Laplace:
    mean: Float[Tensor, "batch latent"]
    log_scale: Float[Tensor, "batch 1"]

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def log_var(self) -> Tensor:
        return (math.log(2) + 2 * self.log_scale).expand_as(self.mean)

    def sample(self, noise: Tensor) -> Tensor:
        away = (noise - 0.5).clamp(-0.499999, 0.499999)
        return self.mean - torch.exp(self.log_scale) * away.sign() * torch.log1p(-2 * away.abs())

    def log_prob(self, z: Tensor) -> Tensor:
        scaled = (z - self.mean).abs() * torch.exp(-self.log_scale)
        return -(scaled + self.log_scale + math.log(2)).sum(-1)

    def kl(self, prior: Prior, z: Tensor) -> Tensor:
        return sampled_kl(self, prior, z)


class Wide(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    @property
    def scale(self) -> Tensor:
        return torch.exp(self.log_scale)

    def sample(self, noise: Tensor) -> Tensor:
        return self.scale * noise

    def log_prob(self, z: Tensor) -> Tensor:
        unit: Tensor = StandardNormal().log_prob(z / self.scale)
        return unit - z.shape[-1] * self.log_scale

    def typicality(self, z: Tensor) -> Tensor:
        return norm_percentile(z / self.scale)


@make_posterior.register
def _(family: LaplacePosterior, raw: Tensor) -> Laplace:
    return Laplace(raw[:, :-1], raw[:, -1:])


@make_prior.register
def _(family: WidePrior, latent_dim: int) -> Wide:
    return Wide(family.scale)


@penalty_of.register
def _(penalty: Smoothness, model: VAE, z: Tensor, likelihood: Likelihood, noise: Mapping[str, Tensor]) -> Tensor:
    mean, counted = likelihood.mean[: len(z)], noise["counted"][0] < 0.5
    moved = [model.decode(z + penalty.shift * shift).mean - mean for shift in noise["shift"]]
    return penalty.weight * torch.stack([(away**2 * counted).flatten(1).mean(1) for away in moved]).mean(0)


# --- what follows -----------------------------------------------------------------------------------------------------

PARTS = {"posterior": LaplacePosterior(), "prior": WidePrior()}
CHOICES: Mapping[str, Mapping[str, object]] = {
    "posterior and prior": PARTS,
    "penalty": {"penalty": Smoothness()},
    "all, with a re-encoded draw": PARTS | {"penalty": components.SquaredReencoding(reconstruction="hard")},
    "all, with importance weights": PARTS
    | {"penalty": Smoothness(), "objective": components.ImportanceWeighted(samples=3)},
}
choices = pytest.mark.parametrize("choice", CHOICES)


def chosen(choice: str) -> Method:
    return Method(name="toy", **CHOICES[choice])  # type: ignore[arg-type]


def started(method: Method, seed: int = 0, device: str = "cpu") -> State:
    sizes = small_networks(method, "mlp", 4)
    model = build(sizes, False, (1, 8, 8), seed, posterior=method.posterior, prior=method.prior)
    return fresh_state(model.double().to(device), method, Protocol(optimizer="sgd", learning_rate=0.1))


def given(state: State, seed: int, at: int, device: str = "cpu") -> tuple[Tensor, StepNoise, StepInputs]:
    x = torch.rand(6, 1, 8, 8, generator=generator(seed, "x", at), dtype=torch.float64).to(device)
    where = torch.device(device)
    noise = draw_noise(state.method, state.model, (6, 1, 8, 8), binarize=True, seed=seed, step=at, device=where)
    knobs = StepInputs(torch.tensor(0.5, device=device), torch.tensor(0.1, device=device))
    return x, tree_map_only(Tensor, Tensor.double, noise), knobs


def stepped(take: Callable[..., StepMetrics], state: State, count: int, device: str = "cpu") -> list[Tensor]:
    return [torch.stack(take(*given(state, 0, at, device))) for at in range(count)]


@choices
def test_two_steps_draw_what_is_declared_and_reach_every_weight(choice: str) -> None:
    method, state = chosen(choice), started(chosen(choice))
    _, noise, _ = given(state, 0, 0)
    assert noise.drawn.keys() == {spec.stream for spec in method.noise(4)}
    assert all(noise.drawn[spec.stream].shape == spec.size((6, 1, 8, 8)) for spec in method.noise(4))
    before = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    told = stepped(lambda *args: step(state, *args), state, 2)
    assert all(bool(row.isfinite().all()) for row in told)
    assert all(not torch.equal(p, before[name]) for name, p in state.model.named_parameters())


@choices
def test_models_step_together_as_alone(choice: str) -> None:
    alone, together = ([started(chosen(choice), seed) for seed in range(3)] for _ in range(2))
    stacked = stack(together)
    for at in range(2):
        own = [given(state, seed, at) for seed, state in enumerate(alone)]
        wanted = [torch.stack(step(state, *one)) for state, one in zip(alone, own, strict=True)]
        found = [torch.stack(info) for info in step_together(stacked, *zip(*own, strict=True))]
        torch.testing.assert_close(torch.stack(found), torch.stack(wanted), rtol=1e-10, atol=1e-10)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.model.state_dict(), other.model.state_dict(), rtol=1e-9, atol=1e-9)


def recorded(method: Method, make: Callable[[], Record], device: str) -> tuple[Replayed, list[Tensor], list[Tensor]]:
    """Six steps taken by a recording, and the same taken alone."""
    plain, state = started(method, device=device), started(method, device=device)
    replayed = Replayed(state, make)
    wanted = stepped(lambda *args: step(plain, *args), plain, 6, device)
    return replayed, [info.clone() for info in stepped(replayed, state, 6, device)], wanted


@choices
def test_a_recorded_step_is_handed_what_is_declared(choice: str) -> None:
    recorder = Recorder()
    replayed, found, wanted = recorded(chosen(choice), lambda: recorder, "cpu")
    assert replayed.sentence == "" and recorder.made == 1 and recorder.called == 3
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@choices
def test_a_gpu_records_it(choice: str) -> None:
    replayed, found, wanted = recorded(chosen(choice), cuda_graphs, "cuda")
    assert replayed.sentence == ""
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("monitor", ["objective", "loss"])
def test_a_row_trains_measures_saves_and_resumes(
    monitor: Monitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {"posterior": LaplacePosterior, "prior": WidePrior, "penalty": Smoothness}
    row = MethodSpec(parts=parts, summary="a toy", source="this test")
    monkeypatch.setitem(methods.METHODS, "toy", row)
    for kind in (LaplacePosterior, WidePrior):
        monkeypatch.setitem(components.STORED, kind.__name__, kind)
    one = config("toy")
    one = replace(one, protocol=replace(one.protocol, monitor=monitor))
    whole = train_model(one, digits(), tmp_path / "whole")
    cut = train_model(one, digits(), tmp_path / "cut", limits=Limits(steps=3))
    assert_same_run(resume_training(cut, digits()).path, whole.path)
    model = whole.model()
    assert model.posterior == LaplacePosterior() and isinstance(model.prior, Wide) and model.prior.scale != 2
    found = evaluate_split(model, digits().validation, iw_samples=20)
    assert math.isfinite(found.neg_elbo) and len(found.kl_per_dimension) == 1 and found.iw_nll is not None
    assert found.iw_nll < found.neg_elbo and math.isclose(found.kl, sum(found.kl_per_dimension))
    assert found.kl == pytest.approx(found.mi_split + found.aggregate_kl, rel=1e-5)  # the surgery of the ELBO
    with pytest.raises(UsageError, match="gaps are those of diagonal Gaussians"):
        gaps(model, torch.rand(2, 1, 8, 8), steps=1)


@pytest.mark.parametrize("name", ["svi", "sa-vae", "ne-vae-lp:c=0"])
def test_what_needs_a_diagonal_gaussian_says_so(name: str) -> None:
    made = methods.parse_method(name)
    with pytest.raises(UsageError, match="the posterior is LaplacePosterior"):
        replace(made, posterior=LaplacePosterior())


def test_our_distributions_answer_what_the_protocols_ask() -> None:
    q, pixels, scale = (
        DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 3)),
        torch.rand(2, 1, 8, 8),
        torch.zeros(1, 1, 1),
    )
    assert isinstance(q, Posterior) and isinstance(StandardNormal(), Prior)
    tokens = take_batch(sentences().train, slice(2))
    for made in (
        Bernoulli(pixels),
        Gaussian(pixels, scale),
        DiscretizedLogistic(pixels, scale),
        Categorical(torch.zeros(2, tokens.shape[1] - 1, 12), tokens),
    ):
        assert isinstance(made, Likelihood)
    assert isinstance(take_rows(q, slice(1)), DiagonalGaussian) and len(take_rows(q, slice(1))) == 1

"""The contract of every row of METHODS, with every architecture and likelihood; and how methods are named."""

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from lso.vae import checkpoint
from lso.vae.config.components import (
    Aggressive,
    Constant,
    Cyclical,
    Linear,
    LogProbReencoding,
    Refinement,
    SemiAmortized,
    SquaredReencoding,
)
from lso.vae.config.methods import METHODS, method, parameters, parse_method
from lso.vae.config.protocol import Protocol
from lso.vae.distributions.pixels import LIKELIHOODS
from lso.vae.errors import UsageError
from lso.vae.inference.posterior import posterior
from lso.vae.models.vae import VAE
from lso.vae.training.step import State, StepInputs, StepMetrics, StepNoise, draw_noise, fresh_state, step
from lso.vae.utils.random import generator
from tests.vae.small import BASELINE_METHODS, PAIRS, batch_for, example, kind_of, quick, small_model

rows = pytest.mark.parametrize("name", METHODS)
pairs = pytest.mark.parametrize(("name", "arch"), PAIRS)
# Of images with every likelihood.
triples = pytest.mark.parametrize(
    ("name", "arch", "likelihood"),
    [
        (name, arch, likelihood)
        for name, arch in PAIRS
        for likelihood in (LIKELIHOODS if kind_of(arch) == "image" else ["categorical"])
    ],
)


def state(name: str, arch: str, likelihood: str | None = None, *, clip: float = 0.0) -> State:
    chosen = quick(name)
    return fresh_state(small_model(chosen, arch, 3, likelihood, width=8), chosen, Protocol(clip=clip))


def noise_for(state: State, x: Tensor, at: int = 0) -> StepNoise:
    binarize = state.model.architecture.likelihood == "bernoulli"
    return draw_noise(state.method, state.model, tuple(x.shape), binarize=binarize, seed=0, step=at, device=x.device)


def knobs(like: Tensor | None = None, *, w: float = 0.8, rate: float = 1e-3) -> StepInputs:
    dtype = torch.float32 if like is None else like.dtype
    return StepInputs(torch.tensor(w, dtype=dtype), torch.tensor(rate))


def one_step(name: str, arch: str, likelihood: str | None = None) -> tuple[VAE, StepMetrics]:
    made, x = state(name, arch, likelihood), batch_for(arch)
    info = step(made, x, noise_for(made, x), knobs())
    return made.model, info


stepped = cache(one_step)  # not to be stepped further; its mode may change


@triples
def test_one_step_is_finite_reaches_and_changes_every_parameter(name: str, arch: str, likelihood: str) -> None:
    before = dict(state(name, arch, likelihood).model.named_parameters())
    model, info = stepped(name, arch, likelihood)
    assert all(value.shape == () and value.dtype == torch.float32 and value.isfinite() for value in info)
    for key, value in model.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all() and value.grad.any(), key
        assert not torch.equal(value, before[key]), key


@pairs
def test_same_seed_gives_the_same_weights(name: str, arch: str) -> None:
    likelihood = "bernoulli" if kind_of(arch) == "image" else "categorical"
    (one, _), (two, _) = stepped(name, arch, likelihood), one_step(name, arch, likelihood)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@triples
def test_model_survives_the_disk(name: str, arch: str, likelihood: str, tmp_path: Path) -> None:
    model, _ = stepped(name, arch, likelihood)
    checkpoint.save_model(model, model.state_dict(), tmp_path / "m.safetensors")
    again = checkpoint.load_model(tmp_path / "m.safetensors")
    assert (again.architecture, again.skip, again.shape) == (model.architecture, model.skip, model.shape)
    assert not again.training
    assert again.inference == model.inference
    model.eval()
    z, x = torch.randn(12, model.latent_dim, generator=generator(0, "z")), batch_for(arch)
    assert again.vocabulary == model.vocabulary
    assert torch.equal(again.reconstruct(z, x), model.reconstruct(z, x))
    assert torch.equal(posterior(again, x).log_var, posterior(model, x).log_var)


# Not svi, whose codes are constants; sa-vae with a deep network has so many kinks of ELU on its way that differences
# converge late, and is compared with unrolling in test_refinement.
SMOOTH = [pair for pair in PAIRS if pair[0] != "svi" and pair != ("sa-vae", "he2019-small")]


@pytest.mark.parametrize(("name", "arch"), SMOOTH)
def test_gradients_are_those_of_finite_differences(name: str, arch: str) -> None:
    """Along one random direction in each half: no path of the loss is cut (both encoder passes of a penalty, decoder,
    skip edges). Central differences in double, error O(h^2)."""
    made = state("sa-vae:clip=0,steps=2" if name == "sa-vae" else name, arch)  # clips count as constants
    made.model.double()
    x = batch_for(arch)
    x = x.double() if x.is_floating_point() else x
    single = noise_for(made, x)
    noise = tree_map_only(Tensor, Tensor.double, single)

    def loss() -> Tensor:
        return step(made, x, noise, knobs(single.drawn["posterior"].double()), ()).loss

    halves = (made.model.encoder, made.model.decoder)
    for half in (half for half in halves if list(half.parameters())):
        draw = generator(0, "direction")
        directions = [torch.randn(p.shape, generator=draw, dtype=p.dtype) for p in half.parameters()]
        loss()
        pairs = zip(half.parameters(), directions, strict=True)
        slope = torch.stack([(p.grad * d).sum() for p, d in pairs if p.grad is not None]).sum()
        values = [_shifted(half, directions, h, loss) for h in (1e-6, -1e-6)]
        torch.testing.assert_close((values[0] - values[1]) / 2e-6, slope, rtol=1e-6, atol=1e-7)


def _shifted(half: torch.nn.Module, directions: list[Tensor], h: float, loss: Any) -> Tensor:
    kept = [p.detach().clone() for p in half.parameters()]
    with torch.no_grad():
        for p, d in zip(half.parameters(), directions, strict=True):
            p.add_(d, alpha=h)
    value: Tensor = loss()
    with torch.no_grad():
        for p, old in zip(half.parameters(), kept, strict=True):
            p.copy_(old)
    return value


# Without latents a batch-norm sees nothing but one constant, and its gradient overflows.
@pytest.mark.parametrize("name", [name for name in METHODS if name not in BASELINE_METHODS])
@pytest.mark.parametrize("pixel", [0.0, 1.0])
def test_black_and_white_images_stay_finite(name: str, pixel: float) -> None:
    for likelihood in LIKELIHOODS:
        made = state(name, "mlp", likelihood)
        for at in range(3):
            x = torch.full((4, 1, 8, 8), pixel)
            info = step(made, x, noise_for(made, x, at), knobs(rate=1e-2))
            assert all(value.isfinite() for value in info)


@rows
def test_a_single_datum_is_a_batch(name: str) -> None:
    for arch in ("mlp", "he2019-small", "lstm"):
        if METHODS[name].kind in (None, kind_of(arch)):
            made, x = state(name, arch), batch_for(arch, 1)
            assert step(made, x, noise_for(made, x), knobs()).loss.isfinite()


# --- the table and its names ------------------------------------------------------------------------------------------


@rows
def test_every_row_states_source_and_full_parameters(name: str) -> None:
    spec, built = METHODS[name], example(name)
    assert spec.summary and spec.source and built.name == name
    assert built.params.keys() == parameters(name).keys() >= {"anneal", "unit", "start", "cycles"}
    assert method(name, **built.params) == built
    text = ",".join(f"{key}={value}" for key, value in built.params.items())
    assert parse_method(f"{name}:{text}") == built
    assert built.schedule == (Linear(length=spec.anneal) if spec.anneal else Constant()) or name == "beta-vae"


def test_defaults_are_those_of_the_papers() -> None:
    assert method("ne-vae-se").penalty == SquaredReencoding(weight=1.0, reduction="mean")
    assert method("ne-vae-lp", c=0).penalty == LogProbReencoding(c=0.0, weight=1.0, reduction="sum")
    assert {name for name, spec in METHODS.items() if spec.anneal == 10} == {"vae-anneal", "ne-vae-se", "ne-vae-lp"}
    assert method("skip-vae").skip and not method("vae").skip
    published = Aggressive(window=10, cap=99, budget=0, patience=5, against="best", tolerance=0.0)
    assert method("aggressive", tolerance=0).updates == published
    assert method("aggressive").updates == Aggressive(tolerance=0.02, early=5)  # ours: see there
    refinement = Refinement(steps=10, step_size=1.0, momentum=0.5, clip=5.0)
    assert method("sa-vae").inference == SemiAmortized(refinement=refinement, products="exact")


def test_methods_of_different_axes_join() -> None:
    joined = parse_method("sa-vae+skip-vae+ne-vae-se+aggressive: steps=3, weight=2, window=5")
    assert joined.skip and joined.penalty == SquaredReencoding(weight=2.0)
    assert isinstance(joined.inference, SemiAmortized) and joined.inference.refinement.steps == 3
    assert isinstance(joined.updates, Aggressive) and joined.updates.window == 5
    assert joined.schedule == Linear(length=10.0)  # the longest ramp of its parts
    assert method(joined.name, **joined.params) == joined


@pytest.mark.parametrize("name", ["sa-vae+skip-vae", "ne-vae-se+aggressive", "sa-vae+ne-vae-se", "svi+iwae:samples=2"])
@pytest.mark.parametrize("arch", ["mlp", "lstm"])
def test_joined_methods_step(name: str, arch: str) -> None:
    chosen, x = parse_method(name), batch_for(arch)
    made = fresh_state(small_model(chosen, arch, 3, width=8), chosen, Protocol())
    info = step(made, x, noise_for(made, x), knobs())
    assert all(value.isfinite() for value in info) and (info.penalty > 0) == (chosen.penalty is not None)


def test_text_names_method_and_parameters() -> None:
    assert parse_method(" beta-vae: beta = 0.2 , anneal=2") == method("beta-vae", beta=0.2, anneal=2)
    assert parse_method("beta-vae:beta=0.05,anneal=2").schedule == Linear(length=2.0, start=0.05, end=0.05)
    assert parse_method("vae:anneal=5,cycles=4").schedule == Cyclical(length=5.0, cycles=4)
    assert parse_method("ne-vae-lp:c=-inf").penalty == LogProbReencoding(c=-math.inf)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nevae-se", "unknown method 'nevae-se'\nDid you mean 'ne-vae-se'"),
        ("beta-vae:betta=1", "unknown parameter of beta-vae 'betta'\nDid you mean 'beta'"),
        ("vae:name=x", "unknown parameter of vae 'name'"),
        ("ne-vae-lp", "method ne-vae-lp needs c\nIt has no default; for example ne-vae-lp:c=0.0"),
        ("beta-vae:0.2", "cannot read '0.2' in method 'beta-vae:0.2'\nWrite name:key=value"),
        ("beta-vae:beta=x", "beta-vae:beta: expected a number, got 'x'"),
        ("beta-vae:beta=0", "a finite end KL weight > 0, got 0.0"),
        ("iwae:samples=2.5", "iwae:samples: expected a whole number, got '2.5'"),
        ("iwae:samples=0", "samples >= 1, got 0"),
        ("free-bits:floor=-1", "floor >= 0 nats and finite, got -1.0"),
        ("free-bits:over=all", "free-bits:over: expected one of datum, batch, got 'all'"),
        ("ne-vae-lp:c=nan", "ne-vae-lp:c: expected a number, got 'nan'"),
        ("ne-vae-lp:c=inf", "c < inf, got inf"),
        ("ne-vae-se:reduction=max", "expected one of mean, sum, got 'max'"),
        ("vae:anneal=-1", "anneal >= 0"),
        ("vae:anneal=inf", "a finite ramp length > 0"),
        ("vae:cycles=2", "anneal > 0 with cycles"),
        ("svi+ne-vae-se", "svi has no encoder, and the re-encoding penalty needs one"),
        ("svi+aggressive", "svi has no encoder that aggressive updates could train"),
        ("svi+sa-vae", "method svi+sa-vae sets the inference twice"),
        ("aggressive+aggressive", "names aggressive twice"),
        ("sa-vae+skip", "unknown method 'skip'"),
        ("pixelcnn:anneal=10", "a baseline has no latents"),
        ("pixelcnn+ne-vae-se", "a baseline has no latents"),
        ("aggressive:against=last", "expected one of best, previous"),
        ("aggressive:window=0", "window >= 1, got 0"),
        ("sa-vae:steps=0", "steps >= 1, got 0"),
        ("sa-vae:momentum=1", "0 <= momentum < 1"),
    ],
)
def test_mistakes_are_refused_in_two_lines(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_method(text)
    assert message in str(caught.value) and str(caught.value).count("\n") == 1

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lso.decoders.decoder import Decoder
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.errors import LsoError, ShapeError, UsageError
from tests.lso.example_decoders import EVENT, SHIPPED, Noisy, Planted, draws, planted, shipped


def kinds(decoder: Decoder) -> list[str]:
    return [finding.kind for finding in decoder.check() if finding.serious]


def linear(z: Tensor) -> Tensor:
    return 2 * z


def test_a_module_is_frozen_and_gradients_still_reach_z() -> None:
    module = Noisy().train()
    decoder = Decoder(module)
    z = draws(5, 3).requires_grad_()
    (grad,) = torch.autograd.grad(decoder(z).sum(), z)
    assert not module.training and not any(p.requires_grad for p in module.parameters())
    assert bool(grad.any()) and all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize("where", ["layers.0.weight", "layers.1.running_mean"])
def test_verify_sees_a_changed_weight_or_buffer(where: str) -> None:
    module = Noisy()
    decoder = Decoder(module)
    decoder.verify()
    with torch.no_grad():
        module.state_dict()[where].view(-1)[0] += 1e-6
    with pytest.raises(LsoError, match="changed after it was frozen"):
        decoder.verify()


def test_verify_sees_a_return_to_train_mode() -> None:
    module = Noisy()
    decoder = Decoder(module)
    module.train()
    with pytest.raises(LsoError, match="train mode"):
        decoder.verify()


@pytest.mark.parametrize("inside", [torch.float32, torch.float64])
@pytest.mark.parametrize("outside", [torch.float32, torch.float64])
def test_the_callers_dtype_outside_and_the_models_inside(inside: torch.dtype, outside: torch.dtype) -> None:
    seen = []
    module = nn.Linear(3, 4).to(inside)

    def decode(z: Tensor) -> Tensor:
        seen.append(z.dtype)
        out: Tensor = module(z)
        return out

    decoder = Decoder(decode, latent_dim=3)
    assert decoder(draws(2, 3, dtype=outside)).dtype == outside
    assert decoder.dtype == inside and seen == [inside]


@pytest.mark.parametrize("lead", [(), (5,), (4, 3), (0,)])
def test_leading_axes_pass_through(lead: tuple[int, ...]) -> None:
    assert tuple(planted()(draws(*lead, 4)).shape) == (*lead, *EVENT)


def test_chunks_decode_as_the_whole() -> None:
    z = draws(7, 4)
    torch.testing.assert_close(planted(batch_size=2)(z), planted()(z), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda m: Decoder(m),
        lambda m: Decoder(m.decode, latent_dim=4),
        lambda m: Decoder(m, decode="decode"),
        lambda m: Decoder(m, decode=m.decode),
        lambda m: Decoder(lambda z: m.decode(z), latent_dim=4),
        lambda m: Decoder(partial(lambda model, z: model.decode(z), m), latent_dim=4),
    ],
)
def test_ways_to_name_a_decoder_agree_on_output_and_hash(wrapped: Callable[[Planted], Decoder]) -> None:
    z = draws(3, 4)
    decoder = wrapped(Planted([1.0] * 4))
    assert torch.equal(decoder(z), planted()(z)) and decoder.hash == planted().hash


def test_a_functions_module_is_known_but_not_changed() -> None:
    module = Noisy().train()
    decoder = Decoder(lambda z: module(z), latent_dim=3)
    assert module.training and next(module.parameters()).requires_grad
    (finding,) = [f for f in decoder.check() if f.kind == "train-mode"]
    assert finding.serious and "Dropout" in finding.message and "BatchNorm1d" in finding.message


@pytest.mark.parametrize(
    "output",
    [
        lambda x: SimpleNamespace(mean=x, sample=lambda: None),
        lambda x: SimpleNamespace(reconstruction=x),
        lambda x: SimpleNamespace(sample=x),
        lambda x: {"recon_x": x},
        lambda x: (x, x + 1),
        lambda x: torch.distributions.Normal(x, 1.0),
    ],
)
def test_tensors_are_found_in_what_decoders_return(output: Callable[[Tensor], Any]) -> None:
    z = draws(3, 2)
    assert torch.equal(Decoder(lambda z: output(linear(z)), latent_dim=2)(z), 2 * z)


@pytest.mark.parametrize(
    ("output", "posterior"),
    [
        (lambda m: m, False),
        (lambda m: (m, m), True),
        (lambda m: SimpleNamespace(embedding=m, log_covariance=m), True),
        (lambda m: SimpleNamespace(latent_dist=torch.distributions.Normal(m, torch.exp(0.5 * m))), True),
        (lambda m: DiagonalGaussian(m, m), True),
    ],
)
def test_codes_are_found_in_what_encoders_return(output: Callable[[Tensor], Any], posterior: bool) -> None:
    x = draws(3, 2)
    code = Decoder(linear, latent_dim=2, encode=lambda x: output(x / 2)).encode(x)
    mean = code if code is None or isinstance(code, Tensor) else code.mean
    assert isinstance(code, DiagonalGaussian) == posterior
    assert mean is not None and torch.equal(mean, x / 2)
    if isinstance(code, DiagonalGaussian):
        torch.testing.assert_close(code.log_var, x / 2)


@pytest.mark.parametrize(("name", "skip", "likelihood"), SHIPPED)
def test_our_models_pass_the_check_and_bring_their_encoder(name: str, skip: bool, likelihood: str) -> None:
    model = shipped(name, skip, likelihood)
    decoder = Decoder(model)
    assert kinds(decoder) == [] and decoder.has_encoder and decoder.event_shape == (1, 8, 8)
    z = draws(4, 3, dtype=torch.float32)
    assert torch.equal(decoder(z), model.decode(z).mean)


@pytest.mark.parametrize(
    ("decode", "kind"),
    [
        (lambda z: z + torch.rand_like(z), "non-deterministic"),
        (lambda z: z - z.mean(0), "batch-dependent"),
        (lambda z: z.round(), "no-gradient"),
        (lambda z: z.argmax(-1, keepdim=True), "no-gradient"),
        (lambda z: z.detach() + 1, "no-gradient"),
        (lambda z: (z - z).clamp_min(0).sqrt(), "no-gradient"),
        (lambda z: torch.log(z), "non-finite"),
        (lambda z: z.sum(), "shape"),
        (lambda z: z[:1], "shape"),
        (lambda z: SimpleNamespace(other=z), "shape"),
        (lambda z: z @ torch.zeros(7, 7), "error"),
    ],
)
def test_check_tells_what_is_wrong(decode: Callable[[Tensor], Any], kind: str) -> None:
    assert kind in kinds(Decoder(decode, latent_dim=3))


def test_check_is_silent_about_a_sound_decoder() -> None:
    assert planted().check() == []


def test_check_tells_of_layers_found_in_train_mode_and_of_mixed_types() -> None:
    findings = {f.kind: f for f in Decoder(Noisy().train()).check()}
    assert not findings["train-mode"].serious and "Dropout" in findings["train-mode"].message
    module = Noisy().eval()
    module.layers[3].double()
    assert "dtype" in kinds(Decoder(module))


def test_check_tells_of_an_encoder_of_another_size() -> None:
    found = Decoder(linear, latent_dim=2, encode=lambda x: x[:, :1]).check()
    assert [f.kind for f in found] == ["encoder"]


def test_wrong_use_is_told_in_two_lines() -> None:
    with pytest.raises(UsageError, match="latent size of function is unknown\nPass latent_dim"):
        Decoder(linear)
    with pytest.raises(UsageError, match="no such method"):
        Decoder(Noisy(), decode="decipher")
    with pytest.raises(UsageError, match="cannot decode with int"):
        Decoder(3, latent_dim=2)
    with pytest.raises(ShapeError, match=r"expected codes \(..., 4\), got \(2, 3\)"):
        planted()(draws(2, 3))

"""Networks that draw random numbers of their own are refused before they train; the own dropout resumes exactly."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lso.vae import runs
from lso.vae.errors import UsageError
from lso.vae.models import mlp
from lso.vae.models import vae as models
from lso.vae.models.dropout import Dropout
from lso.vae.models.mlp import MlpDecoder, MlpEncoder
from lso.vae.runs import Run
from lso.vae.training import loop as training
from lso.vae.training.random_layers import require_no_own_randomness
from lso.vae.training.setup import create_trainer
from tests.vae.small import assert_same_run, config, digits, example, sentences, small_model
from tests.vae.training.test_together import _together, assert_alike


class Noise(nn.Module):
    """Gaussian noise in train mode."""

    def forward(self, h: Tensor) -> Tensor:
        return h + torch.randn_like(h) if self.training else h


class Scaled(nn.Module):
    """Scaled at random, by a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.draws = torch.Generator().manual_seed(0)

    def forward(self, h: Tensor) -> Tensor:
        return h * torch.rand((), generator=self.draws) if self.training else h


class Functional(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return nn.functional.dropout(h, 0.5, self.training)


def with_part(patch: pytest.MonkeyPatch, make: Callable[[int], nn.Module]) -> None:
    """The family mlp with one more layer, before the last one of its encoder's and its decoder's."""

    def wrapped(cls: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        def build(*args: object, **options: object) -> nn.Module:
            made = cls(*args, **options)
            linear = next(part for part in made.modules() if isinstance(part, nn.Linear))
            for parent in list(made.modules()):
                for name, child in list(parent.named_children()):
                    if child is linear:
                        setattr(parent, name, nn.Sequential(linear, make(linear.out_features)))
            return made

        return build

    for cls in (MlpEncoder, MlpDecoder):
        patch.setattr(mlp, cls.__name__, wrapped(cls))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda n: nn.Dropout(0.1), r"\(Dropout\) draws"),
        (lambda n: nn.AlphaDropout(0.1), r"\(AlphaDropout\) draws"),
        (lambda n: nn.RReLU(), r"\(RReLU\) draws"),
        (lambda n: Noise(), r"\(Noise\) draws"),
        (lambda n: Functional(), r"\(Functional\) draws"),
        (lambda n: Scaled(), "other results when run again"),
    ],
)
def test_what_draws_numbers_of_its_own_is_refused_with_the_way_to_do_it(
    make: Callable[[int], nn.Module], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_part(monkeypatch, make)
    with pytest.raises(UsageError, match=name) as refused:
        training.train_model(config("vae"), digits(), tmp_path / "r")
    assert "lso.vae.models.dropout.Dropout" in refused.value.hint and len(str(refused.value).splitlines()) == 2
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("make", [lambda n: nn.Dropout(0.0), lambda n: nn.Dropout(0.5).eval(), lambda n: nn.Tanh()])
def test_what_draws_nothing_is_trained(
    make: Callable[[int], nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(part := make(1), nn.Dropout) and part.p > 0:
        part.train = lambda mode=True: part  # type: ignore[method-assign]
        make = lambda n: part  # noqa: E731
    with_part(monkeypatch, make)
    create_trainer(config("vae"), digits(), tmp_path / "r")


def test_an_lstms_own_dropout_is_refused() -> None:
    made = small_model(example("vae"), "lstm")
    require_no_own_randomness(made)
    old = made.encoder.lstm
    assert isinstance(old, nn.LSTM)
    made.encoder.lstm = nn.LSTM(old.input_size, old.hidden_size, num_layers=2, dropout=0.2, batch_first=True)
    with pytest.raises(UsageError, match=r"encoder\.lstm \(LSTM\) draws"):
        require_no_own_randomness(made)


def test_a_run_whose_networks_draw_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = training.train_model(config("vae"), digits(), tmp_path / "r", limits=training.Limits(steps=2))
    before = (run.path / runs.INFO).read_bytes()
    with_part(monkeypatch, lambda n: nn.Dropout(0.1))
    with pytest.raises(UsageError, match="draws random numbers"):
        training.resume_training(run, digits())
    assert (run.path / runs.INFO).read_bytes() == before


def test_the_question_leaves_model_and_generator_as_they_were() -> None:
    for arch in ("mlp", "he2019-small", "lstm", "transformer"):
        made = small_model(example("vae"), arch)
        torch.manual_seed(3)
        generator, kept = torch.get_rng_state(), {key: value.clone() for key, value in made.state_dict().items()}
        require_no_own_randomness(made)
        assert torch.equal(generator, torch.get_rng_state())
        assert all(torch.equal(value, kept[key]) for key, value in made.state_dict().items())
        assert made.training and not any(part._forward_hooks for part in made.modules())


def test_own_dropout_in_a_network_for_images_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_part(monkeypatch, lambda n: Dropout(0.3, (n,)))
    whole = training.train_model(config("ne-vae-se"), digits(), tmp_path / "whole")
    cut = training.train_model(config("ne-vae-se"), digits(), tmp_path / "cut", limits=training.Limits(steps=3))
    assert_same_run(training.resume_training(cut, digits()).path, whole.path)
    monkeypatch.undo()
    plain = training.train_model(config("ne-vae-se"), digits(), tmp_path / "plain")
    assert plain.best()["train_loss"] != whole.best()["train_loss"], "nothing was dropped"


def test_own_dropout_goes_in_lockstep_with_each_members_own_uniforms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_part(monkeypatch, lambda n: Dropout(0.3, (n,)))
    chosen = [config("vae", seed=seed) for seed in range(2)]
    alone = [training.train_model(one, digits(), tmp_path / f"alone{one.seed}") for one in chosen]
    for run, expected in zip(_together(chosen, tmp_path / "together"), alone, strict=True):
        assert_alike(run, expected)
    assert Run(tmp_path / "alone0").best() != Run(tmp_path / "alone1").best()


def test_sequences_are_tried_as_short_as_they_may_be() -> None:
    """A vocabulary with one word and a longest sequence of three tokens is enough for the question."""
    made = models.build(small_model(example("vae"), "lstm").architecture, False, (3, 5))
    require_no_own_randomness(made)
    assert sentences().vocabulary is not None

"""Targets that a search does not reproduce are told one by one, and those of the opposite polarity as such."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lso.analysis.reproduction import BOUND_DEVIATIONS, Reproduction, measure_reproduction, nats_bound
from lso.analysis.summary import search_summary
from lso.analysis.verdict import FIT
from lso.black_box.loop import optimize
from lso.decoders.decoder import Decoder
from lso.gradient.search import minimize
from lso.objectives.latent_objective import LatentObjective
from lso.reports.black_box_report import black_box_report
from lso.reports.search_report import search_report
from lso.vae.distributions.pixels import Bernoulli, Gaussian
from lso.vae.metrics.verdict import Verdict, judge
from tests.lso.example_decoders import draws
from tests.lso.searched import evidence


class Rows(nn.Module):
    """Pictures of 4x4 black and white pixels: a code turns the first two rows on and off, the others stay off."""

    latent_dim = 2

    def __init__(self) -> None:
        super().__init__()
        self.off = nn.Parameter(torch.full((1, 1, 2, 4), -4.0))

    def decode(self, z: Float[Tensor, "n 2"]) -> Bernoulli:
        first = 4 * torch.tanh(3 * z)[:, None, :, None].expand(-1, 1, 2, 4)
        return Bernoulli(torch.cat([first, self.off.expand(len(z), -1, -1, -1)], 2))

    def encode(self, x: Float[Tensor, "n 1 4 4"]) -> Float[Tensor, "n 2"]:
        return 2 * x[:, 0, :2].mean(-1) - 1


def pictures(*rows: str) -> Tensor:
    """Rows on and off, e.g. "1000", as pictures."""
    return torch.tensor([[float(one) for one in row] for row in rows])[:, None, :, None].expand(-1, 1, 4, 4)


def searched(targets: Tensor, decoder: Decoder) -> LatentObjective:
    return LatentObjective.reconstruct(decoder, targets, "nll", prior_weight=0.1)


def test_the_bound_is_that_of_the_decoder_s_own_draws() -> None:
    odds = torch.linspace(-3, 3, 64).reshape(1, 1, 8, 8)
    p = torch.sigmoid(odds.double())
    mean, variance = -(p * p.log() + (1 - p) * (1 - p).log()).sum(), (p * (1 - p) * odds.double() ** 2).sum()
    decoder = Decoder(lambda z: Bernoulli(odds.expand(len(z), 1, 8, 8)), latent_dim=2)
    bound = nats_bound(decoder, draws(4000, 2))
    assert bound == pytest.approx(float(mean + BOUND_DEVIATIONS * variance.sqrt()), rel=0.01)
    scale = torch.zeros(1, 1, 1)
    normal = Decoder(lambda z: Gaussian(odds.sigmoid().expand(len(z), 1, 8, 8), scale), latent_dim=2)
    expected = 32 * (1 + math.log(2 * math.pi)) + BOUND_DEVIATIONS * math.sqrt(32)  # half a chi-square of 64
    assert nats_bound(normal, draws(4000, 2)) == pytest.approx(expected, rel=0.01)
    assert nats_bound(Decoder(lambda z: odds.expand(len(z), 1, 8, 8), latent_dim=2), draws(4, 2)) is None


def test_each_target_is_judged_by_itself_and_polarity_is_seen() -> None:
    decoder = Decoder(Rows())
    targets = pictures("1000", "1100", "0000", "0111", "1010")
    result = minimize(searched(targets, decoder), draws(5, 3, 2), tol=1e-4)
    prior, z = draws(256, 2, seed=1), result.best_z
    found = measure_reproduction(result.objective, z, decoder(z), prior, decoder(prior))
    assert found is not None and found.inverted is not None
    assert found.missed.tolist() == [False, False, False, True, True]
    assert found.inverted.tolist() == [False, False, False, True, False]
    expected = torch.nn.functional.binary_cross_entropy(decoder(z), targets.to(z), reduction="none").flatten(1).sum(1)
    torch.testing.assert_close(found.nats, expected.double(), rtol=1e-4, atol=1e-4)
    assert found.share[3] > 0.15  # by the share alone it would pass
    changed = measure_reproduction(result.objective.take([0]), z[:1], decoder(z[:1]), prior, decoder(prior))
    assert changed is not None  # whatever else is searched for; last digits of a decoder depend on the size of a batch
    torch.testing.assert_close(changed.share[0], found.share[0], rtol=1e-7, atol=0)


def test_the_brightness_of_a_picture_alone_is_no_reproduction() -> None:
    decoder = Decoder(lambda z: torch.sigmoid(z[:, :1, None, None]).expand(-1, 1, 4, 4), latent_dim=1)
    target = torch.full((2, 1, 4, 4), 0.97)
    target[0, 0, 1, 1:3] = 0.57
    z = torch.logit(target.mean((1, 2, 3)))[:, None].double()
    prior = draws(256, 1)
    objective = LatentObjective.reconstruct(decoder, target)
    found = measure_reproduction(objective, z, decoder(z), prior, decoder(prior))
    assert found is not None and found.shape is not None and found.nats is None
    asked = float(target[0].var(correction=0))
    assert found.shape.tolist() == pytest.approx([1 - asked / (asked + 0.05**2), 1.0], abs=1e-5)
    assert bool((found.share > 0.9).all()) and found.missed.tolist() == [True, False]


def fit(names: Sequence[str] = (), **found: Any) -> Verdict:
    return judge([FIT], evidence(reproduction=Reproduction(**found), target_names=names))


def test_a_few_missed_targets_are_named_and_the_others_are_said_to_be_fine() -> None:
    share = torch.full((10,), 0.6)
    names = [f"{i}.png" for i in range(10)]
    assert fit(names, share=share).level == "fine"
    share[[2, 7]] = torch.tensor([0.05, torch.nan])
    assert fit(names, share=share).level == "care"
    sentence = fit(names, share=share).sentence
    assert sentence.startswith("Believe this result with care: 2 of 10 targets are not reproduced (2.png, 7.png)")
    assert "do not believe what was found for these; the other 8 are reproduced" in sentence
    share[2:8] = 0.1
    assert fit(names, share=share).level == "doubt"
    good = torch.full((10,), 0.6)  # the shares of all, and the median, are; half of the shapes are not
    for count, level in ((4, "care"), (5, "doubt")):
        shape = torch.where(torch.arange(10) < count, 0.05, good)
        assert fit(share=good, shape=shape).level == level
    none = fit(["lone.png"], share=torch.tensor([0.01])).checks[0]
    assert none.level == "doubt" and none.found.startswith("the target is not reproduced (lone.png); ")
    inverted = torch.arange(10) == 2
    assert "inverted (1 - x), 1 of them would be" in fit(share=share, inverted=inverted).sentence


def test_a_good_median_does_not_hide_a_target_in_any_part_of_the_report(tmp_path: Path) -> None:
    targets = pictures("1000", "0100", "1100", "0000", "0111")
    result = minimize(searched(targets, Decoder(Rows())), draws(5, 3, 2), tol=1e-4)
    names = ["a.png", "b.png", "c.png", "d.png", "strange.png"]
    summary = search_summary(result, target_names=names)
    assert summary.verdict.level == "care" and "(strange.png)" in summary.verdict.sentence
    page = search_report(result, tmp_path, target_names=names).read_text()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["fit"]["not_reproduced"] == ["strange.png"]
    assert report["fit"]["reproduced"] == [True] * 4 + [False] and report["fit"]["turned"] == [False] * 4 + [True]
    assert report["essence"]["targets not reproduced"] == 1
    assert page.count('<span class="missed">not reproduced</span>') == 1  # the gallery
    assert "<td>strange.png</td><td>not reproduced</td>" in page and "--invert" in page
    fine = search_summary(minimize(searched(targets[:4], Decoder(Rows())), draws(4, 3, 2), tol=1e-4))
    assert (
        fine.verdict.check("fit").level == "fine"
        and fine.reproduction is not None
        and not fine.reproduction.missed.any()
    )


def test_a_black_box_search_that_misses_its_target_says_so(tmp_path: Path) -> None:
    for name, level in (("1000", "fine"), ("1010", "doubt")):
        objective = searched(pictures(name), Decoder(Rows()))
        result = optimize(objective, "random", budget=60, batch=10)
        black_box_report([result], tmp_path / name, target=f"{name}.png")
        checks = json.loads((tmp_path / name / "report.json").read_text())["verdict"]["checks"]
        (fit,) = [check for check in checks if check["name"] == "fit"]
        assert fit["level"] == level and (f"{name}.png" in fit["found"]) == (level == "doubt")

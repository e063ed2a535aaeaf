"""The verdict on collapse: on nats, when it speaks, what it says and what it suggests."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lso.vae.checkpoint import Codes
from lso.vae.config.methods import METHODS, parse_method
from lso.vae.metrics.collapse import LatentUse, caution, collapse_verdict, plain, read
from lso.vae.metrics.latent_use import latent_use
from lso.vae.training.loop import train_model
from tests.vae.small import config, digits

HEALTHY = LatentUse(latent_dim=32, data=179, mutual_information=4.4, kl=5.9, used=14, active_units=31)


def test_active_units_alone_decide_nothing() -> None:
    """Two models of digits: 31 active units that carry 0.7 nats, and none at all with codes on a small scale."""
    idle = replace(HEALTHY, mutual_information=0.67, kl=0.83, used=10, active_units=31)
    small = replace(HEALTHY, mutual_information=3.9, kl=43.0, used=32, active_units=0)
    told = collapse_verdict(idle)
    assert told.startswith("Posterior collapse: the codes carry 0.67 nats about the data (mutual information over the ")
    assert "split, drawn anew; KL 0.83), the decoder uses" in told
    assert "10 of 32 latent dimensions (AU 31)" in told and collapse_verdict(small) == collapse_verdict(HEALTHY) == ""


@pytest.mark.parametrize(
    ("information", "used", "collapsed"),
    [(0.0, 0, True), (0.99, 32, True), (1.0, 7, False), (1.0, 6, True), (2.99, 6, True), (3.0, 6, False)],
)
def test_next_to_nothing_or_little_in_few_dimensions_is_a_collapse(
    information: float, used: int, collapsed: bool
) -> None:
    found = replace(HEALTHY, mutual_information=information, kl=5.0, used=used)
    assert found.collapsed == bool(collapse_verdict(found, "vae")) == collapsed


@pytest.mark.parametrize(
    ("information", "used", "latent_dim", "scanty"),
    [
        (0.99, 32, 32, False),
        (1.0, 7, 32, True),
        (2.49, 32, 32, True),
        (2.5, 32, 32, False),
        (2.49, 6, 32, False),
        (0.49, 1, 1, False),
        (1.24, 1, 1, True),
        (1.25, 1, 1, False),
        (0.0, 0, 0, False),
    ],
)
def test_between_nothing_and_enough_there_is_care(information: float, used: int, latent_dim: int, scanty: bool) -> None:
    """What has collapsed is told as that."""
    found = replace(HEALTHY, mutual_information=information, kl=5.0, used=used, latent_dim=latent_dim)
    told = caution({"latents": plain(found)})
    assert found.scanty == bool(told) == scanty
    assert caution({}) == caution({"latents": plain(found), "verdict": "collapsed"}) == ""
    assert not scanty or f"with care: the codes carry {information:.2f} nats" in told


def test_before_the_end_of_the_warm_up_nothing_is_said_of_a_collapse() -> None:
    told = collapse_verdict(replace(HEALTHY, mutual_information=0.1), "vae-anneal", warm=False)
    assert told.startswith("Not learnt yet: the codes carry 0.10 nats") and "train for longer" in told
    assert "collapse" not in told and collapse_verdict(HEALTHY, warm=False) == ""


def test_of_a_scalar_latent_half_a_nat_is_asked() -> None:
    scalar = replace(HEALTHY, latent_dim=1, used=1, kl=0.9)
    assert not replace(scalar, mutual_information=0.5).collapsed and replace(scalar, mutual_information=0.49).collapsed


def test_many_nats_of_kl_without_information_are_a_collapse_as_well() -> None:
    """All codes at one place far from the prior."""
    assert replace(HEALTHY, mutual_information=0.0, kl=40.0, used=20).collapsed


def test_few_data_are_judged_by_their_kl_where_they_can_tell_no_more() -> None:
    """A split of one datum has no mutual information, one of ten at most log 10 = 2.3."""
    assert not replace(HEALTHY, data=1, mutual_information=0.0).collapsed
    assert replace(HEALTHY, data=10, mutual_information=0.5, kl=0.6).collapsed
    assert replace(HEALTHY, data=10, mutual_information=2.0, kl=5.9).information == 5.9


@pytest.mark.parametrize("count", [2, 10, 30, 49, 50, 200])
def test_codes_at_one_place_have_collapsed_however_few_data_there_are(count: int) -> None:
    """Photographs in a folder of 300: 30 validate, and 15 nats of KL that say nothing of the datum were no collapse."""
    stream = torch.Generator().manual_seed(count)
    far, there = torch.full((count, 4), 2.7), torch.full((count, 4), -3.0)
    apart = 2.0 * torch.randn(count, 4, generator=stream)
    idle, healthy = (latent_use(Codes(mean, there, torch.ones(4))) for mean in (far, apart))
    assert idle.kl > 15 and idle.collapsed and collapse_verdict(idle)
    assert not healthy.collapsed and not healthy.scanty


def test_a_model_without_latents_has_none_that_could_collapse() -> None:
    assert not LatentUse(latent_dim=0, data=9, mutual_information=0, kl=0, used=0, active_units=0).collapsed


@pytest.mark.parametrize("name", METHODS)
def test_verdict_suggests_other_methods_that_exist(name: str) -> None:
    verdict = collapse_verdict(replace(HEALTHY, mutual_information=0.1, kl=0.1), name)
    assert verdict.count("\n") == 0 and "KL weight of at most 1" not in verdict
    suggested = [
        word.strip(".,;") for word in verdict.split("try ")[1].split() if word.partition(":")[0].strip(",") in METHODS
    ]
    assert len(suggested) >= 3
    assert all(parse_method(text).name != name or name == "ne-vae-se" for text in suggested)


def test_too_large_a_weight_is_named_first() -> None:
    collapsed = replace(HEALTHY, mutual_information=0.1, kl=0.1)
    assert "; try a KL weight of at most 1, ne-vae-se" in collapse_verdict(collapsed, "beta-vae", 4.0)


def test_codes_are_measured_as_what_they_were_made_of() -> None:
    """Two dimensions that carry log 2 and log 4 nats (eight places, next to no noise), and two that carry nothing."""
    place = torch.arange(800) % 8
    mean = torch.stack([2.0 * (place % 2), 1.0 * (place // 2), torch.zeros(800), torch.full((800,), 3.0)], 1)
    noise = torch.tensor([-12.0, -12.0, 0.0, -12.0]).expand(800, 4)
    found = latent_use(Codes(mean, noise, torch.tensor([5.0, 0.2, 0.3, -0.01])))  # the third has no KL, the last no use
    assert found.mutual_information == pytest.approx(torch.tensor(8.0).log().item(), abs=0.01)
    assert (found.latent_dim, found.data, found.used, found.active_units) == (4, 800, 2, 2)
    assert latent_use(Codes(mean, noise)).used == 3  # by KL, where what the decoder does is not known


def test_a_training_stores_what_it_measured(tmp_path: Path) -> None:
    """4 latents after two epochs carry next to nothing yet, although two are active by the literature's rule."""
    run = train_model(config("beta-vae:beta=20", epochs=2), digits(), tmp_path / "r")
    found = read(run.info)
    assert found is not None and found.latent_dim == 4 and found.data == 60 and found.collapsed
    assert run.verdict == collapse_verdict(found, "beta-vae", 20.0) != "" and run.info["judged"] is True
    assert found.kl == pytest.approx(run.best()["kl"], rel=1e-6)
    assert found.mutual_information == pytest.approx(run.best()["mi_split"], abs=0.05)
    assert read(json.loads(json.dumps({"latents": plain(found)}))) == found
    assert read({}) is None and read({"latents": {"kl": 1}}) is None
    assert read({"latents": plain(found) | {"kl": "much"}}) is None


def test_a_training_that_ends_within_its_warm_up_says_that_nothing_is_learnt_yet(tmp_path: Path) -> None:
    run = train_model(config("vae-anneal", anneal=9, epochs=1), digits(), tmp_path / "r")
    found = read(run.info)
    assert found is not None and found.collapsed and run.info["judged"] is False
    assert run.verdict == collapse_verdict(found, warm=False) != ""


def test_information_is_never_told_as_less_than_none() -> None:
    """The estimate of codes that are all the prior's is 0 on average, below it for about every other draw."""
    prior = Codes(torch.randn(60, 4, generator=torch.Generator().manual_seed(0)) * 1e-3, torch.zeros(60, 4))
    found = [latent_use(prior, seed).mutual_information for seed in range(12)]
    assert min(found) == 0.0 and max(found) < 0.01

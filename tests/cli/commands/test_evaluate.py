"""``lso evaluate --repeats`` and ``--gaps``."""

from typing import Any

import pytest

from lso.vae.runs import Run
from tests.cli.conftest import Lso
from tests.cli.test_commands import told
from tests.cli.test_errors import refused


def test_repeats_print_the_spread_of_every_estimate(lso: Lso, run: Run) -> None:
    command = ("evaluate", run.path, "--iw-samples", 5, "--limit", 30, "--repeats", 3)
    result = lso(*command)
    assert result.exit_code == 0 and "over 3 seeds" in result.stdout and "variance" in result.stdout
    values: dict[str, Any] = told(lso(*command, "--json"))
    spread = values["repeats"]["neg_elbo"]
    assert len(spread["values"]) == 3 and len(set(spread["values"])) == 3 and spread["values"][0] == values["neg_elbo"]
    assert spread["least"] <= spread["mean"] <= spread["most"]
    assert values["repeats"]["active_units"]["deviation"] == 0 == values["repeats"]["kl"]["deviation"]


def test_gaps_add_up_and_say_how_far_the_refinement_got(lso: Lso, run: Run) -> None:
    command = ("evaluate", run.path, "--iw-samples", 50, "--limit", 20, "--gaps", "--gap-steps", 30)
    result = lso(*command)
    assert result.exit_code == 0 and "amortization" in result.stdout and "30 steps, 4 codes each" in result.stdout
    gaps: Any = told(lso(*command, "--json"))["gaps"]
    assert gaps["inference"] == pytest.approx(gaps["approximation"] + gaps["amortization"])
    assert gaps["amortization"] > 0 and gaps["n"] == 20
    assert "a lower bound, as 50 samples understate it" in result.stdout
    for few in (0, 49):
        refused(lso("evaluate", run.path, "--gaps", "--iw-samples", few), 2, "understate the approximation gap")


def test_one_datum_has_no_mutual_information_and_no_active_units(lso: Lso, run: Run) -> None:
    command = ("evaluate", run.path, "--iw-samples", 2, "--limit", 1)
    lines = [line.split() for line in lso(*command).stdout.splitlines()]
    assert [line[1] for line in lines if line[:1] == ["MI"]] == ["-"] and ["active", "units", "-"] in [
        x[:3] for x in lines
    ]
    values: dict[str, Any] = told(lso(*command, "--json"))
    assert values["mi"] is values["mi_split"] is values["active_units"] is None and values["kl"] > 0


def test_a_baseline_has_an_exact_likelihood_and_no_gaps(lso: Lso) -> None:
    trained = lso("train", "--method", "pixelcnn", "--width", 4, "--limit", 50, "--epochs", 1, "--out", "px")
    assert trained.exit_code == 0 and "no latents: the likelihood is exact" in trained.stdout
    values: dict[str, Any] = told(lso("evaluate", "px", "--limit", 5, "--json"))
    assert values["iw_nll"] == pytest.approx(values["neg_elbo"]) and values["kl"] is None and values["mi"] is None
    text = lso("evaluate", "px", "--limit", 5).stdout
    assert "exact" in text and "importance" not in text and "of 0" not in text
    report = lso("report", "px", "--out", "page")
    row = next(line.split() for line in report.stdout.splitlines() if line.startswith("px "))
    assert row[4:] == ["–"] * 7
    refused(lso("evaluate", "px", "--gaps"), 2, "has no inference gaps")
    refused(lso("optimize", "--model", "px", "--target", "test:2"), 2, "nothing to search")

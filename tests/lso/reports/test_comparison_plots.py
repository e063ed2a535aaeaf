"""Charts of trainings show what the rows say."""

from typing import Any

import numpy as np
import pytest
import torch

from lso.reports import plots
from lso.reports.training_verdict import training_verdict
from lso.vae.checkpoint import Codes


def table(epochs: int = 4, scale: float = 1.0, **more: Any) -> list[dict[str, Any]]:
    first = {"epoch": 0, "kl": 500.0, "mi": 0.1, "aggregate_kl": 499.9}
    rest = [{"epoch": e, "kl": 3.0 * e * scale, "mi": 1.0 * e, "aggregate_kl": 2.0 * e} for e in range(1, epochs)]
    return [row | more for row in (first, *rest)]


def test_a_run_s_panel_has_its_three_curves() -> None:
    figure = plots.information({"a": table(), "b": table(scale=2)})
    axes = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title("left") for axis in axes] == ["a", "b"]
    for axis, scale in zip(axes, (1, 2), strict=True):
        drawn = {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in axis.lines}
        assert drawn["KL(q(z|x) || p(z))"] == [500, 3 * scale, 6 * scale, 9 * scale]
        assert drawn["mutual information of x and z"] == [0.1, 1, 2, 3]
        assert drawn["KL(q(z) || p(z))"] == [499.9, 2, 4, 6]
        assert axis.get_ylim()[1] == pytest.approx(1.05 * 9 * scale)  # the untrained epoch lies outside


@pytest.mark.parametrize("runs", [1, 2, 3, 4, 7])
def test_every_run_gets_a_panel_and_empty_places_stay_empty(runs: int) -> None:
    figure = plots.information({f"run {i}": table() for i in range(runs)})
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert len(shown) == runs and all(axis.lines for axis in shown)
    assert [axis.get_xlabel() for axis in shown][-min(runs, 3) :] == ["epoch"] * min(runs, 3)


def test_aggressive_epochs_are_shaded_and_others_are_not() -> None:
    plain, aggressive = table(inner_steps=0.0), [row | {"inner_steps": 30.0 * (row["epoch"] == 1)} for row in table()]
    axes = plots.information({"a": plain, "b": aggressive}).axes
    assert [len(axis.patches) for axis in axes] == [0, 1]


def test_a_run_without_latents_keeps_its_colour_free() -> None:
    rows = [{"epoch": e, "reencoding_error": 1.0, "reencoding_error_mean": 0.1} for e in range(3)]
    axes = plots.reencoding({"baseline": [], "vae": rows}).axes
    curves = [line for line in axes[0].lines if line.get_label() == "vae"]
    assert [line.get_color() for line in curves] == [plots.COLOURS[1]]
    codes = Codes(torch.randn(20, 3), torch.zeros(20, 3), None)
    left = plots.dimensions_across({"baseline": None, "vae": codes}).axes[0]
    assert [line.get_color() for line in left.lines if line.get_label() == "vae"] == [plots.COLOURS[1]]


def test_trainings_without_latents_have_no_panels_of_them_and_collapsed_ones_look_flat() -> None:
    rows = [{"epoch": epoch, "neg_elbo": 9.0 - epoch, "reconstruction": 9.0} for epoch in range(2)]
    titles = [axis.get_title(loc="left") for axis in plots.training({"lm": rows}).axes]
    assert titles == ["-ELBO", "Reconstruction"]
    collapsed = [{**row, **dict.fromkeys(("kl", "mi", "active_units", "aggregate_kl"), 1e-9)} for row in rows]
    six = plots.training({"lm": rows, "vae": collapsed}).axes
    assert len(six) == 6 and len(six[1].lines) == 1 and six[1].get_ylim()[1] == 0.1


def test_activity_is_sorted_and_has_the_line_of_au() -> None:
    mean = torch.tensor([0.01, 1.0, 0.2]) * torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    left, right = plots.dimensions_across({"vae": Codes(mean, torch.zeros(300, 3), None)}).axes
    assert [text.get_text() for text in right.texts] == ["measured when the training has ended"] and not right.lines
    heard = plots.dimensions_across({"vae": Codes(mean, torch.zeros(300, 3), torch.tensor([0.0, 1.0, 0.1]))}).axes[1]
    assert not heard.texts and np.asarray(heard.lines[0].get_ydata()).tolist() == pytest.approx([1.0, 0.1, 1e-4])
    curve = next(line for line in left.lines if line.get_label() == "vae")
    expected = mean.double().var(0).sort(descending=True).values.numpy()
    np.testing.assert_allclose(np.asarray(curve.get_ydata()), expected)
    assert left.get_yscale() == "log" and any(np.array_equal(line.get_ydata(), [0.01, 0.01]) for line in left.lines)


def test_a_baseline_is_not_said_to_use_its_latents() -> None:
    rows = [{"neg_elbo": 90.0, "active_units": 0, "mi": 0.0}]
    found = training_verdict("p", {"status": "finished"}, rows, 0)
    assert found.level == "fine" and "exact: 90" in found.sentence and "in use" not in found.sentence
    assert "not finished" in training_verdict("p", {"status": "stopped"}, rows, 0).sentence

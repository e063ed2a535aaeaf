"""Charts over many trainings show what they were given."""

import numpy as np
import pytest

from lso.reports.sweep_plots import beside_published, draw_sweep, units_and_likelihood


def test_a_sweep_shows_one_point_a_run_and_a_line_a_method() -> None:
    runs = [(method, size, seed) for method in ("vae", "ne-vae-se") for size in (8, 32) for seed in range(3)]
    points = [
        {
            "method": method,
            "latent_dim": size,
            "active_units": size // 2 + seed,
            "neg_elbo": 90.0 + seed,
            "iw_nll": 89.0,
        }
        for method, size, seed in runs
    ]
    figure = draw_sweep([*points, {"method": "vae", "latent_dim": 64}])
    against_size, likelihood = figure.axes
    shown = np.concatenate([np.atleast_1d(line.get_ydata()) for line in likelihood.lines])
    assert len(shown) == 12 and set(shown) == {89.0} and "importance" in likelihood.get_ylabel()
    means = [container.lines[0].get_ydata().tolist() for container in against_size.containers]  # type: ignore[attr-defined]
    assert means == [[5.0, 17.0], [5.0, 17.0]]
    places = [container.lines[0].get_xdata().tolist() for container in against_size.containers]  # type: ignore[attr-defined]
    assert places[0][0] < 8 < places[1][0] and places[0][1] < 32 < places[1][1]  # equal lines do not hide each other
    (diagonal,) = [line for line in against_size.lines if line.get_label() == "all active"]
    assert diagonal.get_zorder() > max(line.get_zorder() for line in against_size.lines if line is not diagonal)


def test_a_run_without_latents_is_a_level() -> None:
    runs = [("vae", 2, 1), ("pixelcnn", 0, None)]
    points = [
        {"method": name, "latent_dim": size, "active_units": units, "neg_elbo": 90.0} for name, size, units in runs
    ]
    _, likelihood = draw_sweep(points).axes
    assert [line.get_label() for line in likelihood.lines] == ["vae", "pixelcnn, no latents"]


def test_points_stand_nearer_to_their_units_than_to_others_however_many_methods_there_are() -> None:
    points = [
        {"method": f"m{i}", "latent_dim": 32, "active_units": units, "neg_elbo": 90.0 + i, "iw_nll": 89.0 + i}
        for i in range(11)
        for units in (5, 32)
    ]
    (axis,) = units_and_likelihood(points).axes
    for line in axis.lines:
        places = np.asarray(line.get_xdata())
        assert np.round(places).tolist() == [5, 32] and "importance" in axis.get_ylabel()
    assert len({float(np.asarray(line.get_xdata())[0]) for line in axis.lines}) == 11


def test_published_means_have_a_panel_and_the_same_marks() -> None:
    """He et al. (2019), Tables 2 and 6: VAE and PixelCNN; ours by importance, so that both are NLL."""
    published = [
        {"method": "VAE", "latent_dim": 1, "active_units": 3.0, "neg_elbo": 89.41, "iw_nll": 89.41},
        {"method": "PixelCNN", "latent_dim": 0, "active_units": None, "neg_elbo": 89.73, "iw_nll": 89.73},
    ]
    ours = [
        {"method": "VAE", "latent_dim": 32, "active_units": 4, "neg_elbo": 90.0 + seed, "iw_nll": 89.0 + seed}
        for seed in range(5)
    ]
    printed, made = units_and_likelihood(ours, published).axes
    assert [line.get_label() for line in printed.lines] == ["VAE", "PixelCNN, no latents"]
    assert printed.lines[0].get_xdata().tolist() == [3.0] and printed.lines[0].get_ydata().tolist() == [89.41]  # type: ignore[union-attr]
    assert made.lines[0].get_ydata().tolist() == [89.0, 90.0, 91.0, 92.0, 93.0]  # type: ignore[union-attr]
    assert made.lines[0].get_marker() == printed.lines[0].get_marker()
    assert (printed.get_title(loc="left"), made.get_title(loc="left")) == ("Published, means", "Ours, one point a run")


@pytest.mark.parametrize(("far", "cut"), [(106.0, True), (90.0, False)])
def test_a_few_that_lie_far_above_are_named_instead(far: float, cut: bool) -> None:
    levels = {"a": 89.0, "b": 89.1, "c": 89.2, "d": 89.3, "e": far}
    points = [{"method": m, "latent_dim": 8, "active_units": 3, "neg_elbo": v} for m, v in levels.items()]
    (axis,) = units_and_likelihood(points).axes
    low, high = axis.get_ylim()
    assert low < 89.0 and all(value < high for value in (89.3, *([] if cut else [far])))
    assert [line.get_label() for line in axis.lines][-1] == ("" if cut else "e")  # no key to what is not drawn
    assert (high < 92) and [text.get_text() for text in axis.texts] == (["above this range\ne: 106.0"] if cut else [])


def test_more_than_eight_are_told_apart() -> None:
    points = [{"method": str(i), "latent_dim": 8, "active_units": i, "neg_elbo": 9.0 + i} for i in range(12)]
    (axis,) = units_and_likelihood(points).axes
    forms = [(line.get_color(), line.get_marker(), line.get_markerfacecolor()) for line in axis.lines]
    assert len(set(forms)) == 12


def test_published_and_ours_stand_in_a_line_for_each_row() -> None:
    columns = {"KL": [(2, 1.0, 4.0), (5, 2.0, 3.0)], "AU": [(5, 10.0, 10.0)]}
    figure = beside_published(columns, {2: "VAE", 5: "a name that is much too long to stand beside a chart"})
    first, second = figure.axes
    names = [label.get_text() for label in first.get_yticklabels()]
    assert names == ["2 VAE", "5 a name that is much too lon…"]
    drawn = [np.column_stack([line.get_xdata(), line.get_ydata()]).tolist() for line in (*first.lines, *second.lines)]
    assert drawn == [[[1, 0], [2, 1]], [[4, 0], [3, 1]], [[10, 1]], [[10, 1]]]


@pytest.mark.parametrize("values", [(88.79, 88.79001), (1e-5, 2e-5), (0.0, 1e-5), (1e-5, 3.0)])
def test_numbers_on_axes_are_plain(values: tuple[float, float]) -> None:
    figure = beside_published({"KL": [(1, *values)]}, {})
    figure.canvas.draw()
    axis = figure.axes[0].xaxis
    assert axis.get_offset_text().get_text() == ""
    labels = [label.get_text() for label in axis.get_ticklabels() if label.get_text()]
    assert len(set(labels)) == len(labels) >= 1 and not any("$" in text for text in labels)

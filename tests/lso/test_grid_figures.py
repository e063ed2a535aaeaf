"""Charts over many trainings show what they were given."""

import numpy as np
import pytest

from lso.grid_figures import beside_published, sweep


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
    figure = sweep([*points, {"method": "vae", "latent_dim": 64}])
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
    _, likelihood = sweep(points).axes
    assert [line.get_label() for line in likelihood.lines] == ["vae", "pixelcnn, no latents"]


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

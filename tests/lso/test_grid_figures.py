"""Charts over many trainings show what they were given."""

import numpy as np

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


def test_published_and_ours_are_numbered_by_row() -> None:
    figure = beside_published({"KL": [(2, 1.0, 4.0), (5, 2.0, 3.0)], "AU": [(5, 10.0, 10.0)]})
    assert [[text.get_text() for text in axis.texts] for axis in figure.axes] == [["2", "5"], ["5"]]

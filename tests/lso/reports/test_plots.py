"""Charts draw, are small and leave matplotlib alone; grids are exact to the pixel."""

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pytest
import torch

from lso.analysis.summary import SearchSummary
from lso.reports import plots
from lso.reports import search_plots as search_figures
from lso.reports.images import data_uri, figure_png, grid, image_png, png, to_rgb_bytes
from tests.lso.searched import codes, summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS: list[dict[str, Any]] = [
    {"epoch": e, "neg_elbo": 90.0 / (e + 1), "kl": 1.0 * e, "mi": 0.5 * e, "active_units": e, "best": e == 2}
    | {"aggregate_kl": 0.1, "reconstruction": 50.0, "reencoding_error": 1.5, "reencoding_error_mean": None}
    for e in range(4)
]


def opened(content: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(BytesIO(content)).convert("RGB"))


@pytest.mark.parametrize(
    "draw",
    [
        search_figures.convergence_figure,
        search_figures.final_values_figure,
        search_figures.distances_figure,
        lambda found: search_figures.activity_figure(found.dimensions),
        search_figures.plausibility_figure,
        lambda _: plots.training({"a": ROWS, "b": ROWS[:1]}),
        lambda _: plots.reencoding({"a": ROWS}),
        lambda _: plots.dimensions_across({"a": codes(), "b": codes(2)}),
        lambda found: plots.searches({"a": found.to_json(), "b": found.to_json()}),
    ],
)
def test_every_chart_draws_small_and_leaves_the_settings_alone(draw: Callable[[SearchSummary], "Figure"]) -> None:
    before = dict(matplotlib.rcParams)
    content = figure_png(draw(summary()), dpi=80)
    assert dict(matplotlib.rcParams) == before
    assert 2_000 < len(content) < 150_000
    assert opened(content).std() > 5  # something is on it


def test_a_grid_puts_every_pixel_where_it_belongs() -> None:
    images = torch.arange(3 * 4).reshape(3, 1, 2, 2).to(torch.uint8) * 20
    sheet = grid(images, columns=2, at_least=4, pad=1)
    assert sheet.shape == (2 * 5 + 1, 2 * 5 + 1, 3)
    assert (sheet[1:5, 6:10, 0] == np.kron(images[1, 0].numpy(), np.ones((2, 2)))).all()
    assert (sheet[6:, 6:] == 255).all() and (sheet[0] == 255).all()  # the empty place and the edge are white


def test_pixels_are_clipped_and_symmetric_ranges_are_recognised() -> None:
    assert to_rgb_bytes(torch.tensor([[[[0.0, 0.5, 2.0, float("nan")]]]]))[0, 0, :, 0].tolist() == [0, 128, 255, 0]
    assert to_rgb_bytes(torch.tensor([[[[-1.0, 0.0, 1.0]]]]))[0, 0, :, 0].tolist() == [0, 128, 255]


def test_png_keeps_colours_and_grey() -> None:
    colour = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(opened(image_png(colour)), to_rgb_bytes(colour).numpy())
    grey = np.full((4, 4, 3), 7, dtype=np.uint8)
    assert np.array_equal(opened(png(grey)), grey)
    assert data_uri(png(grey)).startswith("data:image/png;base64,")


def test_charts_need_no_display() -> None:
    assert "pyplot" not in str(type(search_figures.final_values_figure(summary()).canvas.manager))


def test_a_level_far_from_the_data_is_told_in_the_legend_and_leaves_the_axis_alone() -> None:
    _, axes = plots.canvas(1, 2, 2.0)
    for axis, level in zip(axes[0], (25.0, 400.0), strict=True):
        axis.plot([0, 1], [10, 20])
        plots.mark_level(axis, level, "best attainable")
    near, far = axes[0]
    assert near.get_ylim()[1] > 25 and far.get_ylim()[1] < 21
    told = [axis.get_legend_handles_labels()[1] for axis in (near, far)]
    assert told == [["best attainable"], ["best attainable: 400, off the chart"]]

"""Charts of the space of posterior means."""

import torch

from lso.tasks.papers.lagging_report import REACH, paths, posterior_space


def test_a_panel_for_each_stage_and_what_lies_outside_is_counted() -> None:
    true, encoder = torch.tensor([0.0, 1.0, 5.0]), torch.tensor([0.0, 1.0, 1.0])
    stages = [("step 0", true, encoder), ("step 9", true[:2], encoder[:2])]
    figure = posterior_space({"plain VAE": stages, "aggressive": stages[:1]})
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title(loc="left") for axis in shown] == ["step 0", "step 9", "step 0"]
    assert [text.get_text() for text in shown[0].texts] == ["1 outside"] and not shown[1].texts
    assert shown[0].get_xlim() == shown[0].get_ylim() == (-REACH, REACH)


def test_paths_share_one_scale() -> None:
    short, long = torch.tensor([0.0, 0.1, 0.2]), torch.tensor([0.0, 1.0, -2.0])
    figure = paths({"plain VAE": (short, short), "aggressive": (long, short)})
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim() == figure.axes[1].get_ylim()
    assert figure.axes[0].get_xlim()[1] > 2


def test_a_way_without_moves_is_drawn() -> None:
    nothing = torch.zeros(3)
    assert len(paths({"plain VAE": (nothing, nothing)}).axes) == 1

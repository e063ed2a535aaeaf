"""Leaves charts out of reports, which take longer to draw than all else that tests do with them."""

import importlib
import inspect

import pytest

PLOTS = ("lso.reports.plots", "lso.reports.search_plots", "lso.reports.black_box_plots", "lso.tasks.retraining.plots")


def leave_charts_out(patch: pytest.MonkeyPatch) -> None:
    """Have every function that draws a chart return an empty picture."""
    for name in PLOTS:
        module = importlib.import_module(name)
        for key, function in inspect.getmembers(module, inspect.isfunction):
            made = function.__annotations__.get("return")  # a type, or its name
            if function.__module__ == name and getattr(made, "__name__", made) == "Figure":
                patch.setattr(module, key, lambda *_, **__: b"")


def leave_charts_unrendered(patch: pytest.MonkeyPatch) -> None:
    """Have every chart made and none rendered, which takes most of their time."""
    patch.setattr("lso.reports.images.figure_png", lambda *_, **__: b"\x89PNG")

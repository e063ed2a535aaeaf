"""What a notebook and a terminal show of results, runs and metrics."""

import json
from pathlib import Path

import pytest
import torch

import lso
from lso.decoders.decoder import Decoder
from lso.objectives.latent_objective import LatentObjective
from lso.reports.terminal import essence_table, verbose_table
from lso.vae.config.architectures import architecture
from lso.vae.metrics.evaluation import evaluate_split
from lso.vae.models.vae import build
from lso.vae.utils.notebook import html_table
from tests.charts import leave_charts_out
from tests.lso.reports.test_search_report import a_run
from tests.lso.searched import planted_search


def test_a_gradient_search_shows_verdict_numbers_and_objects_in_a_notebook() -> None:
    made = planted_search()._repr_html_()
    assert made.startswith('<div class="lso-report">') and made.rstrip().endswith("</div>")
    for word in ("best value", "Best objects", 'role="status"', "active dimensions"):
        assert word in made
    assert "<html" not in made and 'src="http' not in made


def test_a_black_box_search_does_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_charts_out(monkeypatch)
    monkeypatch.setattr("lso.analysis.black_box_summary.calibrate_evaluations", lambda *_: None)
    decoder = Decoder(lambda z: z.reshape(-1, 1, 2, 2), latent_dim=4)
    found = lso.optimize(LatentObjective(decoder, lambda x: x.sum((1, 2, 3)).tolist()), "random", 12)
    made = found._repr_html_()
    assert "distinct valid objects" in made and made.count("data:image/png") == 10


def test_a_run_and_its_metrics_are_tables(tmp_path: Path) -> None:
    run = a_run(tmp_path / "<run>")
    made = run._repr_html_()
    assert "&lt;run&gt;" in made and "<run>" not in made and "neg_elbo" in made and "finished" in made
    model = build(architecture("mlp", 3), True, (1, 8, 8)).eval()
    metrics = evaluate_split(model, torch.rand(20, 1, 8, 8).round(), split="validation", seed=0, iw_samples=0)
    table = metrics._repr_html_()
    assert f"<td>{metrics.neg_elbo:,.4g}</td>" in table and "activity" not in table


def test_what_is_not_known_is_left_out_and_text_is_escaped() -> None:
    assert html_table("a & b", {"x": None, "y": 0.123456, "z": "<i>"}) == (
        "<strong>a &amp; b</strong><table><tr><th style='text-align: left'>y</th><td>0.1235</td></tr>"
        "<tr><th style='text-align: left'>z</th><td>&lt;i&gt;</td></tr></table>"
    )


def test_a_terminal_shows_the_cards_and_the_best_object(tmp_path: Path) -> None:
    page = planted_search().report(tmp_path)
    numbers = json.loads(page.with_suffix(".json").read_text())
    table = essence_table({"value": numbers})
    assert [row[0] for row in table.rows] == [card["label"] for card in numbers["cards"]] + ["best object"]
    best, row = numbers["best_object"], table.rows[-1]
    assert f"{best['z'][0]:.3g}" in row[2] and "typical of the prior" in row[2] and len(table.rows) <= 8
    two = essence_table({"a": numbers, "b": numbers})
    assert two.columns == ["number", "a", "b"] and two.rows[-1][0] == "verdict" and two.rows[-1][1] == two.rows[-1][2]
    every = verbose_table({"value": numbers})
    assert len(every.rows) > 15 and every.columns == ["number", "value"]

"""Pages are self-contained, small and hold the same numbers as their JSON."""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from lso.analysis.summary import search_summary
from lso.decoders.decoder import Decoder
from lso.decoders.probing import probe
from lso.gradient.search import minimize
from lso.objectives.latent_objective import LatentObjective
from lso.reports import search_report as report
from lso.reports.comparison import compare_runs, compare_searches, training_report
from lso.reports.gallery import MAX_STARTS, MAX_TARGETS, chosen_targets, gallery, gallery_note
from lso.reports.html import append_hash, is_whole
from lso.reports.key_numbers import key_numbers
from lso.reports.report import (
    Card,
    Chart,
    Note,
    Part,
    Report,
    Section,
    TextLine,
    Texts,
    Tile,
    TileRow,
    Tiles,
    VerdictBox,
)
from lso.reports.tables import Table, number, percent
from lso.reports.training_verdict import training_verdict
from lso.results.result import Result
from lso.vae.checkpoint import Codes, as_codes, pack_codes
from lso.vae.config.architectures import architecture
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.errors import RunError, UsageError
from lso.vae.metrics.collapse import LatentUse, collapse_verdict, plain
from lso.vae.models.vae import build
from lso.vae.runs import Run, create
from tests.lso.example_decoders import draws
from tests.lso.searched import codes, planted_search, summary
from tests.vae.small import config

ELSEWHERE = re.compile(r"""(?:src|href)\s*=\s*["'](?!data:image/png;base64,|#)|url\(|@import|<script|<link|https?://""")


def page(path: Path) -> str:
    """The text of a page that asks for nothing from outside."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
    assert not ELSEWHERE.search(text)
    return text


@cache
def image_search(targets: int = 20, starts: int = 8) -> Result:
    """A short search in an untrained VAE of 8x8 images, over all kinds of start."""
    decoder = Decoder(build(architecture("mlp", latent_dim=4, width=16), False, (1, 8, 8)))
    aims = torch.rand(targets, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    objective = LatentObjective.reconstruct(decoder, aims)
    names = ["zero", *[f"prior {i}" for i in range(1, starts)]]
    z0 = draws(targets, starts, 4)
    z0[:, 0] = 0
    return minimize(objective, z0, max_steps=15, trace_every=5, start_names=names)


@pytest.mark.usefixtures("charts")
def test_a_search_report_is_one_small_file_with_every_section(tmp_path: Path) -> None:
    found = codes(30)
    four = Codes(found.mean[:, :4], found.log_var[:, :4], None)
    where = report.search_report(
        image_search(), tmp_path, codes=four, verdict="Posterior collapse: 0 of 4.", extra={"model": "m"}
    )
    text = page(where)
    assert where == tmp_path / "report.html" and where.stat().st_size < 1_000_000
    names = ("best-objects", "whether-to-believe-it", "convergence", "sensitivity-to-the-start")
    for section in (*names, "activity-per-dimension", "typicality", "counters", "settings", "where-it-came-from"):
        assert f'<h2 id="{section}">' in text and f'<a href="#{section}">' in text
    assert text.index("Posterior collapse: 0 of 4.") < text.index("Best objects")
    assert text.count("data:image/png") == 5 + 20 * (3 + 2 * 8)


def test_posteriors_of_a_foreign_encoder_serve_as_codes(tmp_path: Path) -> None:
    found = codes(30)
    mean, log_var = found.mean[:, :4], found.log_var[:, :4]
    for name, known in (("run", Codes(mean, log_var, None)), ("own", DiagonalGaussian(mean, log_var))):
        report.search_report(image_search(2, 2), tmp_path / f"{name}.html", codes=known)
    numbers = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("run", "own")]
    assert numbers[0]["dimensions"] == numbers[1]["dimensions"] and numbers[0]["verdict"] == numbers[1]["verdict"]
    with pytest.raises(UsageError, match="expected posteriors as codes, got Tensor"):
        as_codes(mean)


def test_the_json_beside_the_page_has_the_same_numbers(tmp_path: Path) -> None:
    where = report.write_search(summary(), tmp_path / "mine.html")
    numbers = json.loads((tmp_path / "mine.json").read_text(), parse_constant=pytest.fail)
    assert where == tmp_path / "mine.html"
    assert numbers["verdict"]["sentence"] in page(where).replace("&#39;", "'")
    assert numbers["dimensions"]["dead"] == [2] and numbers["dimensions"]["weak"] == [4]
    assert number(numbers["essence"]["best value"]) in page(where)
    assert len(numbers["convergence"]["trace"]) == len(numbers["convergence"]["trace_steps"])
    assert numbers["control"]["optimizer"] == "lbfgs"


def test_a_foreign_decoder_is_reported_with_the_probe_and_without_codes(tmp_path: Path) -> None:
    result = planted_search()
    where = report.search_report(result, tmp_path, probe=probe(result.objective.decoder, 64, torch.Generator()))
    assert "<th>re-encoding correlation</th>" in page(where) and "<th>variance of means</th>" not in page(where)


def test_a_report_without_codes_makes_its_own_probe(tmp_path: Path) -> None:
    planted_search().report(tmp_path)
    numbers = json.loads((tmp_path / "report.json").read_text())["dimensions"]
    assert numbers["variance"] is None and numbers["redraw"][2] == 0 < numbers["redraw"][4] < numbers["redraw"][0]
    assert "<th>change when redrawn</th>" in page(tmp_path / "report.html")


@pytest.mark.usefixtures("charts")
def test_a_decoder_of_numbers_is_reported(tmp_path: Path) -> None:
    decoder = Decoder(lambda z: (z[..., :2] ** 2).sum(-1), latent_dim=3)
    objective = LatentObjective(decoder, lambda x: x)
    minimize(objective, draws(4, 3), max_steps=60).report(tmp_path)
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert numbers["dimensions"]["dead"] == [2] and "Jacobian" in numbers["dimensions"]["how"]
    assert numbers["sensitivity"]["basins"] == [1]


def test_what_is_decoded_but_no_image_is_said_so(tmp_path: Path) -> None:
    decoder = Decoder(lambda z: torch.tanh(z @ torch.ones(2, 5, dtype=z.dtype)), latent_dim=2)
    result = minimize(LatentObjective.reconstruct(decoder, draws(2, 5)), draws(2, 2, 2), max_steps=10)
    where = result.report(tmp_path / "mine.html")
    assert where == tmp_path / "mine.html" and "only images are shown" in page(where)


def test_the_gallery_says_what_it_cut() -> None:
    many = search_summary(image_search(MAX_TARGETS + 3, MAX_STARTS + 1))
    found, note = gallery(many), gallery_note(many)
    assert found is not None and len(found.rows) == MAX_TARGETS
    assert [span for _, span, _ in found.heads] == [1, 1, 1] + [2] * MAX_STARTS
    assert all(len(row.tiles) == 3 + 2 * MAX_STARTS for row in found.rows)
    assert f"{MAX_TARGETS} of {MAX_TARGETS + 3} targets" in note
    assert f"first {MAX_STARTS} of {MAX_STARTS + 1} starts" in note
    best = torch.arange(10.0)
    assert chosen_targets(best, 4) == [0, 3, 6, 9] and chosen_targets(best, 10) == list(range(10))


def test_a_page_shows_whether_it_is_whole_whatever_its_line_ends() -> None:
    raw = append_hash("<html>\n<p>a</p>\n</html>")
    assert is_whole(raw) and is_whole(raw.replace(b"\n", b"\r\n"))
    assert not is_whole(raw.replace(b">a<", b">b<")) and not is_whole(raw[:-10])


def test_names_from_outside_are_escaped() -> None:
    evil = "<script>alert(1)</script>"
    tile = Tile(image=torch.zeros(1, 2, 2), alt=evil, value=evil)
    parts: list[Part] = [
        evil,
        Note(evil),
        Table(columns=[evil], rows=[[evil]], title=evil, note=evil),
        Chart(b"", evil, evil),
    ]
    parts += [Tiles(rows=[TileRow(tiles=[tile], name=evil, remark=evil)], heads=[(evil, 1, evil)])]
    line = TextLine(what=evil, value=evil, pieces=[(evil, True)], remark=evil)
    parts += [Texts(lines=[line], title=evil, remark=evil)]
    page = Report(
        kind="search",
        title=evil,
        subtitle=evil,
        about=None,
        sections=[lambda _: Section(evil, parts)],
        verdicts=[VerdictBox(level="fine", word=evil, sentence=evil, training=evil)],
        banners=[evil],
        cards=[Card(evil, evil, evil)],
        notes=[evil],
        extra={evil: evil},
    )
    text = page.html(page.made_sections(), evil)
    for made in (text, page._repr_html_()):
        assert "<script>" not in made and made.count("&lt;script&gt;") >= 28


def test_the_key_numbers_are_a_table_of_text() -> None:
    table = report.key_number_table(summary())
    assert all(len(row) == len(table.columns) and all(isinstance(cell, str) for cell in row) for row in table.rows)
    assert summary().verdict.sentence in table.note
    assert ["active dims (decoder)", "5"] in table.rows
    json.dumps(key_numbers(summary()))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0, "0"),
        (-0.0, "0"),
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (1.5e-7, "1.50e-07"),
        (123456.7, "123,457"),
    ],
)
def test_numbers_read_well(value: float | None, text: str) -> None:
    assert number(value) == text


def test_shares_read_well() -> None:
    assert [percent(x) for x in (0.0, 6.2e-53, 0.0004, 0.5, 0.123, 0.034, 0.999, None)] == [
        "0 %",
        "< 0.01 %",
        "0.04 %",
        "50 %",
        "12 %",
        "3.4 %",
        "99.9 %",
        "–",
    ]


# --- trainings -------------------------------------------------------------------------------------------------------


def a_run(path: Path, *, verdict: str = "", provenance: Mapping[str, Any] = {}, epochs: int = 3, **status: str) -> Run:
    """A training run folder with made-up metrics."""
    data = {"name": "omniglot", "hash": "0" * 64, "provenance": dict(provenance)}
    info = {"status": "finished", "sentence": "done", "seed": 0, "verdict": verdict, "dataset": data, **status}
    run = create(path, "train", info, config())
    names = ("reconstruction", "kl", "mi", "aggregate_kl", "reencoding_error", "reencoding_error_mean")
    rows = [{"epoch": e, "neg_elbo": 90 - e, "active_units": e, "mi_batch": 50, "best": True} for e in range(epochs)]
    lines = [json.dumps(row | dict.fromkeys(names, 0.5 * row["epoch"])) for row in rows]
    (path / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    (path / "codes.npz").write_bytes(pack_codes(codes(20)))
    return run


@pytest.mark.usefixtures("charts")
def test_few_active_units_without_a_verdict_are_no_all_clear(tmp_path: Path) -> None:
    """A training that ended within its warm-up is not judged, and must not read as one that passed."""
    text = page(training_report(a_run(tmp_path / "run", epochs=1)))
    assert "too early to tell" in text and "no collapse" not in text


@pytest.mark.parametrize(
    ("information", "judged", "level", "word"),
    [
        (2.5, True, "fine", "✓ no collapse"),
        (2.49, True, "care", "! little in use"),
        (0.9, True, "doubt", "✗ collapsed"),
        (2.49, False, "care", "! too early to tell"),
        (0.9, False, "doubt", "✗ not learnt yet"),
    ],
)
def test_between_a_collapse_and_none_there_is_a_middle(information: float, judged: bool, level: str, word: str) -> None:
    use = LatentUse(latent_dim=32, data=179, mutual_information=information, kl=5.9, used=14, active_units=31)
    info = {"status": "finished", "judged": judged, "latents": plain(use)}
    info["verdict"] = collapse_verdict(use, warm=judged)
    told = training_verdict("r", info, [{"best": True, "neg_elbo": 1.0, "active_units": 31}], 32)
    assert (told.level, told.word) == (level, f"{word} · r") and use.told() in told.sentence


@pytest.mark.usefixtures("charts")
def test_a_training_report_lies_in_the_run(tmp_path: Path) -> None:
    text = page(training_report(a_run(tmp_path / "run")))
    numbers = json.loads((tmp_path / "run" / "report.json").read_text())["runs"]["run"]
    assert "Training report" in text and "no collapse" in text
    assert numbers["best"]["epoch"] == 2 and len(numbers["metrics"]) == 3 and len(numbers["dimensions"]["kl"]) == 7


@pytest.mark.usefixtures("charts")
def test_trainings_side_by_side_show_verdicts_substitutes_and_what_differs(tmp_path: Path) -> None:
    runs = [
        a_run(tmp_path / "a", verdict="Posterior collapse: only 1 of 7."),
        a_run(
            tmp_path / "b",
            provenance={"substitute": True, "notes": ["OMNIGLOT: made from Lake's images."]},
            sentence="other",
        ),
        a_run(tmp_path / "c", status="stopped", epochs=1),
    ]
    text = page(compare_runs(runs, tmp_path / "all"))
    assert "Posterior collapse: only 1 of 7." in text and "not finished" in text
    assert "substitute for omniglot" in text and "made from Lake" in text
    assert '<tr class="differs">' in text


def test_a_run_without_metrics_and_no_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no metrics yet"):
        compare_runs([a_run(tmp_path / "empty", epochs=0)], tmp_path / "out")
    with pytest.raises(UsageError, match="no runs"):
        compare_runs([], tmp_path / "out")


def test_searches_side_by_side_come_from_their_own_json(tmp_path: Path) -> None:
    runs = []
    for name in ("x", "y"):
        runs.append(create(tmp_path / name, "search", {"status": "finished"}))
        numbers = report.search_numbers(summary(), {"model": name})
        (tmp_path / name / "report.json").write_text(json.dumps(numbers, allow_nan=False))
    text = page(compare_searches(runs, tmp_path / "both"))
    told = json.loads((tmp_path / "both" / "report.json").read_text())["searches"]["x"]
    assert told["settings"]["optimizer"] == "adam" and told["settings"]["model"] == "x"
    assert "code distance, active dims" in text and summary().verdict.sentence in text.replace("&#39;", "'")
    (tmp_path / "x" / "report.json").unlink()
    with pytest.raises(RunError, match=r"no readable report\.json"):
        compare_searches(runs, tmp_path / "both")


def test_pictures_are_written_beside_their_page(tmp_path: Path) -> None:
    from lso.reports.images import grid

    sheet = grid(torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)), 3)
    where = report.pictures("Traversal", {"Dimension z0": sheet}, tmp_path / "t", extra={"range": "-10 to 10"})
    assert "Dimension z0" in page(where) and (tmp_path / "t" / "dimension-z0.png").is_file()

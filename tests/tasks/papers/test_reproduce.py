"""A reproduction compares only what may be compared, and says what was cut."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lso.tasks.papers import comparison as beside
from lso.tasks.papers import reproduction_report as report
from lso.tasks.papers.published_tables import PublishedTable, at_scale, parse_table, published_table
from lso.tasks.papers.reproduce import TableReproduction, chosen_rows, measured, places, plan_table, with_finished
from lso.tasks.training import experiment
from lso.tasks.training.multi_run import train_all
from lso.tasks.training.run_set import Member, read_members
from lso.vae.errors import UsageError
from lso.vae.utils.reading import read_json, replace_sealed

TABLE = """
title = "Digits: a table made up for this test"
source = "Nobody (1900), Table 1"
note = "two seeds"
task = "digits"
column = "digits"
seeds = 1
iw_samples = 0
[settings.architecture]
name = "mlp"
width = 8
latent_dim = 2
[settings.protocol]
epochs = 1
batch_size = 500
[[row]]
model = "quoted"
digits = { kl = 1.0 }
[[row]]
model = "VAE"
train = "vae"
digits = { kl = { mean = 0.50, std = 0.00 }, neg_elbo = 40.0, au = 1 }
[[row]]
model = "annealed"
train = "vae-anneal"
digits = { kl = 0.30 }
[[row]]
model = "beta"
train = "beta-vae:beta=0.2"
digits = { kl = { mean = 0.10, std = 0.01 }, neg_elbo = 41.0, au = 1 }
"""


TEXT = """
title = "Text: a table made up for this test"
source = "Nobody (1900), Table 2"
note = "one seed"
task = "text"
column = "text"
iw_samples = 2
[settings.architecture]
name = "lstm"
width = 4
embedding = 3
latent_dim = 2
[settings.protocol]
epochs = 1
[[row]]
model = "LM"
train = "lstm-lm"
text = { ppl = 9.0 }
[[row]]
model = "VAE"
train = "vae"
text = { ppl = 9.5, ppl_bound = 10.0, kl = 0.0 }
[[row]]
model = "drops words"
train = "vae"
settings.architecture.word_drop = 0.5
text = { ppl_bound = 11.0, kl = 0.5 }
"""


def digits_table() -> PublishedTable:
    return parse_table("digits_table1", TABLE)[0]


@pytest.fixture(scope="module")
def read_text(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TableReproduction]:
    """The rows of the table of text, trained once, as a part of its file that is said to be the paper's."""
    folder = tmp_path_factory.mktemp("text")
    lines = [" ".join("abcdef"[k % n] for k in range(n)) for n in range(2, 7)] * 12
    (folder / "own.txt").write_text("\n".join(lines) + "\n")
    (found,) = parse_table("text_table2", TEXT)
    plan = plan_table(found, chosen_rows(found, []), {"data": {"path": str(folder / "own.txt")}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "_write_report", lambda run, _: run)
        train_all(plan.planned, folder / "runs", spec=plan.asked, device="cpu")
    return folder / "runs", plan


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All rows of the table, trained once. Copy it before writing there."""
    folder, found = tmp_path_factory.mktemp("trained"), digits_table()
    plan = plan_table(found, chosen_rows(found, []), {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "_write_report", lambda run, _: run)
        train_all(plan.planned, folder / "runs", spec=plan.asked, device="cpu")
    return folder / "runs"


def pretend_exact(root: Path) -> None:
    """Have the runs say that their data are the paper's file."""
    for path in root.glob("*/run.json"):
        info = read_json(path)
        info["dataset"]["provenance"]["exact"] = True
        replace_sealed(path, info)


def compared(root: Path, **options: Any) -> tuple[TableReproduction, list[Member], dict[str, Any]]:
    found = digits_table()
    plan = plan_table(found, chosen_rows(found, []), {}, **options)
    members = read_members(plan.planned, root, plan.asked)
    return plan, members, beside.compare(plan, members)


def test_on_other_data_there_is_the_order_alone(trained: Path) -> None:
    _, members, numbers = compared(trained)
    row = numbers["rows"][1]["cells"]["KL"]
    assert row["ours"]["mean"] == members[0].evaluations[0]["kl"] and "z" not in row and "difference" not in row
    assert numbers["ranks"]["KL"]["rows"] == 3 and numbers["ranks"]["AU"] is None  # two rows have no order
    (banner,) = beside.reproduction_banners(numbers, members)
    assert "NOT the paper's data" in banner and "order of the rows" in banner


def test_on_the_papers_data_there_are_scores_where_a_deviation_is_and_differences_elsewhere(
    trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "runs")
    pretend_exact(tmp_path / "runs")
    _, members, numbers = compared(tmp_path / "runs")
    cells, ours = numbers["rows"][1]["cells"], members[0].evaluations[0]
    assert cells["KL"]["z"] == pytest.approx((ours["kl"] - 0.5) / 0.005)  # floored at half of the last digit
    assert cells["-ELBO"]["difference"] == pytest.approx(ours["neg_elbo"] - 40.0) and "z" not in cells["-ELBO"]
    assert not beside.reproduction_banners(numbers, members)


def test_a_cut_protocol_is_said_and_leaves_the_order_alone(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "runs")
    pretend_exact(tmp_path / "runs")
    _, members, numbers = compared(tmp_path / "runs", test_limit=3)
    assert numbers["cuts"] == ["evaluated on the first 3 test images only"]
    assert not any({"z", "difference"} & cell.keys() for row in numbers["rows"] for cell in row["cells"].values())
    assert "NOT the paper's protocol" in beside.reproduction_banners(numbers, members)[0]


def test_runs_and_published_means_are_set_by_units_and_likelihood(trained: Path) -> None:
    plan, members, _ = compared(trained)
    ours, printed = report._points(plan, members) or ([], [])
    for point, member in zip(ours, members, strict=True):
        one = member.evaluations[0]
        assert (point["active_units"], point["neg_elbo"]) == (one["active_units"], one["neg_elbo"])
    assert [point["method"] for point in ours] == ["VAE", "annealed", "beta"]
    # By -ELBO, as no NLL was published: a row without it, or without active units, has no point.
    assert [(p["method"], p["active_units"], p["neg_elbo"]) for p in printed] == [("VAE", 1, 40.0), ("beta", 1, 41.0)]
    assert report._points(replace(plan, jobs=()), []) is None


def test_a_baseline_is_a_level_and_a_quoted_row_without_units_is_none() -> None:
    """He et al. (2019), Tables 2 and 6: by NLL, which is exact for the PixelCNN."""
    found = published_table("he2019_table2")
    plan = plan_table(found, chosen_rows(found, ["VAE", "PixelCNN"]), {}, seeds=1)
    numbers = {"neg_elbo": 90.5, "iw_nll": 90.0, "active_units": 4, "kl": 1.0, "mi": 1.0}

    class Measured(Member):
        status = "finished"

    members = [Measured(planned=job.planned, evaluations=[numbers]) for job in plan.jobs]
    ours, printed = report._points(plan, members) or ([], [])
    mine = {point["method"]: (point["latent_dim"], point["active_units"], point["iw_nll"]) for point in ours}
    assert mine == {"VAE": (1, 4.0, 90.0), "PixelCNN": (0, None, 90.5)}
    told = {point["method"]: (point["active_units"], point["iw_nll"]) for point in printed}
    assert told["PixelCNN"] == (None, 89.73) and told["VAE"] == (3.0, 89.41) and told["SA-VAE"] == (4.0, 89.29)
    assert len(told) == 11  # not the two quoted ones


def test_every_cut_of_the_protocol_is_named() -> None:
    found = published_table("he2019_table2")
    settings = {"data": {"limit": 1000}, "protocol": {"epochs": 2}, "architecture": {"name": "he2019-small"}}
    plan = plan_table(found, chosen_rows(found, ["Ours", "PixelCNN"]), settings, seeds=1, iw_samples=100)
    assert plan.cuts == (
        "1,000 training images instead of all",
        "networks he2019-small instead of he2019",
        "epochs 2 instead of 1000",
        "100 importance samples instead of 500",
    )
    assert plan.notes == ("Runs of each row: 1 here, 5 in the paper.",)
    assert [job.planned.config.architecture.latent_dim for job in plan.jobs] == [0, 32]


def test_rows_are_chosen_by_label_number_or_method() -> None:
    found = published_table("nevae2021_table1")
    assert chosen_rows(found, ["VAE, ne-vae-se,1"]) == [0, 1, 9]
    assert chosen_rows(found, ["VAE"]) == [1] and chosen_rows(found, ["vae"]) == [0]  # a label, a method
    assert chosen_rows(found, ["beta-vae:beta=0.9,anneal=8.88889"]) == [4] and len(chosen_rows(found, [])) == 19
    with pytest.raises(UsageError, match="published figures only"):
        chosen_rows(published_table("he2019_table2"), ["1"])
    with pytest.raises(UsageError, match="unknown row"):
        chosen_rows(found, ["VEA"])


def test_a_row_that_the_networks_cannot_train_is_named() -> None:
    found = published_table("he2019_table2")
    with pytest.raises(UsageError, match="row PixelCNN: mlp decodes from z alone"):
        plan_table(found, chosen_rows(found, []), {"architecture": {"name": "mlp"}})


def test_a_row_of_several_sizes_has_a_training_for_each() -> None:
    found = published_table("nevae2021_table2")
    plan = plan_table(found, chosen_rows(found, ["VAE"]), {})
    sizes = [(job.part, job.planned.config.architecture.latent_dim) for job in plan.jobs]
    assert sizes == [("d8", 8), ("d16", 16), ("d64", 64)]


def test_times_are_told_relative_to_the_row_published_as_one(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "runs")
    (found,) = parse_table(
        "t", TABLE.partition("[[row]]")[0]
        + '[[row]]\nmodel = "VAE"\ntrain = "vae"\ndigits = { relative = 1.00, hours = 4.3 }\n'
        + '[[row]]\nmodel = "b"\ntrain = "beta-vae:beta=0.2"\ndigits = { relative = 2.19, hours = 9.42 }\n',
    )  # fmt: skip
    plan = plan_table(found, [0, 1], {})
    assert plan.asked is None  # nothing is measured for a table of times
    members = read_members(plan.planned, tmp_path / "runs")
    numbers = beside.compare(plan, members)
    one, other = (member.info["seconds"] for member in members)
    assert numbers["rows"][1]["cells"]["relative time"]["ours"]["mean"] == pytest.approx(other / one)
    assert numbers["rows"][0]["cells"]["hours"]["ours"]["mean"] == pytest.approx(one / 3600)


def test_hours_and_their_multiples_have_one_order() -> None:
    columns = {"relative time": ("omniglot", "relative"), "hours": ("omniglot", "hours")}
    assert list(beside._ranked_columns(columns)) == ["hours"]


def test_what_another_call_trained_is_not_forgotten(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "runs")
    found, root = digits_table(), tmp_path / "runs"
    plan = plan_table(found, [1], {})
    whole = with_finished(plan, root, {})
    assert [(job.row, job.planned.name) for job in whole.jobs] == [
        (1, "vae-d2-s0"),
        (2, "vae-anneal-d2-s0"),
        (3, "beta-vae-beta=0.2-d2-s0"),
    ]
    other = with_finished(plan_table(found, [1], {"protocol": {"epochs": 3}}), root, {"protocol": {"epochs": 3}})
    assert [job.row for job in other.jobs] == [1]
    (root / "vae-anneal-d2-s0" / "evaluation.json").unlink()
    left = with_finished(plan, root, {})
    assert [job.row for job in left.jobs] == [1, 3] and "evaluated with other settings: vae-anneal-d2-s0" in left.notes[
        -1
    ]


def test_perplexities_are_exponentials_of_a_tokens_share(read_text: tuple[Path, TableReproduction]) -> None:
    root, plan = read_text
    language, plain, drops = members = read_members(plan.planned, root, plan.asked)
    (exact,), (one,) = language.evaluations, plain.evaluations
    assert measured(language, "ppl") == [pytest.approx(math.exp(exact["neg_elbo"] / exact["tokens"]))]
    assert measured(language, "ppl") == [pytest.approx(exact["perplexity"])] and not measured(language, "ppl_bound")
    assert measured(plain, "ppl") == [pytest.approx(one["perplexity"])]  # of the importance-weighted NLL
    assert measured(plain, "ppl_bound") == [pytest.approx(math.exp(one["neg_elbo"] / one["tokens"]))]
    assert measured(plain, "ppl")[0] < measured(plain, "ppl_bound")[0]
    (banner,) = beside.reproduction_banners(beside.compare(plan, members), members)
    assert "a substitute (own.txt)" in banner and drops.planned.name == "vae-word-drop=0.5-d2-s0"
    assert drops.planned.config.architecture.word_drop == 0.5 and not plan.cuts


def test_rows_with_settings_of_their_own_are_told_apart(read_text: tuple[Path, TableReproduction]) -> None:
    root, plan = read_text
    settings = {"data": {"path": plan.jobs[0].planned.config.data.path}}
    whole = with_finished(plan_table(plan.table, [1], settings), root, settings)
    assert [job.planned.name for job in whole.jobs] == ["lstm-lm-s0", "vae-d2-s0", "vae-word-drop=0.5-d2-s0"]
    lines = beside.comparison_table(beside.compare(plan, read_members(plan.planned, root, plan.asked)), plan.table).rows
    assert [line[0] for line in lines][-1] == "vae, word_drop=0.5"
    assert chosen_rows(plan.table, ["vae"]) == [1, 2] and chosen_rows(plan.table, ["VAE"]) == [1]


def test_cuts_of_text_are_told_of_sequences() -> None:
    found = published_table("he2019_table10")
    settings = {"data": {"limit": 1}, "architecture": {"name": "lstm"}}
    plan = plan_table(found, chosen_rows(found, ["2x"]), settings, test_limit=20)
    assert plan.cuts == (
        "1 training sequence instead of all",
        "networks lstm instead of he2019-text",
        "evaluated on the first 20 test sequences only",
    )
    with pytest.raises(UsageError, match="row encoder learning rate: 2x: mlp is for images, and task yelp has sequ"):
        plan_table(found, [1], {"architecture": {"name": "mlp"}})


def test_trainings_not_done_are_blank_and_said(trained: Path) -> None:
    plan, members, _ = compared(trained, seeds=2)
    numbers = beside.compare(plan, members)
    row = numbers["rows"][1]
    assert (row["done"], row["planned"]) == (1, 2) and row["cells"]["KL"]["ours"]["n"] == 1
    assert "Trainings not finished: 3 of 6" in beside.reproduction_banners(numbers, members)[-1]
    lines = beside.comparison_table(numbers, plan.table).rows
    assert lines[0] == ["1 quoted", "published", "1.0", "–", "–"] and lines[2][1] == "ours, 1 of 2 runs"


@pytest.mark.usefixtures("charts")
def test_the_page_holds_published_and_ours(trained: Path, tmp_path: Path) -> None:
    plan, members, numbers = compared(trained)
    page = report.write_reproduction_report(plan, members, numbers, tmp_path)
    content = json.loads(page.with_suffix(".json").read_text())
    assert content["rows"][3]["cells"]["KL"]["published"]["text"] == "0.10 ± 0.01"
    assert content["trainings"]["vae-d2-s0"]["status"] == "finished"
    text = page.read_text()
    assert "0.10 ± 0.01" in text and "NOT the paper&#39;s data" in text and "data:image/png" in text


def test_readings_are_told_by_how_far_they_move_from_the_plain_row_and_have_no_rank(trained: Path) -> None:
    scale = '[scales.same]\nwhat = "as it is"\nfirst = ["VAE"]\n[scales.same.readings.annealed]\n"annealed, light" = '
    found = at_scale(parse_table("digits_table1", TABLE + scale + '"beta-vae:beta=0.2"\n')[0], "same")
    plan = plan_table(found, [1, 2, 4], {})
    members = read_members(plan.planned, trained, plan.asked)
    numbers = beside.compare(plan, members)
    plain, annealed, light = (member.evaluations[0]["kl"] for member in members)
    lines = beside.reading_table(numbers, found)
    assert lines is not None and lines.columns == ["row", "", "KL", "-ELBO", "AU"]
    assert [line[:3] for line in lines.rows] == [
        ["annealed", "published", "-0.20"],
        ["vae-anneal", "ours", f"{annealed - plain:+z.2f}"],
        ["beta-vae:beta=0.2", "ours", f"{light - plain:+z.2f}"],
    ]
    assert lines.rows[0][3] == "–" and numbers["ranks"]["KL"] is None  # of two rows, the reading being none of its own
    assert [line[0] for line in beside.comparison_table(numbers, found).rows][-2:] == ["vae-anneal", "4 beta"]
    assert beside.reading_table(numbers, digits_table()) is None
    _, printed = report._points(plan, members) or ([], [])
    assert [point["method"] for point in printed] == ["VAE", "beta"]  # a reading has no published figures of its own
    nothing = beside.compare(plan, read_members(plan.planned, trained / "none", plan.asked))
    assert beside.reading_table(nothing, found) is None


def test_report_and_trainings_have_places_of_their_own() -> None:
    assert places(published_table("nevae2021_toy"), Path("o")) == (
        Path("o/reproduce-nevae2021_toy_search"),
        Path("o/reproduce-nevae2021_table1_omniglot"),
    )

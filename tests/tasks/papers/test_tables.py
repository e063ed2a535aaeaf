"""Published tables: every figure as it was transcribed, none beyond, and rows that can be planned."""

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lso.tasks.papers.published_tables import PublishedTable, at_scale, parse_table, published, published_table
from lso.tasks.papers.reproduce import chosen_rows, plan_table
from lso.vae.config.components import Aggressive, Linear
from lso.vae.errors import DataError, UsageError
from lso.vae.objectives.kl_schedules import kl_weight
from tests.conftest import MISSING, data_folder

ROOT = Path(__file__).resolve().parents[3]
TRANSCRIBED = data_folder().parent / "reference" / "tables"
TRAINED = {
    "he2019_table10_learning_rate": 4,
    "he2019_table1_5_text_yahoo": 11,
    "he2019_table1_5_text_yelp": 11,
    "he2019_table2_6_omniglot": 11,
    "he2019_table3_time": 3,
    "he2019_table4_inner": 5,
    "he2019_table7_eval_aggressive": 1,
    "he2019_table8_eval_vanilla": 1,
    "he2019_table9_annealing_omniglot": 7,
    "he2019_table9_annealing_yahoo": 7,
    "he2019_table9_annealing_yelp": 7,
    "nevae2021_mnist": 4,
    "nevae2021_table1_omniglot": 19,
    "nevae2021_table2_latent_size": 3,
    "nevae2021_toy_search": 4,
    "savae2018_slide_yahoo": 4,
}
OURS = ("task", "column", "trainings", "seeds", "iw_samples", "repeats", "latent_dims", "settings", "scales")
SAID = ("remarks", "protocol", "parts")
# networks, batch, epochs, patience, first epoch after which there is a decay, and decays at the end
IMAGES_HE, IMAGES_NE = ("he2019", 50, 1000, 20, 0, 5), ("he2019", 50, 100, 0, 0, 5)
TEXT_HE, TEXT_KIM = ("he2019-text", 32, 100, 2, 15, 5), ("kim2018-text", 32, 30, 1, 15, 6)
PARTED = """
title = "Both"
source = "s"
note = "n"
seeds = 5
remarks = ["of both"]
[settings.protocol]
epochs = 3
clip = 5.0
[parts.a]
title = "One"
task = "yahoo"
remarks = ["of one"]
settings.protocol.epochs = 7
[parts.b]
task = "yelp"
[[row]]
model = "m"
train = "vae"
a = { nll = 1.0 }
b = { nll = 2.0 }
[[row]]
model = "o"
train.a = "vae-anneal"
settings.architecture.word_drop = 0.25
a = { nll = 3.0 }
"""


def content(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)


def test_every_figure_is_as_transcribed_and_none_is_beyond() -> None:
    if not TRANSCRIBED.is_dir():
        pytest.skip(f"{MISSING}the transcribed tables are not in {TRANSCRIBED}")
    files = {path.name for path in TRANSCRIBED.glob("*.toml")}
    without = {f"{name}.toml" for name, found in published().items() if not any(row.figures for row in found.rows)}
    assert files == {path.name for path in (ROOT / "tasks" / "tables").glob("*.toml")} - without
    for name in files:
        ours, theirs = content(ROOT / "tasks" / "tables" / name), content(TRANSCRIBED / name)
        for key in (*OURS, *SAID):
            ours.pop(key, None)
        for row in ours["row"]:
            for key in ("train", "settings"):
                row.pop(key, None)
        assert repr(ours) == repr(theirs), name  # repr tells 3.0 from 3.00


def test_the_rows_in_scope_are_trained_and_no_others() -> None:
    trained = {name: sum(bool(row.train) for row in found.rows) for name, found in published().items()}
    assert {name: count for name, count in trained.items() if count} == TRAINED
    quoted = [row for row in published_table("he2019_table2_6").rows if row.group == "Previous Reports"]
    assert len(quoted) == 2 and not any(row.train for row in quoted)


@pytest.mark.parametrize("name", TRAINED)
def test_every_row_is_planned_by_the_papers_protocol(name: str) -> None:
    found = published_table(name)
    plan = plan_table(found, chosen_rows(found, []), {})
    assert not plan.cuts and not plan.notes and plan.jobs
    assert len({job.planned.name for job in plan.jobs}) == len(plan.jobs)
    text = {"he2019_table1_5": TEXT_HE, "he2019_table4": TEXT_HE, "he2019_table10": TEXT_HE, "savae2018": TEXT_KIM}
    text |= {"he2019_table9_annealing_y": TEXT_HE, "he2019": IMAGES_HE, "nevae2021": IMAGES_NE}
    protocols = {job.planned.config.protocol for job in plan.jobs}
    for config in (job.planned.config for job in plan.jobs):
        p = config.protocol
        told = (config.architecture.name, p.batch_size, p.epochs, p.patience, p.decay_from, p.max_decays)
        assert told == next(value for key, value in text.items() if name.startswith(key))
        assert config.data.task == (found.column or "omniglot")
        assert (p.optimizer, p.learning_rate) == (("adam", 1e-3) if config.kind == "image" else ("sgd", 1.0))
        assert p.clip == 5.0 and p.steady == (name.startswith("savae"))
    assert len(protocols) == (4 if "learning_rate" in name else 1)


def test_a_table_without_figures_tells_ours_alone() -> None:
    found = published_table("nevae2021_mnist")
    assert not any(row.figures for row in found.rows) and found.task == found.column == "mnist"
    assert found.compared == [("mnist", quantity) for quantity in ("neg_elbo", "kl", "mi", "au")]
    first, search = published_table("nevae2021_table1"), published_table("nevae2021_toy")
    assert found.settings == first.settings
    assert {row.train for row in found.rows} == {row.train for row in search.rows}
    with pytest.raises(DataError, match="quantities kll"):
        parse_table("x", "title = 't'\nsource = 's'\nnote = 'n'\ntold = ['kll']\n[[row]]\nmodel = 'a'")


def test_a_files_parts_are_tables_of_their_own() -> None:
    one, other = parse_table("t", PARTED)
    assert (one.name, one.title, one.task, one.column) == ("t_a", "One", "yahoo", "a")
    assert (other.name, other.title, other.task, other.column, other.seeds) == ("t_b", "Both", "yelp", "b", 5)
    assert one.remarks == ("of both", "of one") and other.remarks == ("of both",)
    assert one.settings["protocol"] == {"epochs": 7, "clip": 5.0} and other.settings["protocol"]["epochs"] == 3
    assert [row.train for row in one.rows] == ["vae", "vae-anneal"] and [row.label for row in other.rows] == ["m"]
    assert one.columns == [("a", "nll")] and other.columns == [("b", "nll")]
    assert one.rows[1].training == "vae-anneal, word_drop=0.25"


def test_a_row_with_settings_of_its_own_has_a_training_of_its_own() -> None:
    """He et al.'s Table 10: multiples of a decoder's rate of 1; the slide's shares of dropped words."""
    rates = [job.planned.config.protocol.encoder_learning_rate for job in _all(published_table("he2019_table10"))]
    assert rates == [0.0, 2.0, 4.0, 6.0]
    jobs = _all(published_table("savae2018"))
    assert [job.planned.config.architecture.word_drop for job in jobs] == [0.0, 0.0, 0.25, 0.5]
    assert [job.planned.name for job in jobs][1:3] == [
        "vae-anneal-anneal=9-d32-s0",
        "vae-anneal-anneal=9-word-drop=0.25-d32-s0",
    ]


def test_text_is_trained_aggressively_by_windows_of_15_until_mi_falls_once() -> None:
    """Reference page, sections 1.5 and 1.7; the budgets of Table 4 instead of windows."""
    jobs = [*_all(published_table("he2019_table4")), *_all(published_table("he2019_table9_annealing_yahoo"))[-2:]]
    updates = [job.planned.config.method.updates for job in jobs]
    assert [(one.window, one.patience, one.against) for one in updates[4:]] == [(15, 1, "previous")] * 3
    assert [one.budget for one in updates] == [10, 30, 50, 70, 0, 0, 0]
    assert all((one.patience, one.against, one.cap) == (1, "previous", 99) for one in updates)


@pytest.mark.parametrize("name", TRAINED)
def test_published_rows_have_no_tolerance_for_falls_of_the_information(name: str) -> None:
    updates = [job.planned.config.method.updates for job in _all(published_table(name))]
    assert {one.tolerance for one in updates if isinstance(one, Aggressive)} <= {0.0}


@pytest.mark.parametrize("name", TRAINED)
def test_weights_are_kept_by_the_papers_rule(name: str) -> None:
    """He et al. and Kim et al.: the least validation -ELBO at KL weight 1, of trained epochs; NE-VAE: the last."""
    protocols = [job.planned.config.protocol for job in _all(published_table(name))]
    rules = {(protocol.monitor, protocol.monitor_from) for protocol in protocols}
    assert rules == {("last", 1) if name.startswith("nevae") else ("elbo", 1)}


def test_tables_of_one_protocol_share_their_trainings() -> None:
    """The same name means the same configuration, so that neither table refuses the other's folder."""
    for found in published().values():
        if found.trainings:
            mine, theirs = (
                {j.planned.name: j.planned.config for j in _all(t)} for t in (found, published_table(found.trainings))
            )
            shared = mine.keys() & theirs.keys()
            assert all(mine[name] == theirs[name] for name in shared)
            assert shared or found.latent_dims
            assert found.task == published_table(found.trainings).task and found.protocol


def _all(found: PublishedTable) -> Any:
    return plan_table(found, chosen_rows(found, []), {}, seeds=1).jobs


def test_nevaes_beta_ramp_rises_as_steeply_as_the_others() -> None:
    """0.1 -> beta at 0.9 in 10 epochs of 447 steps (reference page, section 6)."""
    steps = 447
    for job in _all(published_table("nevae2021_table1")):
        schedule = job.planned.config.method.schedule
        if job.planned.label.startswith("beta-vae"):
            assert isinstance(schedule, Linear)
            rise = kl_weight(schedule, 100, steps) - kl_weight(schedule, 99, steps)
            assert rise == pytest.approx(0.9 / (10 * steps), rel=1e-3)
            assert kl_weight(schedule, 10**6, steps) == float(job.planned.config.method.params["beta"])


def test_deviations_are_floored_at_half_the_last_printed_digit() -> None:
    text = """
        title = "t"
        source = "s"
        note = "n"
        [[row]]
        model = "a"
        au = { mean = 3.0, std = 0.0 }
        kl = { mean = 1.51, std = 0.05 }
        mi = { mean = 1.5, variance = 0.04 }
        nll = { mean = 89 }
    """
    figures = parse_table("t", text)[0].rows[0].figures
    assert figures["", "au"].scale == 0.05 and figures["", "kl"].scale == 0.05 and figures["", "nll"].scale is None
    assert figures["", "mi"].scale == pytest.approx(0.2) and str(figures["", "mi"].mean) == "1.5"


def test_tables_are_found_by_the_beginning_of_their_name() -> None:
    assert published_table("nevae2021_table1").name == "nevae2021_table1_omniglot"
    assert published_table("he2019_table4").name == "he2019_table4_inner"
    assert published_table("he2019_table10").name == "he2019_table10_learning_rate"
    with pytest.raises(UsageError, match="several tables"):
        published_table("he2019")
    for begun in ("he2019_table1", "he2019_table1_5_text"):
        with pytest.raises(UsageError, match="several tables") as caught:
            published_table(begun)
        assert caught.value.hint == "Name one of he2019_table1_5_text_yahoo, he2019_table1_5_text_yelp."
    with pytest.raises(UsageError, match="unknown table"):
        published_table("he2020")


def test_a_damaged_table_is_refused() -> None:
    for text in ("[[row]]\nmodel = 'a'\nkll = 3", "title = ", "title = 't'\n[[row]]\nkl = 3"):
        with pytest.raises(DataError, match=r"x\.toml is not a published table"):
            parse_table("x", text)


SCALED = """
title = "t"
source = "s"
note = "n"
task = "omniglot"
column = "a"
[settings.architecture]
name = "mlp"
[settings.protocol]
epochs = 9
[scales.small]
what = "w"
first = ["B"]
seeds = { B = 2 }
[scales.small.train]
C = "aggressive:budget=3"
[scales.small.readings.B]
"B, other" = "ne-vae-se:weight=2"
[scales.small.settings.data]
size = 8
[[row]]
model = "A"
train = "vae"
a = { kl = 1.0 }
[[row]]
model = "B"
train = "ne-vae-se"
a = { kl = 2.0 }
[[row]]
model = "C"
train = "aggressive"
a = { kl = 3.0 }
"""


def test_a_scale_changes_the_trainings_and_not_the_figures() -> None:
    (whole,) = parse_table("t", SCALED)
    found = at_scale(whole, "small")
    assert found.name == "t-small" and found.rows[:2] == whole.rows[:2] and whole.scale is None
    assert (found.rows[2].train, found.rows[2].instead) == ("aggressive:budget=3", "aggressive")
    other = found.rows[3]
    assert (other.label, other.train, other.reading_of) == ("B, other", "ne-vae-se:weight=2", "B")
    assert other.figures == whole.rows[1].figures
    with pytest.raises(UsageError, match="unknown scale of t 'smal'"):
        at_scale(whole, "smal")
    with pytest.raises(
        UsageError, match=r"has only the scale of the paper\nTables with other scales: nevae2021_table1"
    ):
        at_scale(published_table("he2019_table2"), "cpu")
    with pytest.raises(DataError, match="scale small names unknown rows: D"):
        parse_table("t", SCALED.replace('first = ["B"]', 'first = ["D"]'))


def test_at_a_scale_rows_come_in_its_order_with_its_runs_and_every_cut_is_told() -> None:
    found = at_scale(parse_table("t", SCALED)[0], "small")
    plan = plan_table(found, chosen_rows(found, []), {"protocol": {"epochs": 1}})
    told = [(job.planned.label, job.planned.config.seed, job.planned.turn) for job in plan.jobs]
    assert told == [
        ("ne-vae-se", 0, 0),
        ("ne-vae-se", 1, 0),
        ("vae", 0, 2),
        ("aggressive:budget=3", 0, 2),
        ("ne-vae-se:weight=2", 0, 1),
    ]
    assert {job.planned.config.data.size for job in plan.jobs} == {8}
    assert plan.cuts == ("images of 8x8", "epochs 1 instead of 9", "aggressive:budget=3 instead of aggressive")
    assert [job.planned.config.seed for job in plan_table(found, [1], {}, seeds=1).jobs] == [0]


def test_the_scale_for_a_cpu_begins_with_the_rows_of_the_search_and_shares_their_trainings() -> None:
    """The order of work: six rows at seed 0, then two more seeds of the first four, readings, and the rest."""
    found = at_scale(published_table("nevae2021_table1"), "cpu")
    plan = plan_table(found, chosen_rows(found, []), {})
    order = sorted(plan.planned, key=lambda one: (one.turn, one.config.seed))
    beta, aggressive = "beta-vae:beta=0.9,anneal=8.88889", "aggressive:budget=10,tolerance=0,anneal=10"
    four = ["vae-anneal", "ne-vae-se:weight=0.3", beta, aggressive]
    six = [*four, "vae", "ne-vae-lp:c=0.0"]
    assert [one.label for one in order[:14]] == [*six, *four, *four]
    assert [one.config.seed for one in order[:14]] == [0] * 6 + [1] * 4 + [2] * 4
    assert [one.label for one in order[14:18]] == [
        "ne-vae-se",
        "ne-vae-se:weight=3",
        "ne-vae-se:weight=10",
        "ne-vae-lp:c=0.0,reduction=mean",
    ]
    first = order[0].config
    assert (first.data.size, first.data.limit, first.architecture.name) == (14, 5000, "he2019-small")
    assert (first.architecture.latent_dim, first.protocol.batch_size, first.protocol.epochs) == (32, 50, 100)
    assert first.protocol.monitor == "last" and first.protocol.patience == 0
    search = at_scale(published_table("nevae2021_toy"), "cpu")
    assert search.trainings == found.name and len(search.rows) == 4
    shared = {one.name: one.config for one in plan_table(search, chosen_rows(search, []), {}, seeds=1).planned}
    mine = {one.name: one.config for one in plan.planned}
    assert len(shared) == 4 and all(mine[name] == config for name, config in shared.items())

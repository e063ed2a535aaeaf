"""Published tables: every figure as it was transcribed, none beyond, and rows that can be planned."""

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lso.tasks.reproduce import chosen_rows, plan_table
from lso.tasks.tables import PublishedTable, parse, published, table
from lso.vae.axes import Linear
from lso.vae.errors import DataError, UsageError
from lso.vae.schedules import kl_weight
from tests.conftest import MISSING, data_folder

ROOT = Path(__file__).resolve().parents[2]
TRANSCRIBED = data_folder().parent / "reference" / "tables"
TRAINED = {
    "he2019_table2_6_omniglot": 11,
    "he2019_table3_time": 3,
    "he2019_table7_eval_aggressive": 1,
    "he2019_table8_eval_vanilla": 1,
    "he2019_table9_annealing": 7,
    "nevae2021_table1_omniglot": 19,
    "nevae2021_table2_latent_size": 3,
    "nevae2021_toy_search": 4,
}
OURS = ("task", "column", "trainings", "seeds", "iw_samples", "repeats", "latent_dims", "settings", "remarks")


def content(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)


def test_every_figure_is_as_transcribed_and_none_is_beyond() -> None:
    if not TRANSCRIBED.is_dir():
        pytest.skip(f"{MISSING}the transcribed tables are not in {TRANSCRIBED}")
    files = {path.name for path in TRANSCRIBED.glob("*.toml")}
    assert files == {path.name for path in (ROOT / "tasks" / "tables").glob("*.toml")}
    for name in files:
        ours, theirs = content(ROOT / "tasks" / "tables" / name), content(TRANSCRIBED / name)
        for key in OURS:
            ours.pop(key, None)
        for row in ours["row"]:
            row.pop("train", None)
        assert repr(ours) == repr(theirs), name  # repr tells 3.0 from 3.00


def test_the_rows_in_scope_are_trained_and_no_others() -> None:
    trained = {name: sum(bool(row.train) for row in found.rows) for name, found in published().items()}
    assert {name: count for name, count in trained.items() if count} == TRAINED
    quoted = [row for row in table("he2019_table2_6").rows if row.group == "Previous Reports"]
    assert len(quoted) == 2 and not any(row.train for row in quoted)


@pytest.mark.parametrize("name", TRAINED)
def test_every_row_is_planned_by_the_papers_protocol(name: str) -> None:
    found = table(name)
    plan = plan_table(found, chosen_rows(found, []), {})
    assert not plan.cuts and not plan.notes and plan.jobs
    assert len({job.planned.name for job in plan.jobs}) == len(plan.jobs)
    for job in plan.jobs:
        config = job.planned.config
        assert (
            config.architecture.name == "he2019" and config.protocol.batch_size == 50 and config.data.task == "omniglot"
        )
        he = name.startswith("he2019")
        assert (config.protocol.epochs, config.protocol.patience) == ((1000, 20) if he else (100, 0))
    assert found.trainings in ("", "he2019_table2_6_omniglot", "nevae2021_table1_omniglot")


def test_tables_of_one_protocol_share_their_trainings() -> None:
    """The same name means the same configuration, so that neither table refuses the other's folder."""
    for found in published().values():
        if found.trainings:
            mine, theirs = (
                {j.planned.name: j.planned.config for j in _all(t)} for t in (found, table(found.trainings))
            )
            shared = mine.keys() & theirs.keys()
            assert all(mine[name] == theirs[name] for name in shared)
            assert shared or found.latent_dims


def _all(found: PublishedTable) -> Any:
    return plan_table(found, chosen_rows(found, []), {}).jobs


def test_nevaes_beta_ramp_rises_as_steeply_as_the_others() -> None:
    """0.1 -> beta at 0.9 in 10 epochs of 447 steps (reference page, section 6)."""
    steps = 447
    for job in _all(table("nevae2021_table1")):
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
    figures = parse("t", text).rows[0].figures
    assert figures["", "au"].scale == 0.05 and figures["", "kl"].scale == 0.05 and figures["", "nll"].scale is None
    assert figures["", "mi"].scale == pytest.approx(0.2) and str(figures["", "mi"].mean) == "1.5"


def test_tables_are_found_by_the_beginning_of_their_name() -> None:
    assert table("nevae2021_table1").name == "nevae2021_table1_omniglot"
    assert table("he2019_table1").name == "he2019_table1_5_text"
    with pytest.raises(UsageError, match="several tables"):
        table("he2019")
    with pytest.raises(UsageError, match="unknown table"):
        table("he2020")


def test_a_damaged_table_is_refused() -> None:
    for text in ("[[row]]\nmodel = 'a'\nkll = 3", "title = ", "title = 't'\n[[row]]\nkl = 3"):
        with pytest.raises(DataError, match=r"x\.toml is not a published table"):
            parse("x", text)

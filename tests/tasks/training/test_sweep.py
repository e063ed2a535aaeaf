"""A sweep plans every method at every size with every seed, and tells means over seeds."""

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from lso.tasks.training import experiment
from lso.tasks.training.multi_run import train_all
from lso.tasks.training.run_set import (
    EVALUATION_FILE,
    EvaluationSpec,
    Member,
    check_folders,
    evaluation_options,
    settings_as_begun,
    stored_evaluations,
)
from lso.tasks.training.sweep import (
    add_finished,
    format_with_deviation,
    plan_sweep,
    sweep_cells,
    sweep_points,
    sweep_table,
    unfinished_notes,
    write_sweep_report,
)
from lso.vae.config.components import Aggressive
from lso.vae.config.training import to_toml
from lso.vae.errors import RunError, UsageError
from lso.vae.runs import CONFIG, Run, create, write_files
from tests.tasks.grids import SMALL, small

ASKED = EvaluationSpec(iw_samples=2, limit=5)


def test_every_method_at_every_size_with_every_seed() -> None:
    planned = plan_sweep(["vae", "ne-vae-se:weight=5", "vae"], [2, 4, 2], 2, SMALL)
    assert [one.name for one in planned][:3] == ["vae-d2-s0", "vae-d2-s1", "vae-d4-s0"] and len(planned) == 8
    last = planned[-1].config
    assert (last.method.params["weight"], last.architecture.latent_dim, last.seed) == (5.0, 4, 1)
    assert last.protocol.epochs == 1 and last.architecture.width == 8


def test_a_method_without_latents_is_trained_once_a_seed() -> None:
    planned = plan_sweep(["pixelcnn", "vae"], [2, 4], 3, {})
    assert [one.name for one in planned[:4]] == ["pixelcnn-s0", "pixelcnn-s1", "pixelcnn-s2", "vae-d2-s0"]
    assert planned[0].config.architecture.latent_dim == 0


def test_a_model_without_latents_has_no_numbers_of_latents(tmp_path: Path) -> None:
    (planned,) = plan_sweep(["pixelcnn"], [2], 1, {})
    known = {"neg_elbo": 90.5, "iw_nll": 90.5, "kl": 0.0, "mi": 0.0, "active_units": 0, "reencoding_error": 0.0}
    (tmp_path / "run.json").write_text('{"status": "finished", "seconds": 2.0}')
    (point,) = sweep_points([Member(planned=planned, run=Run(tmp_path), evaluations=[known])])
    assert point["neg_elbo"] == point["iw_nll"] == 90.5 and point["active_units"] is None is point["kl"]
    assert sweep_table(sweep_cells([point]), ASKED).rows[0] == [
        "pixelcnn",
        "0",
        "1",
        "90.50",
        "90.50",
        "–",
        "–",
        "–",
        "–",
        "2",
    ]


def test_a_sweep_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="no method"):
        plan_sweep([], [2], 1, {})
    with pytest.raises(UsageError, match="at least 1 seed"):
        plan_sweep(["vae"], [2], 0, {})
    with pytest.raises(UsageError, match="unknown method"):
        plan_sweep(["vea"], [2], 1, {})


def test_a_cell_is_the_mean_and_deviation_over_its_seeds() -> None:
    common = {"method": "vae", "latent_dim": 2, "status": "finished"}
    numbers = {"kl": 0.0, "mi": 0.0, "active_units": 1, "reencoding_error": 1.0, "seconds": 2.0, "iw_nll": None}
    values = [30.0, 32.0, 37.0]
    found = [{**common, **numbers, "neg_elbo": value} for value in values]
    (cell,) = sweep_cells([*found, {**common, "status": "stopped"}])
    assert cell["neg_elbo"] == {"mean": 33.0, "std": statistics.stdev(values)} and "iw_nll" not in cell
    assert (cell["done"], cell["planned"]) == (3, 4)
    assert format_with_deviation(cell["neg_elbo"]) == "33.00 ± 3.61" and format_with_deviation(None) == "–"
    assert sweep_table([cell], ASKED).rows[0][2:5] == ["3 of 4", "–", "33.00 ± 3.61"]


@pytest.mark.usefixtures("charts")
def test_the_report_holds_the_numbers_of_every_run_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "_write_report", lambda run, _: run)
    planned = small("vae", latent_dims=(2, 3))
    train_all(planned[:1], tmp_path, spec=ASKED, device="cpu")
    members, _ = train_all(planned, tmp_path, spec=ASKED, device="cpu", seconds=0.0)
    assert unfinished_notes(sweep_points(members)) == [
        "1 of 2 trainings is not finished and measured: repeat the command."
    ]
    page = write_sweep_report(members, tmp_path, ASKED)
    other = small("ne-vae-se:weight=5")
    train_all(other, tmp_path, spec=ASKED, device="cpu")
    assert [(one.name, one.label) for one in add_finished(other, tmp_path, ASKED)] == [
        ("ne-vae-se-weight=5-d2-s0", "ne-vae-se:weight=5"),
        ("vae-d2-s0", "vae"),
    ]
    assert len(add_finished(other, tmp_path, EvaluationSpec(iw_samples=3))) == 1  # not measured so
    assert len(add_finished(small(epochs=2), tmp_path, ASKED)) == 1  # another protocol
    numbers = json.loads(page.with_suffix(".json").read_text())
    done = members[0].evaluations[0]
    assert numbers["trainings"][0]["neg_elbo"] == pytest.approx(done["neg_elbo"], rel=1e-5)
    assert numbers["cells"][0]["iw_nll"]["mean"] == pytest.approx(done["iw_nll"], rel=1e-5)
    assert "1 of 2 trainings is not finished" in page.read_text() and "data:image/png" in page.read_text()


def test_a_folder_begun_before_there_was_a_choice_goes_on_by_its_own_rule(tmp_path: Path) -> None:
    """What had not begun there keeps its weights alike, so that no table mixes two rules; a wish of the user's wins."""
    assert small()[0].config.protocol.monitor == "loss" and settings_as_begun(tmp_path, SMALL) == SMALL
    old = replace(small()[0].config, protocol=replace(small()[0].config.protocol, monitor="elbo", monitor_from=0))
    run = create(tmp_path / "vae-d2-s0", "train", {"status": "stopped"}, old)
    text = to_toml(old).replace("monitor_from = 0\n", "").replace('mi_lengths = "equal"\n', "")
    write_files(run, {CONFIG: text.encode()})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / CONFIG).write_text("[")
    planned = plan_sweep(["vae", "ne-vae-se"], (2,), 1, settings_as_begun(tmp_path, SMALL))
    assert {(one.config.protocol.monitor, one.config.protocol.monitor_from) for one in planned} == {("elbo", 0)}
    check_folders(planned, tmp_path)
    # The aggressive phase, too, ended otherwise; a tolerance that is asked for wins.
    methods = ["aggressive", "aggressive:tolerance=0.1", "vae"]
    found = plan_sweep(methods, (2,), 1, settings_as_begun(tmp_path, SMALL))
    updates = [one.config.method.updates for one in found[:2]]
    assert updates == [Aggressive(tolerance=tolerance, early=0) for tolerance in (0.0, 0.1)]
    assert {one.config.protocol.mi_lengths for one in found} == {"any"} and found[0].name == "aggressive-d2-s0"
    asked = {**SMALL, "protocol": {**SMALL["protocol"], "monitor": "last"}}
    with pytest.raises(RunError, match=r"another training: protocol\.monitor = 'elbo', not 'last'"):
        check_folders(plan_sweep(["vae"], (2,), 1, settings_as_begun(tmp_path, asked)), tmp_path)


@pytest.mark.parametrize(("tokens", "known", "again"), [(9.5, True, False), (9.5, False, True), (None, False, False)])
def test_sequences_whose_information_was_that_of_mixed_lengths_are_measured_anew(
    tmp_path: Path, tokens: float | None, known: bool, again: bool
) -> None:
    one = {"neg_elbo": 1.0, "mi": 2.0, "tokens": tokens} | ({"mi_mixed": 2.5} if known else {})
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / EVALUATION_FILE).write_text(json.dumps({"how": evaluation_options(ASKED), "metrics": [one]}))
    assert (stored_evaluations(Run(tmp_path), ASKED) == []) == again

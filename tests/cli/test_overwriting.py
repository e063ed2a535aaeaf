"""No command writes over what it did not make."""

import json
import shutil
from pathlib import Path

import pytest

from lso.reports.report_kind import require_own
from lso.vae.errors import RunError
from lso.vae.runs import Run
from tests.cli.conftest import Lso
from tests.cli.writers import OUT, WRITERS, Writer
from tests.vae.small import contents

FOLDERS = Path(__file__).parents[1] / "data" / "folders_83e3243"
SHARED = {name: writer for name, writer in WRITERS.items() if writer.shared}


def place_of(writer: Writer) -> Path:
    """Where the report goes: a table's lies below --out."""
    if not writer.command.startswith("reproduce"):
        return Path(writer.out)
    scale = "-cpu" if "--scale cpu" in writer.command else ""
    return Path(writer.out, f"reproduce-nevae2021_table1_omniglot{scale}")


def refused(lso: Lso, writer: Writer) -> None:
    before = contents(Path())
    done = lso(*writer.first)
    assert done.exit_code in (1, 2), done.stdout
    errors = done.stderr.splitlines()[-2:]
    assert errors[0].startswith("error: ") and "--out" in errors[1] and contents(Path()) == before


@pytest.fixture(autouse=True)
def data(run: Run) -> None:
    """What some commands look at before anything else."""
    Path("codes.npz").touch()
    Path("omniglot.npz").touch()
    Path("ink.py").write_text("def score(xs): pass\n")
    shutil.copytree(FOLDERS / "black-box", "search")


@pytest.mark.parametrize("name", WRITERS)
def test_what_lies_where_a_command_writes_stays(lso: Lso, name: str) -> None:
    """A file of the user's, as it is and in a folder, under the names that reports have."""
    writer = WRITERS[name]
    place = place_of(writer)
    if place.suffix:
        place.write_text("mine")
        return refused(lso, writer)
    for file in ("report.html", "report.json"):
        place.mkdir(parents=True)
        (place / file).write_text("mine")
        refused(lso, writer)
        shutil.rmtree(place)
    place.parent.mkdir(exist_ok=True)
    place.write_text("mine")
    refused(lso, writer)


@pytest.mark.parametrize("name", SHARED)
def test_a_training_and_a_report_of_another_kind_stay(lso: Lso, run: Run, name: str) -> None:
    place = place_of(SHARED[name])
    shutil.copytree(run.path, place)
    refused(lso, SHARED[name])
    other = FOLDERS / "sweep-stopped" / "report.json" if name != "sweep" else Path("image.json")
    Path("image.json").write_text(json.dumps({"claims": [], "learning_rates": {}}))
    shutil.rmtree(place)
    place.mkdir()
    shutil.copy(other, place / "report.json")
    refused(lso, SHARED[name])


def test_a_picture_of_the_users_stays(lso: Lso) -> None:
    Path(OUT).mkdir()
    Path(OUT, "one-datum.png").write_text("mine")
    refused(lso, WRITERS["benchmark lagging"])


def test_the_sweep_of_another_protocol_stays(lso: Lso) -> None:
    shutil.copytree(FOLDERS / "sweep-stopped", OUT)
    done = lso("sweep", "--method", "ne-vae-se", "--width", "9", "--out", OUT)
    assert done.exit_code == 1 and "vae-d2-s0 has another protocol" in done.stderr
    assert contents(Path(OUT)) == contents(FOLDERS / "sweep-stopped")


def test_ones_own_report_is_known_by_its_kind_and_older_ones_by_what_they_hold(tmp_path: Path) -> None:
    require_own(tmp_path / "none", "sweep")
    require_own(FOLDERS / "sweep-stopped", "sweep")
    (tmp_path / "report.json").write_text('{"report_kind": "lagging"}')
    require_own(tmp_path, "lagging")
    for content in ('{"report_kind": "lagging"}', "[]", "{", "[" * 100_000, "\xff"):
        (tmp_path / "report.json").write_text(content, encoding="latin-1")
        with pytest.raises(RunError, match="would be overwritten"):
            require_own(tmp_path, "sweep")

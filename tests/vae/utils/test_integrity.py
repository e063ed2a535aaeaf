"""Files of a run are read as they were written, or it is said that they are not: bit rot, edits, honest kills."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lso.vae import checkpoint, runs
from lso.vae.errors import LsoError, RunError
from lso.vae.runs import Run
from lso.vae.utils import integrity as seals
from lso.vae.utils.files import replace_file
from lso.vae.utils.reading import format_checked_lines, format_sealed, last_check, read_json, read_lines, replace_sealed


@pytest.fixture
def copy(trained: Run, tmp_path: Path) -> Run:
    return Run(shutil.copytree(trained.path, tmp_path / "copy"))


def flip(path: Path, place: int, bit: int = 0) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1 << bit
    path.write_bytes(raw)


READERS: dict[str, Callable[[Run], object]] = {
    runs.INFO: lambda run: run.info,
    runs.CONFIG: lambda run: run.config,
    runs.METRICS: lambda run: run.metrics(),
    runs.MODEL: lambda run: run.model(),
    runs.CODES: lambda run: run.codes(),
    runs.LAST: lambda run: checkpoint.load_last(run.path / runs.LAST, "cpu"),
    "report.json": lambda run: read_json(run.path / "report.json"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit_is_told_or_changes_nothing(copy: Run, name: str) -> None:
    path, good = copy.path / name, (copy.path / name).read_bytes()
    same = _plain(READERS[name](copy))
    for place in range(7, len(good), max(1, len(good) // 40)):
        flip(path, place, place % 8)
        try:
            found = READERS[name](Run(copy.path))
        except RunError as error:
            assert error.hint and "\n" not in error.message, error
        else:
            assert _plain(found) == same, place
        path.write_bytes(good)


def _plain(value: Any) -> Any:
    """In a form that compares: of a model or codes their bytes."""
    if isinstance(value, torch.nn.Module):
        return {name: part.numpy().tobytes() for name, part in value.state_dict().items()}
    if isinstance(value, checkpoint.Codes):
        return value.mean.numpy().tobytes(), value.log_var.numpy().tobytes()
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def test_an_edit_is_told_in_two_lines_and_taken_where_it_is_meant(copy: Run) -> None:
    text = (copy.path / runs.CONFIG).read_text()
    (copy.path / runs.CONFIG).write_text(text.replace("batch_size = 64", "batch_size = 32"))
    with pytest.raises(RunError, match=r"config.toml was damaged or edited.*\n.*--accept-changes"):
        _ = Run(copy.path).config
    assert Run(copy.path, accept_changes=True).config.protocol.batch_size == 32
    assert Run(copy.path).config.protocol.batch_size == 32  # once is enough
    (copy.path / runs.CODES).unlink()
    with pytest.raises(RunError, match="it is missing"):
        Run(copy.path).codes()
    assert Run(copy.path, accept_changes=True).codes() is None


def test_weights_that_are_not_finite_are_refused_even_where_the_edit_is_accepted(copy: Run) -> None:
    path = copy.path / runs.MODEL
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        card = file.metadata()
    weights = load_file(path)
    next(iter(weights.values())).view(-1)[0] = torch.nan
    save_file(weights, path, metadata=card)
    with pytest.raises(RunError, match="damaged or edited"):
        copy.model()
    with pytest.raises(RunError, match="not finite"):
        Run(copy.path, accept_changes=True).model()


def test_run_json_carries_its_own_hash(copy: Run) -> None:
    path = copy.path / runs.INFO
    values = json.loads(path.read_text())
    assert values["seals"].keys() >= {runs.CONFIG, runs.MODEL, runs.CODES, runs.METRICS}
    path.write_text(json.dumps(values, indent=7))  # another layout of the same
    assert copy.info["seed"] == 0
    path.write_text(json.dumps(values | {"seed": 1}))
    with pytest.raises(RunError, match="damaged or edited"):
        _ = copy.info
    del values["seals"], values["seal"]  # as they were before there were hashes
    path.write_text(json.dumps(values))
    assert Run(copy.path).seals is None and copy.config and copy.model()
    runs.update_run(copy, sentence="gone on with")
    assert Run(copy.path).seals and copy.model()


NO_JSON = [b"[" * 100_000, b'{"a": ' * 100_000, b"\xff\xfe", b"", b"[1]", b"{", b"9" * 5_000, b"null"]
NO_CONFIG = [b"a = " + b"[" * 100_000, b'a = "caf\xe9"', b"seed = 3.5", b"\x00", b"[data]\npath = 3", b"data = 3"]


@pytest.mark.parametrize("raw", NO_JSON)
def test_whatever_is_no_json_object_is_told_in_two_lines(copy: Run, raw: bytes) -> None:
    for name in (runs.INFO, "report.json"):
        path = copy.path / name
        path.write_bytes(raw)
        with pytest.raises(RunError, match=r"cannot read .*\n"):
            read_json(path)


@pytest.mark.parametrize("raw", NO_CONFIG)
def test_a_configuration_that_cannot_be_read_is_told(copy: Run, raw: bytes) -> None:
    (copy.path / runs.CONFIG).write_bytes(raw)
    with pytest.raises(RunError, match="damaged or edited"):
        _ = Run(copy.path).config
    accepted = Run(copy.path, accept_changes=True)
    with pytest.raises(LsoError, match=r"config.toml"):
        _ = accepted.config


@pytest.mark.parametrize("cut", ["info", "file", "info again"])
@pytest.mark.parametrize("there", [True, False])
def test_a_kill_between_a_file_and_its_hash_is_no_damage(
    copy: Run, monkeypatch: pytest.MonkeyPatch, cut: str, there: bool
) -> None:
    """Neither is a second kill at the same place, nor going on afterwards."""
    if not there:
        (copy.path / runs.CODES).unlink()
        copy = Run(copy.path, accept_changes=True)

    class Killed(BaseException):
        pass

    real = replace_file
    for number in range(2):
        codes = checkpoint.pack_codes(checkpoint.Codes(torch.randn(3, 4), torch.randn(3, 4)))
        left = ["info", "file", "info again"].index(cut)

        def replace(path: Path, raw: bytes) -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            real(path, raw)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr("lso.vae.runs.replace_file", replace)
            runs.write_files(copy, {runs.CODES: codes})
        copy.codes()
        assert (copy.path / runs.CODES).is_file() == (there or cut == "info again"), number
    runs.write_files(copy, {runs.CODES: codes})
    assert copy.seals is not None and copy.seals[runs.CODES] == [seals.digest(codes)]


def test_rows_that_were_lost_or_changed_are_told_and_later_ones_are_not(copy: Run) -> None:
    path = copy.path / runs.METRICS
    good = path.read_bytes()
    path.write_bytes(good + good.splitlines(keepends=True)[-1])  # a row since the last checkpoint
    assert len(copy.metrics()) == 5
    for bad in (good[: good.rindex(b"\n", 0, -1) + 1], good.replace(b'"epoch": 1', b'"epoch": 7'), b""):
        path.write_bytes(bad)
        with pytest.raises(RunError, match=r"metrics.jsonl"):
            copy.metrics()
    path.unlink()
    with pytest.raises(RunError, match=r"metrics.jsonl"):
        copy.metrics()


NO_SEALS = [["seven:" + "0" * 64], [""], ["9" * 5_000 + ":" + "0" * 64], ["3"], [7], [["1:0"]], {}, "1:0", None]


@pytest.mark.parametrize("bad", NO_SEALS)
def test_hashes_that_are_none_are_told_and_made_anew_where_that_is_meant(copy: Run, bad: Any) -> None:
    values = read_json(copy.path / runs.INFO)
    replace_sealed(copy.path / runs.INFO, values | {"seals": values["seals"] | {runs.METRICS: bad}})
    with pytest.raises(RunError, match=r"(metrics.jsonl|run.json) was damaged or edited.*\n.*--accept-changes"):
        copy.metrics()
    assert len(Run(copy.path, accept_changes=True).metrics()) == 4
    assert read_json(copy.path / runs.INFO) == values


def with_crlf(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def test_other_line_ends_are_no_change(copy: Run, tmp_path: Path) -> None:
    """As git checks text out on another system; an edit beside them is told all the same."""
    config, rows = copy.config, copy.metrics()
    for name in (runs.CONFIG, runs.METRICS, runs.INFO):
        with_crlf(copy.path / name)
    again = Run(copy.path)
    assert (again.config, again.metrics(), again.info["seed"]) == (config, rows, 0)
    (tmp_path / "lines").write_bytes(format_checked_lines([{"a": 1}, {"a": 2}]))
    last = last_check(tmp_path / "lines")
    with_crlf(tmp_path / "lines")
    assert read_lines(tmp_path / "lines") == [{"a": 1}, {"a": 2}] and last_check(tmp_path / "lines") == last != ""
    for name in (runs.CONFIG, runs.METRICS):
        path = copy.path / name
        path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
        with pytest.raises(RunError, match="damaged or edited"):
            READERS[name](Run(copy.path))


def test_lines_have_checks_that_go_on_from_the_one_before(tmp_path: Path) -> None:
    path, rows = tmp_path / "x.jsonl", [{"a": i, "b": [0.1 * i]} for i in range(6)]
    path.write_bytes(format_checked_lines(rows))
    assert read_lines(path) == rows and json.loads(path.read_text().splitlines()[2])["a"] == 2
    lines = path.read_bytes().splitlines(keepends=True)
    wrong = {
        2: [*lines[:2], *lines[3:]],  # lost: told of the line that stands there now
        3: [*lines[:3], lines[4], lines[3], lines[5]],  # exchanged
        4: [*lines[:4], lines[4].replace(b"0.4", b"0.5"), lines[5]],
        5: [*lines[:5], b'{"a": 5, "b": [0.5]}\n'],  # its check is gone
    }
    for number, parts in wrong.items():
        path.write_bytes(b"".join(parts))
        with pytest.raises(RunError, match=rf"line {number + 1} is damaged"):
            read_lines(path)
    path.write_bytes(b'{"a": 0}\n{"a": 1}\n' + format_checked_lines(rows))  # begun before there were checks
    assert len(read_lines(path)) == 8
    path.write_bytes(b"".join(lines) + b'{"a": 6, "b"')  # being written
    assert read_lines(path) == rows


def test_names_that_are_not_utf_8_are_sealed_too(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(format_sealed({"name": os.fsdecode(b"caf\xe9"), "plain": "é", "path": path}))
    assert read_json(path) == {"name": "caf\udce9", "plain": "é", "path": str(path)}


def test_a_line_with_a_number_that_is_none_cannot_be_accepted(copy: Run) -> None:
    journal = copy.path / seals.JOURNAL
    journal.write_bytes(format_checked_lines([{"value": 0.5}, {"value": 1.5}]).replace(b"1.5", b"NaN"))
    before = journal.read_bytes()
    with pytest.raises(RunError, match=r"line 2 is damaged: .*not finite"):
        seals.accept_files(copy.path)
    assert journal.read_bytes() == before

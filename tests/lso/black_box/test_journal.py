import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lso.black_box.journal import Journal
from lso.results.result import Evaluation
from lso.vae.errors import RunError

HOLD = """
import os, sys, time
from pathlib import Path
from lso.vae.utils.files import Lock
lock = Lock(Path(sys.argv[1]))
"""
SAY = "print('held', flush=True); time.sleep(60)"
FORK = "pid = os.fork(); print(pid, flush=True) if pid else None; time.sleep(60)"


def evaluation(call: int, value: float = 0.1) -> Evaluation:
    return Evaluation(
        z=[0.1, 1 / 3],
        decoded_hash=f"{call:016x}",
        value=value,
        valid=value == value,
        duplicate_of=None,
        norm_percentile=0.5,
        reencoding_error=None,
        seconds=0.25,
        call=call,
        ask=0,
    )


def written(folder: Path, calls: int = 3) -> bytes:
    journal = Journal(folder)
    journal.write_ask(0, torch.tensor([[0.1, 1 / 3]] * calls, dtype=torch.float64), 0.5)
    for call in range(calls):
        journal.write_evaluation(evaluation(call, float("nan") if call == 1 else 1 / 3))
    journal.close()
    return journal.path.read_bytes()


def reread(folder: Path) -> list[dict[str, object]]:
    journal = Journal(folder)
    try:
        return journal.rows()
    finally:
        journal.close()


def test_doubles_are_read_back_exactly_and_nan_is_null(tmp_path: Path) -> None:
    written(tmp_path)
    ask, *calls = reread(tmp_path)
    assert ask["z"] == [[0.1, 1 / 3]] * 3 and calls[0]["value"] == 1 / 3
    assert calls[1]["value"] is None and calls[1]["valid"] is False


def test_last_line_cut_anywhere_takes_no_other_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last line itself nothing stays, unless it is whole but for its end."""
    monkeypatch.setattr(os, "fsync", lambda number: None)  # 1,000 of them take seconds
    whole = written(tmp_path)
    last = whole.rindex(b"\n", 0, -1) + 1
    path = tmp_path / "evaluations.jsonl"
    for cut in range(last, len(whole)):
        path.write_bytes(whole[:cut])
        found = reread(tmp_path)
        expected = whole if cut == len(whole) - 1 else whole[:last]
        assert path.read_bytes() == expected and len(found) == expected.count(b"\n"), cut


def test_what_a_power_failure_leaves_is_cut_off(tmp_path: Path) -> None:
    whole = written(tmp_path)
    (tmp_path / "evaluations.jsonl").write_bytes(whole + bytes(4096))
    assert len(reread(tmp_path)) == 4 and (tmp_path / "evaluations.jsonl").read_bytes() == whole


@pytest.mark.parametrize("damage", [b'{"call": 1, "va', b"7", b"", b"\xff\xfe", b"null"])
def test_damaged_line_is_refused_by_its_number_and_left_alone(tmp_path: Path, damage: bytes) -> None:
    parts = written(tmp_path).split(b"\n")
    parts[2] = damage
    (tmp_path / "evaluations.jsonl").write_bytes(b"\n".join(parts))
    with pytest.raises(RunError, match="line 3 is damaged"):
        reread(tmp_path)
    assert (tmp_path / "evaluations.jsonl").read_bytes() == b"\n".join(parts)


def test_appends_after_a_repair(tmp_path: Path) -> None:
    whole = written(tmp_path)
    (tmp_path / "evaluations.jsonl").write_bytes(whole[:-5])
    journal = Journal(tmp_path)
    journal.write_evaluation(evaluation(2))
    journal.close()
    assert [row.get("call") for row in reread(tmp_path)] == [None, 0, 1, 2]


def test_line_is_in_the_file_when_the_method_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written: SIGKILL takes nothing. Fsynced: at once where the last one was long ago, else by `sync`."""
    synced: list[int] = []
    journal = Journal(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(len(journal.path.read_bytes())))
    for call in range(3):
        journal.write_evaluation(evaluation(call))
        assert json.loads(journal.path.read_bytes().splitlines()[-1])["call"] == call
    assert len(synced) == 1
    journal.sync()
    journal.sync()
    assert synced[1:] == [len(journal.path.read_bytes())]
    journal.close()


def test_folder_has_one_holder_in_a_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for _ in range(2):
        with pytest.raises(RunError, match="this process is at work in"):
            Journal(tmp_path)
    journal.close()
    Journal(tmp_path).close()


@pytest.mark.parametrize("code", [HOLD + SAY, HOLD + FORK], ids=["alone", "with a forked process that lives on"])
def test_other_process_is_refused_until_the_holder_is_killed(tmp_path: Path, code: str) -> None:
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    said = holder.stdout.readline().strip()
    with pytest.raises(RunError, match="another process is at work in"):
        Journal(tmp_path)
    holder.kill()
    holder.wait()
    Journal(tmp_path).close()
    if said.isdigit():
        os.kill(int(said), 9)
    holder.stdout.close()

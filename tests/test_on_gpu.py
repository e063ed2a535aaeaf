"""What a GPU is asked first: nothing ends the rest, nothing that was found is lost, a later call goes on."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORK = """
import os, subprocess, sys, time
def work(part, name, seconds, place):
    if name == "raises":
        raise ValueError("one that\\nraises")
    if name == "dies":
        os._exit(7)
    if name == "hangs":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with open(place.runs, "w") as file:
            file.write(str(child.pid))
        time.sleep(600)
    return "done", {"pid": os.getpid(), "nan": float("nan"), "device": "a stand-in"}
"""


ABSENT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in ("beartype", "mypy", "cma", "distributed", "rdkit", "selfies"):
            raise ModuleNotFoundError(f"{name} is not there")
sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return importlib.import_module("on_gpu")


class Scripted:
    """Stands for the process that does items: each takes what it is told to of a clock, and says what it is told."""

    def __init__(self, said: dict[str, Any], takes: float = 10.0) -> None:
        self.said, self.takes, self.now, self.asked = said, takes, 0.0, list[tuple[str, float, float]]()
        self.found: list[set[str]] = []
        self.out = Path()

    def do(self, item: Any, seconds: float, patience: float) -> Any:
        self.asked.append((item.key, seconds, patience))
        self.found.append(set(json.loads((self.out / "on_gpu.json").read_text())["items"]))
        self.now += self.takes
        said = self.said.get(item.key, [("done", {})])
        return said.pop(0) if len(said) > 1 else said[0]

    def end(self, wait: float = 0.0) -> None: ...


def call(on_gpu: ModuleType, out: Path, worker: Any, minutes: float, before: Any = None, runs: str = "none") -> Any:
    worker.out = out
    names = ("a/1", "a/2", "training/x", "b/1")
    items = [
        on_gpu.Item(part=p, name=n, seconds=30, small=1, what="", open_ended=p == "training")
        for p, n in (key.split("/") for key in names)
    ]
    place = on_gpu.Place(device="cuda", tiny=False, data="", runs=str(out / runs))
    about = {"command": "c", "commit": "abc"}
    return on_gpu.Call(
        items, place, minutes, out, before or {}, about, 1.0, worker, clock=lambda: worker.now, say=lambda _: None
    )


def figures(out: Path) -> Any:
    return json.loads((out / "on_gpu.json").read_text())


def test_one_that_fails_does_not_end_the_others_and_each_is_written_at_once(on_gpu: ModuleType, tmp_path: Path) -> None:
    worker = Scripted({"a/1": [("failed", {"error": "no"})], "training/x": [("cannot", {"reason": "why"})]})
    assert call(on_gpu, tmp_path, worker, 10).run() == 1
    found = figures(tmp_path)
    status = {key: one["status"] for key, one in found["items"].items()}
    assert status == {"a/1": "failed", "a/2": "done", "training/x": "cannot", "b/1": "done"}
    assert [len(done) for done in worker.found] == [0, 1, 2, 3]  # what lay there when each began
    assert found["commit"] == "abc" and found["calls"][0]["command"] == "c"
    assert call(on_gpu, tmp_path / "b", Scripted({}), 10).run() == 0
    nothing = Scripted({key: [("cannot", {"reason": "no device"})] for key in ("a/1", "a/2", "training/x", "b/1")})
    assert call(on_gpu, tmp_path / "c", nothing, 10).run() == 1


@pytest.fixture(autouse=True)
def folders(tmp_path: Path) -> None:
    for name in "bc":
        (tmp_path / name).mkdir()


def test_what_does_not_fit_is_left_out_and_done_by_a_later_call(on_gpu: ModuleType, tmp_path: Path) -> None:
    worker = Scripted({"training/x": [("unfinished", {}), ("unfinished", {}), ("done", {})]})
    # 30 s planned and 10 s taken each; a training keeps 30 s for packing: after two items 40 s are left, and 60 needed.
    assert call(on_gpu, tmp_path, worker, 1.0).run() == 0
    found = figures(tmp_path)
    status = {key: one["status"] for key, one in found["items"].items()}
    assert status == {"a/1": "done", "a/2": "done", "training/x": "skipped", "b/1": "done"}
    assert "10 s were left" in found["items"]["training/x"]["result"]["reason"]
    again = Scripted({"training/x": [("unfinished", {}), ("unfinished", {}), ("done", {"epochs": 3})]})
    assert call(on_gpu, tmp_path / "b", again, 10, before=found).run() == 0
    assert [key for key, _, _ in again.asked] == ["training/x"] * 3
    assert [seconds for _, seconds, _ in again.asked] == [on_gpu.SESSION] * 3
    later = figures(tmp_path / "b")
    assert len(later["calls"]) == 2 and later["items"]["training/x"]["call"] == 2
    assert later["items"]["training/x"]["seconds"] == 30 and later["items"]["a/1"]["call"] == 1
    once_more = Scripted({})
    call(on_gpu, tmp_path / "c", once_more, 10, before=later).run(again=("a",))
    assert [key for key, _, _ in once_more.asked] == ["a/1", "a/2"]


def test_a_training_that_is_not_done_says_so_and_is_no_failure(on_gpu: ModuleType, tmp_path: Path) -> None:
    worker = Scripted({"training/x": [("unfinished", {"epochs": 7})]}, takes=40.0)
    assert call(on_gpu, tmp_path, worker, 4.0).run() == 0
    one = figures(tmp_path)["items"]["training/x"]
    # 80 s of 240 are gone; sessions of 40 s each begin while 30 s and the packing's 30 are left.
    assert (one["status"], one["result"], one["seconds"]) == ("unfinished", {"epochs": 7}, 120)


def test_to_be_ended_with_the_minutes_is_a_failure_of_what_had_its_time_alone(
    on_gpu: ModuleType, tmp_path: Path
) -> None:
    late = [("late", {"error": "not done after 9 s, and ended"})]
    assert call(on_gpu, tmp_path, Scripted({"training/x": late}, takes=100.0), 5.0).run() == 0
    assert figures(tmp_path)["items"]["training/x"]["status"] == "unfinished"
    worker = Scripted({"a/2": late})
    assert call(on_gpu, tmp_path / "b", worker, 5.0).run() == 1
    assert figures(tmp_path / "b")["items"]["a/2"]["status"] == "failed"
    # Four times the 30 s planned; a training may take what is left, less 30 s for packing.
    assert [patience for _, _, patience in worker.asked] == [120, 120, 300 - 20 - 30, 120]


def test_trainings_are_packed_after_each_session(on_gpu: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "last.pt").write_bytes(os.urandom(2_500_000))
    worker = Scripted({})
    call(on_gpu, tmp_path, worker, 10, runs="runs").run()
    pieces = sorted(path.stat().st_size for path in tmp_path.glob("runs-*"))
    assert len(pieces) == 3 and pieces[-1] == 1_000_000
    (tmp_path / "pieces.json").unlink()
    (tmp_path / "pieces.json").mkdir()  # as if the disk were full
    assert call(on_gpu, tmp_path, Scripted({}), 10, runs="runs").run() == 1
    assert figures(tmp_path)["items"]["b/1"]["status"] == "done"


def test_a_process_that_raises_dies_or_hangs_is_followed_by_another(
    on_gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    place = on_gpu.Place(device="cpu", tiny=True, data="", runs=str(tmp_path / "child"))
    worker = on_gpu.Worker("some_work:work", place)

    def do(name: str, patience: float = 60.0) -> Any:
        return worker.do(on_gpu.Item(part="p", name=name, seconds=1, small=1, what=""), 1.0, patience)

    try:
        first, second = do("one"), do("two")
        assert first[0] == second[0] == "done" and first[1]["pid"] == second[1]["pid"]
        assert "ValueError: one that" in do("raises")[1]["error"]
        third = do("three")
        assert third[0] == "done" and third[1]["pid"] != first[1]["pid"]
        assert do("dies") == ("failed", {"error": "its process ended with exit code 7"})
        do("four")  # so that a process is there
        assert do("hangs", patience=3.0) == ("late", {"error": "not done after 3 s, and ended"})
        assert _gone(int((tmp_path / "child").read_text()))
        assert do("five")[0] == "done"
    finally:
        worker.end()


def _gone(pid: int) -> bool:
    """Whether a process has ended within some seconds; one that nobody waited for has, too."""
    for _ in range(100):
        status = Path(f"/proc/{pid}/status")
        if not status.is_file() or "State:\tZ" in status.read_text():
            return True
        time.sleep(0.1)
    return False


def test_values_that_json_has_not_are_null(on_gpu: ModuleType, tmp_path: Path) -> None:
    worker = Scripted({"a/1": [("done", {"gap": [float("nan"), float("inf")], "path": Path("x"), "device": "GPU 7"})]})
    call(on_gpu, tmp_path, worker, 10).run()
    one = figures(tmp_path)["items"]["a/1"]
    assert one["result"] == {"gap": [None, None], "path": "x"} and one["device"] == "GPU 7"
    assert figures(tmp_path)["device"] == "GPU 7"


def test_every_part_is_known_to_what_does_it_and_the_plan_says_when(on_gpu: ModuleType) -> None:
    work = importlib.import_module("gpu_work")
    assert set(on_gpu.PARTS) == set(work.DONE)
    keys = [item.key for item in on_gpu.PLAN]
    assert len(set(keys)) == len(keys)
    steps = [item.name for item in on_gpu.PLAN if item.part in ("steps", "compiled")]
    kinds, precisions = ("vae", "inner", "ne-vae-se", "sa-vae"), ("float32", "bfloat16")
    assert set(steps) == {f"{k} {p}{c}" for k in kinds for p in precisions for c in ("", " compiled")}
    cases = {name: work.case_of(name, False) for name in steps}
    assert cases["inner bfloat16"].groups == ("encoder",) and cases["inner bfloat16"].precision == "bfloat16"
    assert {case.arch for case in cases.values()} == {"he2019"} and {case.batch for case in cases.values()} == {50}
    assert cases["sa-vae float32 compiled"].method == "sa-vae"
    lines = on_gpu.table(on_gpu.PLAN, False, 3.0).splitlines()
    begun = [line.split()[0] for line in lines[1:-1]]
    assert begun[0] == "0.0" and begun[-1] == "-" and len(begun) == len(on_gpu.PLAN)
    assert all(float(at) < 3.0 for at in begun if at != "-")
    assert not any("-" in on_gpu.table(on_gpu.PLAN, False, 60.0).splitlines()[i].split()[0] for i in range(1, 20))


def test_pieces_make_the_folder_again_or_are_refused(on_gpu: ModuleType, tmp_path: Path) -> None:
    pieces, folder, out = importlib.import_module("pieces"), tmp_path / "runs", tmp_path / "out"
    (folder / "a").mkdir(parents=True)
    (folder / "b").mkdir()
    weights = os.urandom(600_000)
    contents = {"a/model": weights, "a/last.pt": weights + weights, "a/.last.pt.77": b"half", "b/x": b"", "y": b"z"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    found = pieces.pack(folder, out, 0.25)
    names = [piece["name"] for piece in found["pieces"]]
    assert found["bytes"] < 650_000, "the same weights three times"
    assert len(names) == 3 and all((out / name).stat().st_size <= 250_000 for name in names)
    assert pieces.pack(folder, out, 0.25) == found
    assert pieces.unpack(out, tmp_path / "back") == 4
    back = {path.relative_to(tmp_path / "back").as_posix(): path for path in (tmp_path / "back").rglob("*")}
    assert {name: path.read_bytes() for name, path in back.items() if path.is_file()} == {
        name: content for name, content in contents.items() if "/." not in name
    }
    (folder / "a" / "model").write_bytes(os.urandom(100_000))
    pieces.pack(folder, out, 1)
    assert not set(names) & {path.name for path in out.iterdir()}
    (last,) = out.glob("runs-*")
    last.write_bytes(last.read_bytes()[:-1] + b"?")
    with pytest.raises(SystemExit, match="not as it was written"):
        pieces.unpack(out, tmp_path / "no")
    last.unlink()
    with pytest.raises(SystemExit, match="missing"):
        pieces.unpack(out, tmp_path / "no")
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_tests_marked_gpu_are_found_without_packages_for_developers(
    on_gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(ABSENT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    work = importlib.import_module("gpu_work")
    status, found = work.work("tests", "gpu", 0.0, on_gpu.Place(device="cpu", tiny=True, data="", runs=""))
    assert status == "cannot" and int(found["reason"].split(": ")[1].split()[0]) >= 40, found


@pytest.mark.slow
def test_all_of_it_runs_on_a_cpu_is_killed_and_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "on_gpu.py"), "--tiny", "--runs", "runs"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options: Any = {"cwd": tmp_path, "env": environment}
    first = subprocess.Popen([*command, "--out", "a"], **options)
    for _ in range(6000):
        time.sleep(0.1)
        if (tmp_path / "a/on_gpu.json").is_file() and len(figures(tmp_path / "a")["items"]) >= 3:
            break
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = figures(tmp_path / "a")
    assert len(kept["items"]) >= 3
    done = subprocess.run([*command, "--out", "b", "--from", "a"], capture_output=True, text=True, **options)
    found = figures(tmp_path / "b")
    assert done.returncode == 0, (done.stdout, done.stderr, found)
    assert all(found["items"][key] == one for key, one in kept["items"].items())
    status = {key: one["status"] for key, one in found["items"].items()}
    said = {key: str(one["result"].get("reason")) for key, one in found["items"].items() if one["status"] == "cannot"}
    assert set(status.values()) == {"done", "cannot"}
    assert "tests are marked gpu" in said.pop("tests/gpu")
    assert all("CPU" in reason for reason in said.values()), said
    step = found["items"]["steps/sa-vae float32"]["result"]["ways"]
    assert step["eager"]["difference"] < 1e-4 and step["captured"] == {"cannot": "a CPU has no CUDA graphs"}
    assert found["items"]["training/vae"]["result"]["epochs"] == 2
    assert found["device"].startswith("cpu") and found["commit"] and found["versions"]["torch"]
    third = subprocess.run(
        [*command, "--out", "c", "--from", "b", "--runs", "others"], capture_output=True, text=True, **options
    )
    assert third.returncode == 0 and "files of trainings from b" in third.stdout
    mine, theirs = (tmp_path / name for name in ("runs", "others"))
    assert (tmp_path / "c/pieces.json").read_bytes() == (tmp_path / "b/pieces.json").read_bytes()
    for path in mine.rglob("*.safetensors"):
        assert path.read_bytes() == (theirs / path.relative_to(mine)).read_bytes()
    assert figures(tmp_path / "c")["items"] == found["items"]

"""What a GPU is asked, in order of value, as far as so many minutes go; all figures in one JSON.

    PYTHONPATH=. python3 benchmarks/on_gpu.py --plan --minutes 10
    PYTHONPATH=. python3 benchmarks/on_gpu.py --minutes 10 --data omniglot28_lake.npz --out A --piece 15
    PYTHONPATH=. python3 benchmarks/on_gpu.py --minutes 10 --data omniglot28_lake.npz --out B --from A --piece 15
    PYTHONPATH=. python3 benchmarks/on_gpu.py --tiny            (everything on a CPU, small: 10 minutes of one core)

A bare checkout is enough, with the packages of pyproject.toml there; nothing is installed, and with --data nothing is
downloaded. The tests marked gpu; steps of `he2019` (plain, inner, NE-VAE, SA-VAE) one kernel at a time and captured, in
float32 and bfloat16, each beside plain PyTorch; 400 images; the toy search; compiled steps; then NE-VAE se and the
plain VAE at the papers' size, by `lso reproduce nevae2021_table1`, for what is left; the search for images through
both, and more compiled steps.

``OUT/on_gpu.json`` is written after each item: device, versions, commit, command and, item by item, what became of it.
An item is not begun where less is left than it is planned to take. One that fails, or takes four times as long, does
not end the others; the exit code is then 1. Trainings go on in a later call: their folder, below --runs, lies in OUT in
pieces of at most --piece MB, and a call that finds none below --runs takes it from the pieces in --from. What --from
has done is not done again, unless --again names its part.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from traceback import format_exc
from typing import Any, Literal

import pieces

from lso.vae.runs import runs_root
from lso.vae.utils.files import make_folder, replace_json
from lso.vae.utils.provenance import Provenance
from lso.vae.utils.reading import read_json

Status = Literal["done", "cannot", "skipped", "unfinished", "failed", "late"]  # late: of a worker alone
FIGURES = "on_gpu.json"
TRAINING, SEARCH = "training", "image-targets"  # the parts that the folder of trainings is for
RESERVE = 30.0  # seconds at the end, in which trainings are packed
SESSION = 240.0  # seconds of a training between two packings
PATIENCE = 4.0  # times the planned seconds after which an item is ended, and no sooner than after
LEAST = 60.0  # seconds; five times as long on a CPU, which others may use
WORK = "gpu_work:work"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing to do.

    Args:
        part: that it is of.
        name: within the part; `gpu_work` does it by this name.
        seconds: planned, on an H200.
        small: planned with --tiny, on a core of a CPU that others use as well.
        what: it is, for --plan.
        open_ended: whether it takes what is left, and goes on in a later call.
    """

    part: str
    name: str
    seconds: float
    small: float
    what: str
    open_ended: bool = False

    @property
    def key(self) -> str:
        """Under which it stands in the JSON."""
        return f"{self.part}/{self.name}"


KINDS = ("vae", "ne-vae-se", "inner", "sa-vae")


def _steps(kind: str, precision: str, seconds: float, small: float, compiled: bool = False) -> Item:
    ways = "compiled, compiled and captured" if compiled else "one kernel at a time, captured"
    name = f"{kind} {precision}" + (" compiled" if compiled else "")
    what = f"steps of he2019, batch 50: {ways}; beside plain PyTorch"
    return Item(part="compiled" if compiled else "steps", name=name, seconds=seconds, small=small, what=what)


PLAN: tuple[Item, ...] = (
    Item(part="machine", name="rates", seconds=15, small=10, what="device, versions; bytes and products a second"),
    Item(part="tests", name="gpu", seconds=100, small=60, what="tests marked gpu"),
    _steps("vae", "float32", 15, 10),
    _steps("vae", "bfloat16", 15, 10),
    _steps("ne-vae-se", "float32", 15, 10),
    _steps("inner", "float32", 15, 10),
    _steps("sa-vae", "float32", 40, 30),
    Item(part="profile", name="vae float32", seconds=10, small=1, what="kernels of a step by time"),
    Item(part="profile", name="vae bfloat16", seconds=10, small=1, what="kernels of a step by time"),
    *(_steps(kind, "bfloat16", 15, 10) for kind in ("ne-vae-se", "inner")),
    _steps("sa-vae", "bfloat16", 40, 10),
    Item(part="generation", name="400", seconds=20, small=30, what="400 images pixel after pixel"),
    Item(part="search", name="mlp", seconds=30, small=30, what="50 targets x 2 starts"),
    Item(part="search", name="conv", seconds=45, small=40, what="50 targets x 2 starts"),
    Item(part="search", name="he2019", seconds=20, small=30, what="50 targets x 2 starts"),
    _steps("vae", "float32", 75, 150, compiled=True),
    Item(part=TRAINING, name="ne-vae-se", seconds=45, small=60, what="he2019, OMNIGLOT, 100 epochs", open_ended=True),
    Item(part=TRAINING, name="vae", seconds=45, small=60, what="he2019, OMNIGLOT, 100 epochs", open_ended=True),
    Item(part=SEARCH, name="both", seconds=60, small=60, what="50 test images through both", open_ended=True),
    _steps("vae", "bfloat16", 75, 150, compiled=True),
    *(_steps(kind, "float32", 75, 150, compiled=True) for kind in KINDS[1:]),
    *(_steps(kind, "bfloat16", 75, 150, compiled=True) for kind in KINDS[1:]),
)
PARTS = tuple(dict.fromkeys(item.part for item in PLAN))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and how large things are done.

    Args:
        device: ``"cuda"`` or ``"cpu"``.
        tiny: whether with small networks, few data and few pairs.
        data: the OMNIGLOT data; empty for the download, or with ``tiny`` for random images.
        runs: folder of the trainings.
    """

    device: str
    tiny: bool
    data: str
    runs: str


Outcome = tuple[Status, dict[str, Any]]  # what became of an item, and its figures, reason or traceback


# --- the process that has the device ---------------------------------------------------------------------------------


def serve(ends: Connection, work: str, place: Place) -> None:
    """Do items until there are no more, in a session of its own, so that all that an item begins ends with it.

    Args:
        ends: gives part, name and seconds; takes outcomes.
        work: ``module:function`` that does an item.
        place: where and how large.
    """
    os.setsid()
    module, _, function = work.partition(":")
    while True:
        try:
            part, name, seconds = ends.recv()
        except EOFError:
            return
        outcome: Outcome
        try:
            outcome = getattr(import_module(module), function)(part, name, seconds, place)
        except Exception:
            outcome = "failed", {"error": format_exc()}
        ends.send(outcome)


class Worker:
    """A process that does items one after another; after one that failed or hung, another one.

    Args:
        work: ``module:function`` that does an item.
        place: where and how large.
    """

    def __init__(self, work: str, place: Place) -> None:
        self._given = work, place
        self._process: Any = None
        self._ends: Any = None

    def do(self, item: Item, seconds: float, patience: float) -> Outcome:
        """An item.

        Args:
            item: which.
            seconds: that it may use, if it is open-ended.
            patience: seconds after which it is ended.
        Returns:
            What became of it.
        """
        if self._process is None:
            context = get_context("spawn")
            self._ends, theirs = context.Pipe()
            self._process = context.Process(target=serve, args=(theirs, *self._given))
            self._process.start()
            theirs.close()
        outcome: Outcome
        try:
            self._ends.send((item.part, item.name, seconds))
            if not self._ends.poll(patience):
                raise TimeoutError
            outcome = self._ends.recv()
        except TimeoutError:
            outcome = "late", {"error": f"not done after {patience:.0f} s, and ended"}
        except (EOFError, OSError):
            self._process.join(5)
            outcome = "failed", {"error": f"its process ended with exit code {self._process.exitcode}"}
        if outcome[0] in ("failed", "late"):  # an error of the device may spoil what comes after in the same process
            self.end(wait=0.0)
        return outcome

    def end(self, wait: float = 10.0) -> None:
        """End the process and all that it began.

        Args:
            wait: seconds in which it may end by itself, as it does when it is given nothing more.
        """
        if self._process is not None:
            self._ends.close()
            self._process.join(wait)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.join()
        self._process = self._ends = None


# --- what is done in the time there is -------------------------------------------------------------------------------


def planned(tiny: bool, only: Sequence[str]) -> tuple[Item, ...]:
    """What is to be done, in its order.

    Args:
        tiny: whether at the size for a CPU; compiling is tried once there.
        only: parts; none is all.
    Returns:
        Items.
    """
    found = tuple(item for item in PLAN if not only or item.part in only)
    once = next((item for item in found if item.part == "compiled"), None)
    return tuple(item for item in found if not tiny or item.part != "compiled" or item is once)


def needed(item: Item, tiny: bool) -> float:
    """Seconds that an item is planned to take.

    Args:
        item: which.
        tiny: whether at the size for a CPU.
    Returns:
        Seconds.
    """
    return item.small if tiny else item.seconds


class Call:
    """One call: what was done before, what is done now, and the JSON of both.

    Args:
        items: in their order.
        place: where and how large.
        minutes: of this call.
        out: folder of the JSON and the pieces.
        before: content of the JSON that it goes on from; empty for none.
        about: of this call.
        piece: MB of a piece.
        worker: that does the items.
        clock: tells seconds.
        say: told a line for each item.
    """

    def __init__(
        self,
        items: Sequence[Item],
        place: Place,
        minutes: float,
        out: Path,
        before: Mapping[str, Any],
        about: Mapping[str, Any],
        piece: float,
        worker: Worker,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], object] = partial(print, flush=True),
    ) -> None:
        self.items, self.place, self.out, self.piece, self.worker = items, place, out, piece, worker
        self._clock, self._say, self._begun = clock, say, clock()
        self._deadline = self._begun + 60 * minutes
        self.calls = [*before.get("calls", []), {**about, "minutes": minutes}]
        self.found: dict[str, Any] = dict(before.get("items", {}))

    @property
    def left(self) -> float:
        """Seconds."""
        return self._deadline - self._clock()

    def run(self, again: Sequence[str] = ()) -> int:
        """Do what there is time for.

        Args:
            again: parts to do although they were done.
        Returns:
            1 if something failed, or nothing could be done, else 0.
        """
        self.write()
        try:
            for item in self.items:
                if item.part in again or self.found.get(item.key, {}).get("status") not in ("done", "cannot"):
                    self._item(item)
            self.worker.end()
        except BaseException:  # Ctrl-C, or whoever gives the time takes it back
            self.worker.end(wait=0.0)
            raise
        finally:
            self.write()
        every = {one["status"] for one in self.found.values()}
        return int("failed" in every or not every & {"done", "unfinished"})

    def _item(self, item: Item) -> None:
        needs, reserve = needed(item, self.place.tiny), RESERVE if Path(self.place.runs).is_dir() else 0.0
        if item.open_ended:
            reserve = RESERVE
        if needs > self.left - reserve:
            waits = {"reason": f"planned to take {needs:.0f} s, and {max(0.0, self.left - reserve):.0f} s were left"}
            if self.found.get(item.key, {}).get("status") != "unfinished":
                self._keep(item, ("skipped", waits), 0.0)
            return
        while True:
            begun, room = self._clock(), self.left - reserve
            given = min(room, SESSION) if item.part == TRAINING else room
            patience = max(LEAST, PATIENCE * needs) * (5 if self.place.tiny else 1)
            most = room if item.open_ended else min(room, patience)
            outcome = self.worker.do(item, given, most)
            if outcome[0] == "late":  # of what takes all that is left it is no failure to be ended with the minutes
                outcome = "unfinished" if item.open_ended else "failed", outcome[1]
            self._keep(item, outcome, self._clock() - begun)
            if item.part in (TRAINING, SEARCH) and Path(self.place.runs).is_dir():
                self._pack()
            if outcome[0] != "unfinished" or needs > self.left - reserve:
                return

    def _keep(self, item: Item, outcome: Outcome, seconds: float) -> None:
        status, result = outcome
        spent = seconds + (self.found.get(item.key, {}).get("seconds", 0.0) if item.open_ended else 0.0)
        result = json.loads(json.dumps(result, default=str), parse_constant=lambda _: None)  # strict: null for NaN
        told = {"status": status, "seconds": round(spent, 1), "planned": needed(item, self.place.tiny)}
        self.calls[-1]["device"] = result.pop("device", self.calls[-1].get("device", "unknown"))
        self.found[item.key] = {**told, "call": len(self.calls), "device": self.calls[-1]["device"], "result": result}
        why = str(result.get("error") or result.get("reason") or "").strip().splitlines()
        self._say(f"{item.key}: {status}, {seconds:.1f} s" + (f" ({why[-1]})" if why else ""))
        self.write()

    def _pack(self) -> None:
        try:
            found = pieces.pack(Path(self.place.runs), self.out, self.piece)
            self._say(f"{len(found['pieces'])} pieces, {found['bytes'] / 1e6:.1f} MB, in {self.out}")
        except Exception:  # a full disk, say: the other items go on
            key = f"{TRAINING}/pieces"
            self.found[key] = {"status": "failed", "call": len(self.calls), "result": {"error": format_exc()}}

    def write(self) -> None:
        """Put the JSON in place."""
        self.calls[-1]["seconds"] = round(self._clock() - self._begun, 1)
        replace_json(self.out / FIGURES, {**self.calls[-1], "calls": self.calls, "items": self.found}, indent=1)


def table(items: Sequence[Item], tiny: bool, minutes: float) -> str:
    """The plan of minutes.

    Args:
        items: in their order.
        tiny: whether at the size for a CPU.
        minutes: that there are.
    Returns:
        Lines: when each item begins if all take what is planned; what does not fit says so.
    """
    lines, at = [f"{'begins':>8}  {'planned':>8}  what"], 0.0
    for item in items:
        needs = needed(item, tiny)
        fits = at + needs + (RESERVE if item.open_ended else 0.0) <= 60 * minutes
        begins = f"{at / 60:.1f} min" if fits else "-"
        takes = f"{needs:.0f} s" + ("+" if item.open_ended else "")
        lines.append(f"{begins:>8}  {takes:>8}  {item.key}: {item.what}")
        at += needs if fits else 0.0
    open_ended = "+: takes what is left; goes on in a later call"
    return "\n".join(
        [*lines, f"{minutes:g} minutes; an item that does not fit any more is left out (-). {open_ended}."]
    )


def main() -> int:
    """Parse, and do what there is time for.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="of this call")
    parser.add_argument("--plan", action="store_true", help="print what would be done when, and end")
    parser.add_argument("--tiny", action="store_true", help="small, on a CPU; --minutes are 60 then")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--data", default="", metavar="PATH", help="OMNIGLOT; default: downloaded")
    parser.add_argument("--out", type=Path, default=Path("on-gpu"), metavar="DIR", help="for the JSON and the pieces")
    parser.add_argument("--from", dest="origin", type=Path, metavar="DIR", help="of an earlier call; default: OUT")
    parser.add_argument("--runs", type=Path, default=runs_root() / "on-gpu", metavar="DIR", help="for the trainings")
    parser.add_argument("--piece", type=float, default=15.0, metavar="MB", help="of the trainings, packed")
    parser.add_argument("--only", nargs="+", default=(), choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--again", nargs="+", default=(), choices=PARTS, metavar="PART", help="though it was done")
    parser.add_argument("--commit", default="", help="of the checkout, where it has no .git")
    asked = parser.parse_args()
    minutes = 60.0 if asked.tiny and "--minutes" not in sys.argv else asked.minutes
    items = planned(asked.tiny, asked.only)
    if asked.plan:
        print(table(items, asked.tiny, minutes))
        return 0
    origin = asked.origin or asked.out
    before = read_json(origin / FIGURES) if (origin / FIGURES).is_file() else {}
    make_folder(asked.out)
    if (origin / pieces.MANIFEST).is_file():
        if not asked.runs.is_dir():
            print(f"{pieces.unpack(origin, asked.runs)} files of trainings from {origin}", flush=True)
        if origin.resolve() != asked.out.resolve():  # so that OUT has all that a later call needs, whatever is done now
            for path in (*origin.glob(f"{pieces.STEM}-*"), origin / pieces.MANIFEST):
                shutil.copyfile(path, asked.out / path.name)
    here = Provenance.here()
    about = {
        "command": shlex.join([sys.executable, *sys.argv]),
        "commit": asked.commit or here.git or "unknown: no .git here, and no --commit",
        **{key: value for key, value in asdict(here).items() if key not in ("command", "git")},
    }
    device = "cpu" if asked.tiny else asked.device
    place = Place(device=device, tiny=asked.tiny, data=asked.data, runs=str(asked.runs.absolute()))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was begun is ended, and the JSON is written
    return Call(items, place, minutes, asked.out, before, about, asked.piece, Worker(WORK, place)).run(asked.again)


if __name__ == "__main__":
    sys.exit(main())

"""What `on_gpu` has done, item by item, in the process that has the device; figures as plain values.

The work itself is that of `speed/` and of the command line; here it is called at the size that was asked for.
"""

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import torch
from bench import machine
from sa_vae_step import peak
from speed import generation, search, training
from speed.pairs import pairs, sync_of, timed

from lso.tasks.training.run_set import folder_name
from lso.vae.config.architectures import architecture
from lso.vae.config.methods import parse_method
from lso.vae.models.vae import build
from lso.vae.precision import explain_slowdown, explain_unsupported
from lso.vae.runs import Run
from lso.vae.utils.files import replace_arrays, replace_file

if TYPE_CHECKING:
    from on_gpu import Outcome, Place

ROOT = Path(__file__).resolve().parents[1]
TABLE = "nevae2021_table1_omniglot"
COPIED = Path(tempfile.gettempdir()) / "lso-on-gpu"  # the same in each call, wherever the checkout lies
LEAVING = 30.0  # seconds that a command takes beside its --time-limit: to start, to write its page
EACH = {"sa-vae": 3}  # steps in a turn, else 20: so many that waiting for the device at its end costs little
PROFILED, SHOWN = 5, 15  # steps under the profiler, and kernels told


class Cannot(Exception):
    """What this machine cannot do, and why."""


def work(part: str, name: str, seconds: float, place: "Place") -> "Outcome":
    """Do an item of `on_gpu.PLAN`.

    Args:
        part: of the item.
        name: within the part.
        seconds: that it may use, if it is open-ended.
        place: where and how large.
    Returns:
        What became of it, and its figures.
    """
    if place.device == "cuda" and not torch.cuda.is_available():
        return "cannot", {"reason": "no CUDA device is here; --tiny runs on a CPU"}
    device = {"device": machine(torch.device(place.device))["device"]}
    try:
        status, found = DONE[part](name, seconds, place)
        return status, found | device
    except Cannot as why:
        return "cannot", {"reason": str(why)} | device
    finally:
        torch._dynamo.reset()
        gc.collect()
        if place.device == "cuda":
            torch.cuda.empty_cache()


# --- the machine and its tests ---------------------------------------------------------------------------------------


def rates(name: str, seconds: float, place: "Place") -> "Outcome":
    """What the device is, and the two rates that bound all that is timed: bytes copied and products."""
    device = torch.device(place.device)
    side, numbers = (256, 1 << 20) if place.tiny else (8192, 1 << 30)
    found: dict[str, Any] = machine(device)
    found["cudnn allows tf32"] = torch.backends.cudnn.allow_tf32
    found["products allow tf32"] = torch.backends.cuda.matmul.allow_tf32
    if device.type == "cuda":
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        found["memory_gib"] = round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1)
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(side, side, device=device).to(dtype)
        found[f"tflops {dtype}"] = 2 * side**3 / _median(lambda a=a: a @ a, device) / 1e12  # type: ignore[misc]
    source = torch.randn(numbers // 4, device=device)
    target = torch.empty_like(source)
    found["copied gb/s, read and written"] = 2 * numbers / _median(lambda: target.copy_(source), device) / 1e9
    return "done", found


def _median(call: Callable[[], object], device: torch.device) -> float:
    call()
    return statistics.median(timed(call, sync_of(device)) for _ in range(7))


def tests(name: str, seconds: float, place: "Place") -> "Outcome":
    """The tests marked gpu; without the checks of annotations, which need a package that is for developers."""
    files = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={told}"]
        command += ["-o", "addopts=--strict-markers", "-o", "filterwarnings=default"]
        command += [] if place.device == "cuda" else ["--collect-only"]
        done = subprocess.run(
            [*command, *files], cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False
        )
        if place.device != "cuda":
            count = sum("::" in line for line in done.stdout.splitlines())
            if done.returncode or not count:
                raise RuntimeError(f"no test marked gpu was collected:\n{done.stdout}\n{done.stderr}")
            raise Cannot(f"no GPU is here: {count} tests are marked gpu, and none of them was run")
        if not told.is_file():
            raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        found = _told(ElementTree.parse(told).getroot())
    if done.returncode or not found["passed"]:
        found["error"] = f"{len(found['failed'])} failed, {found['passed']} passed (exit code {done.returncode})"
        return "failed", found | {"output": done.stdout[-6000:]}
    return "done", found


def _told(root: ElementTree.Element) -> dict[str, Any]:
    """Counts of a file of pytest's, and what those tests said that failed or were skipped."""
    found: dict[str, Any] = {"passed": 0, "failed": {}, "skipped": {}, "seconds": {}}
    for case in root.iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        found["seconds"][name] = float(case.get("time", 0))
        said = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        if said is None:
            found["passed"] += 1
        else:
            text = f"{said.get('message')}\n{said.text or ''}"
            found["skipped" if said.tag == "skipped" else "failed"][name] = text[:3000]
    return found


# --- steps -----------------------------------------------------------------------------------------------------------


def case_of(name: str, tiny: bool) -> training.Case:
    """The step that an item's name says, e.g. ``inner bfloat16 compiled``.

    Args:
        name: of an item.
        tiny: whether of a small network, on few small images.
    Returns:
        The case.
    """
    kind, precision = name.split()[:2]
    case = replace(training.HE2019, precision=precision, method="vae" if kind == "inner" else kind)
    case = replace(case, groups=("encoder",)) if kind == "inner" else case
    if not tiny:
        return case
    method = "sa-vae:steps=2" if kind == "sa-vae" else case.method
    arch = "mlp" if name.endswith("compiled") else "he2019-small"  # which takes minutes to compile
    return replace(case, arch=arch, shape=(1, 14, 14), batch=4, method=method)


def steps(name: str, seconds: float, place: "Place") -> "Outcome":
    """A step in each way, and the plain one beside each; equal by the losses of the first steps, or the item fails."""
    device, case = torch.device(place.device), case_of(name, place.tiny)
    method = parse_method(case.method)
    torch.manual_seed(0)
    model = build(architecture(case.arch, 32), method.skip, case.shape).to(device)
    if why := explain_unsupported(case.precision, model, device) or explain_slowdown(case.precision, model, device):
        raise Cannot(why)
    ways: tuple[training.Way, ...] = ("eager", "captured")
    ways = ("compiled", "compiled and captured") if name.endswith("compiled") else ways
    found = {"step": case.title(), "allowed difference": training.allowed(case, device)}
    found["ways"] = {way: _way(way, case, model, method, device, place.tiny) for way in ways}
    wrong = [
        f"{way}: {one.get('sentence') or 'losses differ by {:.1g}'.format(one['difference'])}"
        for way, one in found["ways"].items()
        if "difference" in one and (one["sentence"] or not one["difference"] < found["allowed difference"])
    ]
    return ("failed", found | {"error": "; ".join(wrong)}) if wrong else ("done", found)


def _way(way: training.Way, case: training.Case, model: Any, method: Any, device: torch.device, tiny: bool) -> Any:
    """Seconds of a step, of the plain one and their ratio; a way that is not taken says why in ``sentence``."""
    if way.endswith("captured") and device.type == "cpu":
        return {"cannot": "a CPU has no CUDA graphs"}
    ours, replayed = training.taken(case, model, method, device, way)
    plain, begun = training.straightforward(case, model, method, device), time.perf_counter()
    gap = training.difference(plain, ours)
    warming = time.perf_counter() - begun
    each, losses = 1 if tiny else EACH.get(case.method.partition(":")[0], 20), replayed.state.losses
    times = pairs(
        lambda: [plain() for _ in range(each)],
        lambda: [ours() for _ in range(each)],
        2 if tiny else 5,
        sync_of(device),
    )
    ratios = sorted(a / b for a, b in zip(times.plain, times.ours, strict=True))
    return {
        "seconds": statistics.median(times.ours) / each,
        "plain seconds": statistics.median(times.plain) / each,
        "ratio": statistics.median(ratios),
        "least and greatest": [ratios[0], ratios[-1]],
        "difference": gap,
        "sentence": "; ".join(filter(None, (replayed.sentence, getattr(losses, "sentence", "")))),
        "first steps, seconds": warming,
        "memory, mb": peak(ours, device) if device.type == "cuda" else None,
    }


def profiled(name: str, seconds: float, place: "Place") -> "Outcome":
    """Where the time of a step goes that is taken one kernel at a time: its kernels by name."""
    if place.device == "cpu":
        raise Cannot("a CPU has no kernels that are launched")
    from torch.profiler import ProfilerActivity, profile

    device, case = torch.device(place.device), case_of(name, place.tiny)
    method = parse_method(case.method)
    model = build(architecture(case.arch, 32), method.skip, case.shape).to(device)
    ours, _ = training.taken(case, model, method, device, "eager")
    sync = sync_of(device)
    for _ in range(3):
        ours()
    sync()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        begun = time.perf_counter()
        for _ in range(PROFILED):
            ours()
        sync()
        wall = time.perf_counter() - begun
    rows = [event for event in seen.key_averages() if event.self_device_time_total > 0]
    rows.sort(key=lambda event: -event.self_device_time_total)
    return "done", {
        "kernels in a step": sum(event.count for event in rows) / PROFILED,
        "their milliseconds": sum(event.self_device_time_total for event in rows) / PROFILED / 1e3,
        "milliseconds of the step": 1e3 * wall / PROFILED,
        "by name": [
            {
                "kernel": event.key[:160],
                "in a step": event.count / PROFILED,
                "milliseconds": event.self_device_time_total / PROFILED / 1e3,
            }
            for event in rows[:SHOWN]
        ],
    }


# --- images and searches ---------------------------------------------------------------------------------------------


def generated(name: str, seconds: float, place: "Place") -> "Outcome":
    """Images pixel after pixel."""
    return "done", asdict(generation.drawn(8 if place.tiny else int(name), torch.device(place.device), place.tiny))


def searched(name: str, seconds: float, place: "Place") -> "Outcome":
    """The toy search, of its loop's speed."""
    device, count, targets = torch.device(place.device), *((3, 4) if place.tiny else (5, search.TARGETS))
    if name == "he2019":
        row = search.through_pixels("he2019-small" if place.tiny else name, device, targets, count)
    else:
        row = search.to_tolerance(name, device, targets, count)
    return "done", asdict(row)


# --- trainings -------------------------------------------------------------------------------------------------------


def trained(name: str, seconds: float, place: "Place") -> "Outcome":
    """A session of a row of NE-VAE's Table 1; `lso reproduce` begins it, goes on with it, or measures it."""
    small = ["--arch", "mlp", "--limit", "100", "--epochs", "2", "--test-limit", "50"] if place.tiny else []
    data = data_of(place)
    options = ["--rows", name, *(["--data", data] if data else []), "--out", place.runs, *small]
    told = _lso("reproduce", TABLE, *options, place=place, seconds=seconds)
    (row,) = [row for row in told["rows"] if row["train"] == name]
    run = Run(folder_of(name, place))
    info, metrics = run.info, run.metrics()
    found = {"row": row, "cut": told["cut"], "status": info["status"], "sentence": info["sentence"]}
    found |= {"epochs": metrics[-1]["epoch"], "training seconds": info.get("seconds"), "metrics": metrics[-1]}
    found["seconds of epochs"] = [round(line["seconds"], 2) for line in metrics]
    if row["failed"]:
        return "failed", found | {"error": "; ".join(row["failed"])}
    return ("done" if row["done"] == row["planned"] else "unfinished"), found


def sought(name: str, seconds: float, place: "Place") -> "Outcome":
    """A session of the search for test images through both models (NE-VAE 5.4)."""
    models = [folder_of(method, place) for method in ("ne-vae-se", "vae")]
    for model in models:
        if not (model / "run.json").is_file() or Run(model).info["status"] != "finished":
            return "skipped", {"reason": f"{model.name} is not trained to its end yet"}
    small = ["--targets", "2", "--max-steps", "100", "--thresholds", "0.01"] if place.tiny else []
    options = ["--models", *map(str, models), "--out", str(Path(place.runs) / "image-targets"), *small]
    told = _lso("benchmark", "image-targets", *options, place=place, seconds=seconds)
    return ("unfinished" if told["cut"] else "done"), told


def folder_of(method: str, place: "Place") -> Path:
    """Where `lso reproduce` has a training."""
    return Path(place.runs) / f"reproduce-{TABLE}" / folder_name(method, 32, 0)


def data_of(place: "Place") -> str:
    """The data at a path that is the same in each call, as trainings know them by it; random ones for --tiny."""
    if not place.data and not place.tiny:
        return ""
    COPIED.mkdir(exist_ok=True)
    if place.data:
        there = COPIED / Path(place.data).name
        content = Path(place.data).read_bytes()
        if not there.is_file() or there.read_bytes() != content:
            replace_file(there, content)
        return str(there)
    draw = np.random.default_rng(0)
    train, test = (draw.integers(0, 255, (n, 28, 28), dtype=np.uint8) for n in (160, 60))
    replace_arrays(COPIED / "random.npz", {"train_x": train, "test_x": test})
    return str(COPIED / "random.npz")


def _lso(*words: str, place: "Place", seconds: float) -> dict[str, Any]:
    """What a command of `lso` says, as JSON."""
    limit = f"{max(10.0, seconds - LEAVING):.0f}s"
    command = [sys.executable, "-m", "lso", *words, "--device", place.device, "--time-limit", limit]
    done = subprocess.run(
        [*command, "--json", "--quiet"], cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _environment() -> dict[str, str]:
    """Of this process, with the checkout first, which need not be installed."""
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *([known] if known else [])])}


DONE: Mapping[str, Callable[[str, float, "Place"], "Outcome"]] = {
    "machine": rates,
    "tests": tests,
    "steps": steps,
    "compiled": steps,
    "profile": profiled,
    "generation": generated,
    "search": searched,
    "training": trained,
    "image-targets": sought,
}

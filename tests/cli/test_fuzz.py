"""Two thousand damaged files of run folders, given to all commands: none crashes, hangs, runs, or is called sound."""

import io
import json
import random
import shutil
import signal
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.tasks.search.test_sentences import LINES

CASES, PARTS, SEED = 2000, 4, 15
HANGS = 60  # seconds of one command
SCORE = "from pathlib import Path\nPath('executed').touch()\n\ndef ink(xs):\n    return [float(x.sum()) for x in xs]\n"
SMALL = ("--latent-dim", 2, "--width", 8, "--device", "cpu", "--quiet")
DIGITS = ("--method", "vae", "--limit", 60, *SMALL)
SEARCH = ("optimize", "--model", "image", "--device", "cpu", "--quiet", "--optimizer")
OWN = ("--objective", "scored:ink", "--maximize", "--budget", 4, "--batch", 2)

# What is worked on, and how its folder is made.
FOLDERS: dict[str, tuple[object, ...]] = {
    "image": ("train", *DIGITS, "--epochs", 2, "--out", "image"),
    "cut": ("train", *DIGITS, "--epochs", 3, "--max-steps", 1, "--out", "cut"),
    "text": ("train", "--method", "vae", "--data", "lines.txt", "--epochs", 1, *SMALL, "--out", "text"),
    "gradient": (*SEARCH, "adam", "--target", "test:2", "--starts", 2, "--max-steps", 3, "--out", "gradient"),
    "black-box": (*SEARCH, "random", *OWN, "--out", "black-box"),
    "retraining": (*SEARCH, "random", *OWN, "--retrain-every", 2, "--retrain-data", 10, "--out", "retraining"),
    "sweep": ("sweep", *DIGITS, "--epochs", 1, "--iw-samples", 0, "--out", "sweep"),
}
LOOKS = {
    "image": (
        ("evaluate", "image", "--iw-samples", 0, "--limit", 4),
        ("sample", "image", "-n", 2),
        ("encode", "image", "--data", "test:2"),
        ("decode", "image", "image/codes.npz"),
        ("interpolate", "image", "test:0", "test:1", "--steps", 2),
        ("traverse", "image", "--dim", 0, "--steps", 2, "--points", 0, "--directions", 0),
        ("optimize", "--model", "image", "--target", "test:1", "--starts", 1, "--max-steps", 1, "--control", "none"),
        ("train", "--resume", "image"),
        ("report", "image"),
        ("list", "runs"),
    ),
    "cut": (("train", "--resume", "cut", "--max-steps", 2), ("evaluate", "cut", "--iw-samples", 0, "--limit", 4)),
    "text": (
        ("evaluate", "text", "--iw-samples", 0, "--limit", 4),
        ("sample", "text", "-n", 2),
        ("encode", "text", "--data", "the man"),
        ("interpolate", "text", "the man", "a dog", "--steps", 2),
    ),
    "gradient": (("report", "gradient"), ("decode", "image", "gradient/results/codes.npz")),
    "black-box": (
        ("optimize", "--resume", "black-box"),
        ("report", "black-box"),
        ("decode", "image", "black-box/results/codes.npz"),
    ),
    "retraining": (("optimize", "--resume", "retraining"), ("report", "retraining")),
    "sweep": (FOLDERS["sweep"], ("evaluate", "sweep/vae-d2-s0", "--iw-samples", 0, "--limit", 4)),
}
TYPED = (".json", ".jsonl", ".toml")  # values have names and types
READ = (".json", ".jsonl", ".toml", ".safetensors", ".npz", ".pt", ".html")  # what commands read of a folder


class Hanging(BaseException):
    """A command did not end."""


def command(*arguments: object) -> tuple[int, str, str]:
    """A command through the command line's own `main`: exit code, stdout and stderr."""
    from lso.cli.main import run_command_line

    answer, told = io.StringIO(), io.StringIO()
    sys.argv = ["lso", *map(str, arguments)]

    def hanging(number: int, frame: object) -> None:
        raise Hanging(sys.argv)

    signal.signal(signal.SIGALRM, hanging)
    signal.alarm(HANGS)
    try:
        with redirect_stdout(answer), redirect_stderr(told):
            run_command_line()
    except SystemExit as ended:
        return int(ended.code or 0), answer.getvalue(), told.getvalue()
    finally:
        signal.alarm(0)
    raise AssertionError("main did not exit")


# --- damage -----------------------------------------------------------------------------------------------------------

OTHERS = (b" = 3", b' = "x"', b" = []", b" = nan", b' = "os:system"')
OTHER: list[Any] = [None, "x", -1, 3.5, [], {}, True, [[1]], {"a": 1}, float("nan"), 10**30, "os:system", ["a"] * 3]


def flipped(raw: bytes, draw: random.Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def retyped(raw: bytes, draw: random.Random) -> bytes:
    """JSON, a line of JSON, or TOML with one value of another kind."""
    lines = raw.split(b"\n")
    if _object(raw):
        return json.dumps(_other(json.loads(raw), draw)).encode() + b"\n"
    if _object(lines[0]):
        number = draw.randrange(max(1, len(lines) - 1))
        lines[number] = json.dumps(_other(json.loads(lines[number]), draw)).encode()
        return b"\n".join(lines)
    values = [i for i, line in enumerate(lines) if b" = " in line]
    if not values:
        return flipped(raw, draw)
    number = draw.choice(values)
    lines[number] = lines[number].split(b" = ")[0] + draw.choice(OTHERS)
    return b"\n".join(lines)


def _object(raw: bytes) -> bool:
    try:
        return isinstance(json.loads(raw), dict)
    except ValueError:
        return False


def _other(value: Any, draw: random.Random) -> Any:
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        return {**value, key: _other(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.7:
        number = draw.randrange(len(value))
        return [*value[:number], _other(value[number], draw), *value[number + 1 :]]
    return draw.choice(OTHER)


def spoiled(path: Path, raw: bytes, draw: random.Random) -> bytes:
    """One number that is none."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            card = file.metadata()
        able = [name for name, value in tensors.items() if value.is_floating_point() and value.numel()]
        if not able:
            return flipped(raw, draw)
        tensors[draw.choice(able)].view(-1)[0] = torch.nan
        save_file(tensors, path, metadata=card)
        return path.read_bytes()
    if path.suffix == ".npz":
        with np.load(io.BytesIO(raw)) as arrays:
            found = {name: arrays[name].copy() for name in arrays.files}
        able = [name for name, value in found.items() if value.dtype.kind == "f" and value.size]
        if not able:
            return flipped(raw, draw)
        found[draw.choice(able)].flat[0] = np.nan
        np.savez(path, **found)
        return path.read_bytes()
    return raw.replace(b"0.", b"NaN, 0.", 1) if draw.random() < 0.5 else raw.replace(b"1", b"NaN", 1)


DAMAGES: dict[str, Callable[[Path, bytes, random.Random], bytes]] = {
    "flip": lambda path, raw, draw: flipped(raw, draw),
    "flip again": lambda path, raw, draw: flipped(raw, draw),
    "truncate": lambda path, raw, draw: raw[: draw.randrange(len(raw))],
    "retype": lambda path, raw, draw: (retyped if path.suffix in TYPED else flipped)(raw, draw),
    "retype again": lambda path, raw, draw: (retyped if path.suffix in TYPED else flipped)(raw, draw),
    "spoil": spoiled,
    "nest": lambda path, raw, draw: draw.choice((b"[", b'{"a": ', b"a = [")) * 100_000,
    "empty": lambda path, raw, draw: b"",
    "latin": lambda path, raw, draw: raw[: (at := draw.randrange(len(raw)))] + b"caf\xe9" + raw[at:],
    "noise": lambda path, raw, draw: draw.randbytes(draw.randrange(1, 2000)),
}


def meaning(path: Path, raw: bytes) -> object:
    """What a file says, so that damage that changes nothing of it is known."""
    try:
        if path.suffix == ".json":
            return repr({key: value for key, value in json.loads(raw).items() if key != "seal"})
        if path.suffix == ".jsonl":
            return repr([json.loads(line) for line in raw.split(b"\n")[:-1]])
        if path.suffix == ".toml":
            return repr(tomllib.loads(raw.decode()))
        if path.suffix == ".npz":
            with np.load(io.BytesIO(raw)) as arrays:
                return {name: (arrays[name].shape, arrays[name].tobytes()) for name in arrays.files}
        if path.suffix == ".pt":
            return _values(torch.load(io.BytesIO(raw), weights_only=True))
    except Exception:
        return raw
    return raw


def _values(value: Any) -> object:
    """The same with tensors as their numbers, all of them."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: _values(one) for key, one in value.items()}
    return [_values(one) for one in value] if isinstance(value, list | tuple) else repr(value)


# --- the test ---------------------------------------------------------------------------------------------------------


@contextmanager
def copied(name: str) -> Iterator[None]:
    """The folder, to be damaged, and as it was afterwards."""
    shutil.copytree(name, f"{name}.good")
    try:
        yield
    finally:
        shutil.rmtree(name)
        shutil.move(f"{name}.good", name)


def complaint(code: int, told: str) -> str:
    """What is wrong with how a command ended; empty where nothing is."""
    if "Traceback" in told or "internal error" in told:
        return told[-300:]
    lines = told.splitlines()
    errors = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    if code not in (0, 1, 2):
        return f"exit code {code}: {told[-200:]}"
    if code and not (errors and errors[-1] == len(lines) - 2):
        return f"exit code {code} without an error in two lines: {told[-300:]}"
    return ""


def files(name: str) -> list[Path]:
    found = (path for path in Path(name).rglob("*") if path.suffix in READ and path.is_file())
    return sorted(path for path in found if path.stat().st_size)


def judged(name: str, path: Path) -> Path | None:
    """The run whose doctor reads a file; None where it is no part of one."""
    below = [part for part in path.parents if (part / "run.json").is_file() and part.is_relative_to(name)]
    if "results" in path.parts or not below:
        return None
    return below[-1]


def case(number: int, names: list[str]) -> list[str]:
    draw = random.Random(f"{SEED}/{number}")
    name = draw.choice(names)
    path, kind, look = draw.choice(files(name)), draw.choice(list(DAMAGES)), draw.choice(LOOKS[name])
    accept = draw.random() < 0.25 and look[0] != "list"
    with copied(name):
        good = path.read_bytes()
        bad = DAMAGES[kind](path, good, draw)
        path.write_bytes(bad)
        where = judged(name, path)
        found = []
        if where is not None and meaning(path, good) != meaning(path, bad):
            code, answer, told = command("doctor", where)
            found.append(complaint(code, told))
            if code == 0 and not any(line.startswith("problem ") for line in answer.splitlines()):
                found.append("doctor calls it sound")
        code, _, told = command(*look, *(["--accept-changes"] if accept else []))
        found.append(complaint(code, told))
        if Path("executed").exists():
            found.append("something was executed")
    where_at = f"case {number}: {kind} of {path}, lso {' '.join(map(str, look))}{accept * ' --accept-changes'}"
    return [f"{where_at}: {one}" for one in found if one]


@pytest.mark.slow
@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_files_are_told_of_and_nothing_runs(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["lso"])
    Path("lines.txt").write_text("".join(f"{line}\n" for line in LINES))
    Path("scored.py").write_text(SCORE)
    for name, arguments in FOLDERS.items():
        code, _, told = command(*arguments)
        assert code == 0, (name, told)
    Path("executed").unlink()
    sys.modules.pop("scored")
    wrong = [one for number in range(part, CASES, PARTS) for one in case(number, list(FOLDERS))]
    assert not wrong, f"{len(wrong)} complaints\n" + "\n".join(wrong[:20])

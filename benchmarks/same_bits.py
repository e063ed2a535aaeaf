"""Does this checkout compute to the bit what another revision does? For changes that are to change no number.

    OMP_NUM_THREADS=1 python benchmarks/same_bits.py REVISION        (some minutes, in a temporary folder)
    OMP_NUM_THREADS=1 python benchmarks/same_bits.py REVISION --only thompson,resume

Each case is a few commands, run by both trees in folders of their own: two epochs of a method and an architecture,
searches by gradient and in black boxes at a fixed seed, and run folders of commit 83e3243 that are gone on with.
Compared are weights, the rows of metrics.jsonl and those of evaluations.jsonl, without times and what is hashed of
them.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[1]
EARLIER = ROOT / "tests" / "data" / "folders_83e3243"
TIMES = ("seconds", "elapsed", "check", "epoch_seconds")  # of a row: how long it took, and a hash over that
IMAGES = ("--task", "digits", "--limit", "120", "--latent-dim", "6", "--epochs", "2", "--batch-size", "30")
TEXT = (
    "--task",
    "synthetic",
    "--limit",
    "200",
    "--latent-dim",
    "3",
    "--width",
    "16",
    "--epochs",
    "2",
)
TRAININGS: Sequence[tuple[str, str, Sequence[str]]] = (
    ("vae", "mlp", IMAGES),
    ("beta-vae:beta=0.5", "conv", IMAGES),
    ("ne-vae-se", "he2019-small", IMAGES),
    ("ne-vae-lp:c=0", "mlp", IMAGES),
    ("iwae", "conv", IMAGES),
    ("skip-vae", "dieng2019", IMAGES),
    ("sa-vae", "mlp", IMAGES),
    ("aggressive:budget=5", "mlp", IMAGES),
    ("vae-anneal", "lstm", TEXT),
    ("ne-vae-se", "transformer", TEXT),
    ("svi", "lstm", TEXT),
)
BLACK_BOXES = ("random", "cmaes", "gp", "turbo", "thompson")


def cases() -> dict[str, list[list[str]]]:
    """The commands of each case; ``RUN`` stands for the case's own folder."""
    found = {}
    for method, arch, more in TRAININGS:
        found[f"train {method} {arch}"] = [["train", "--method", method, "--arch", arch, *more, "--out", "RUN", "-q"]]
    model = ["train", "--method", "ne-vae-se", *IMAGES, "--out", "model", "-q"]
    search = ["optimize", "--model", "model", "-q", "--out", "RUN"]
    gradient = [*search, "--target", "test:3", "--starts", "3", "--max-steps", "60"]
    for optimizer in ("adam", "lbfgs"):
        found[f"search {optimizer}"] = [model, [*gradient, "--optimizer", optimizer]]
    for optimizer in BLACK_BOXES:
        budget = ["--target", "test:1", "--optimizer", optimizer, "--budget", "24"]
        found[f"search {optimizer}"] = [model, [*search, *budget]]
    for name in ("images-stopped", "text-stopped"):
        found[f"resume {name}"] = [["train", "--resume", name, "-q"]]
    for name in ("black-box-killed", "retraining-killed"):
        found[f"resume {name}"] = [["optimize", "--resume", name, "--trust", "-q"]]
    return found


def select(only: str) -> list[str]:
    """Return the names of the cases that hold one of the words, which commas separate; of all where there are none."""
    known, words = list(cases()), [word.strip() for word in only.split(",") if word.strip()]
    for word in words:
        if not any(word in name for name in known):
            raise SystemExit(f"no case is named like {word!r}; the cases: {', '.join(known)}")
    return [name for name in known if not words or any(word in name for word in words)]


def outcome(tree: Path, commands: Sequence[Sequence[str]], folder: Path) -> dict[str, str]:
    """Run commands with a tree's package; what they left, as hashes by file, and what the last said if it failed.

    Args:
        tree: root of a checkout.
        commands: of ``lso``.
        folder: to work in, made here.
    """
    shutil.copytree(EARLIER, folder)
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".toml"):
            path.write_text(path.read_text(encoding="utf-8").replace("@HERE@", str(folder)), encoding="utf-8")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    environment = os.environ | {"PYTHONPATH": f"{tree}{os.pathsep}{folder}"}
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "lso", *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return {"failed": done.stderr.strip()[-300:]}
    changed = [path for path in sorted(folder.rglob("*")) if path.is_file() and before.get(path) != path.read_bytes()]
    return {str(path.relative_to(folder)): text for path in changed if (text := content_hash(path))}


def content_hash(path: Path) -> str:
    """A hash of what a file says, without times; empty for files that are not compared."""
    if path.suffix == ".safetensors":
        arrays = load_file(path)
        parts = [
            f"{key} {arrays[key].dtype} {arrays[key].shape}".encode() + arrays[key].tobytes() for key in sorted(arrays)
        ]
        return hashlib.sha256(b"".join(parts)).hexdigest()
    if path.name in ("metrics.jsonl", "evaluations.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return hashlib.sha256(json.dumps([timeless(row) for row in rows], sort_keys=True).encode()).hexdigest()
    return ""


def timeless(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without what differs between two equal runs."""
    return {key: value for key, value in row.items() if key not in TIMES}


def main() -> int:
    """Compare, print one line a case; 1 where one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", help="to compare with, as git names it")
    parser.add_argument("--only", default="", metavar="NAME,...", help="cases whose name holds one of these")
    options = parser.parse_args()
    names = select(options.only)
    differing = []
    with tempfile.TemporaryDirectory() as scratch:
        other = Path(scratch, "tree")
        subprocess.run(
            ["git", "-C", str(ROOT), "worktree", "add", "-q", "--detach", str(other), options.revision], check=True
        )
        try:
            for number, name in enumerate(names):
                ours, theirs = (
                    outcome(tree, cases()[name], Path(scratch, f"{number}-{side}"))
                    for side, tree in (("ours", ROOT), ("theirs", other))
                )
                same = ours == theirs and "failed" not in ours and len(ours) > 0
                files = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
                told = (
                    ""
                    if same
                    else f": {ours.get('failed') or theirs.get('failed') or ', '.join(files) or 'nothing was written'}"
                )
                print(f"{'same' if same else 'DIFFERS'}  {name}, {len(ours)} files{told}", flush=True)
                differing += [] if same else [name]
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(other)], check=False)
    print(f"{len(names) - len(differing)} of {len(names)} cases are the same to the bit")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())

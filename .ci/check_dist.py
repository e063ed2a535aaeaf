"""Check what a wheel and an sdist hold, and that the wheel works beside a user's own vae.py, tasks.py and cli.py."""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

FOLDERS = ("lso", "vae", "tasks", "cli")
DATA = (".safetensors", ".npz", ".json", ".jsonl")  # of the models that are installed
MAX_BYTES = 15_000_000


def sources() -> set[str]:
    """Package files of the checkout, as an installed package names them."""
    found = set()
    for folder in FOLDERS:
        prefix = "lso/" if folder == "lso" else f"lso/{folder}/"
        for path in Path(folder).rglob("*"):
            inside = path.relative_to(folder)
            linked = folder == "lso" and inside.parts[0] in FOLDERS  # the editors' links
            if path.is_file() and path.suffix in (".py", ".html", ".css", ".typed", ".toml", *DATA) and not linked:
                found.add(prefix + inside.as_posix())
    return found


def check_wheel(path: Path) -> None:
    """All sources and nothing else; works when unpacked beside a user's files of the same names."""
    assert path.stat().st_size <= MAX_BYTES, f"the wheel has {path.stat().st_size:,} bytes, at most {MAX_BYTES:,}"
    with zipfile.ZipFile(path) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert held == sources(), f"wheel differs from the sources: {sorted(held ^ sources())}"
        with tempfile.TemporaryDirectory() as folder:
            wheel.extractall(f"{folder}/site")
            user = Path(folder, "user")
            user.mkdir()
            for name in ("vae", "tasks", "cli"):
                (user / f"{name}.py").write_text("raise SystemExit('shadowed')\n")
            code = "import sys; sys.path.insert(1, '../site'); import lso; lso.VAE, lso.minimize, lso.train; "
            code += "[lso.load(f'zoo:{name}') for name in lso.vae.zoo.zoo_names()]; print(lso.__file__)"
            done = subprocess.run([sys.executable, "-c", code], cwd=user, capture_output=True, text=True, check=False)
            # The environment also has an editable install; the unpacked wheel must be the one that was imported.
            assert done.returncode == 0 and "/site/lso/" in done.stdout, done.stdout + done.stderr


def check_sdist(path: Path) -> None:
    """Everything that is needed to build and test it again."""
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "lso/py.typed",
        "vae/models/vae.py",
        "tasks/task.py",
        "cli/main.py",
    }
    needed |= {path.as_posix() for path in Path("tasks/tables").rglob("*.toml")}
    assert needed <= held, f"sdist lacks {sorted(needed - held)}"
    assert not any(name.startswith(("runs/", ".venv/")) for name in held), "sdist holds runs or an environment"


if __name__ == "__main__":
    dist = Path(sys.argv[1])
    (wheel,), (sdist,) = list(dist.glob("*.whl")), list(dist.glob("*.tar.gz"))
    check_wheel(wheel)
    check_sdist(sdist)
    print(f"{wheel.name}: {len(sources())} files, {wheel.stat().st_size / 1e6:.1f} MB; {sdist.name}: complete")

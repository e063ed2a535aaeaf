"""Guides run as they stand, show all of their scripts, and quote what the commands really print."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDES = ROOT / "docs" / "guides"
SCRIPTS = sorted(path for path in GUIDES.iterdir() if path.suffix in (".py", ".sh", ".sbatch"))
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(GUIDES.glob("*.md"))}
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
CHEAP = ("own-decoder.py",)  # runs in this process, by default
SHOWN_ONLY = ("cluster.sbatch",)  # needs a cluster
NEEDS = {"cluster.py": "distributed", "own-decoder-pythae.py": "pythae"}  # optional packages
# Pages whose ```text blocks are output of their scripts.
QUOTED = ("own-score.md", "own-text.md", "reading-a-report.md", "resuming.md", "weighted-retraining.md")
SLOW = [path for path in SCRIPTS if path.name not in (*CHEAP, *SHOWN_ONLY)]


def name_of(path: Path) -> str:
    return path.name


def run_guide(path: Path, folder: Path) -> str:
    """Run a guide in a folder as a reader does, with `lso` and `python` on the path; returns what it printed."""
    commands = folder / ".commands"
    commands.mkdir()
    for name, arguments in (("lso", "-m lso"), ("python", "")):
        shim = commands / name
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n', encoding="utf-8")
        shim.chmod(0o755)
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "COLUMNS": "110"}
    command = [sys.executable] if path.suffix == ".py" else ["bash", "-e"]
    done = subprocess.run(
        [*command, str(path)],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def without_numbers(text: str) -> list[str]:
    """Lines with each number as #, since the last digits and the times depend on the machine."""
    plain = re.sub(r"(\d+ h )?(\d+ min )?\d+(\.\d+)? s\b", "# s", text)
    plain = re.sub(r"(< )?-?\d[\d,]*(\.\d+)?(e-?\d+)?", "#", plain)
    return [re.sub(r"\s+", " ", line).strip() for line in plain.splitlines()]


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.name in CHEAP], ids=name_of)
def test_cheap_guides_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")


@pytest.mark.slow
@pytest.mark.parametrize("path", SLOW, ids=name_of)
def test_guides_run_and_print_what_their_pages_quote(path: Path, tmp_path: Path) -> None:
    if path.name in NEEDS:
        pytest.importorskip(NEEDS[path.name], reason=f"the guide {path.name} needs {NEEDS[path.name]}")
    output = run_guide(path, tmp_path)
    assert "Traceback" not in output, output
    page = f"{path.stem}.md"
    if page in QUOTED:
        printed = without_numbers(output)
        for block in re.findall(r"```text\n(.*?)```", PAGES[page], flags=re.DOTALL):
            for line in without_numbers(block):
                assert line in printed, f"{page} quotes {line!r}, which is not in:\n{output}"
    if page == "own-images.md":
        assert "This result can be believed" in output, output


@pytest.mark.slow
def test_each_section_of_a_report_is_explained(tmp_path: Path) -> None:
    run_guide(GUIDES / "reading-a-report.sh", tmp_path)
    for run in ("search", "digits"):
        report = json.loads((tmp_path / "runs" / run / "report.json").read_text(encoding="utf-8"))
        for title in (section["title"] for section in report["sections"]):
            page = PAGES["reading-a-report.md"]
            assert f"### {title}\n" in page or f"**{title}**" in page, f"{run}: {title}"


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_pages_show_the_whole_of_their_scripts(path: Path) -> None:
    sections = re.findall(r"--8<-- \[start:([\w-]+)\]", path.read_text(encoding="utf-8"))
    wanted = [f"{path.name}:{section}" for section in sections] or [path.name]
    for part in wanted:
        assert any(f'--8<-- "docs/guides/{part}"' in page for page in PAGES.values()), f"no page includes {part}"


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.suffix != ".py"], ids=name_of)
def test_shell_scripts_parse(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_flags_of_the_guides_exist() -> None:
    """Every `lso COMMAND --flag` of pages and scripts is one of the public command line."""
    known = (ROOT / "tests" / "data" / "public" / "commands.txt").read_text(encoding="utf-8")
    scripts = {path.name: path.read_text(encoding="utf-8") for path in SCRIPTS}
    found = 0
    for name, text in {**PAGES, **scripts}.items():
        for line in re.findall(r"^\s*lso (.+?)(?:\s{2,}#.*| &)?$", text.replace("\\\n", " "), flags=re.MULTILINE):
            command = line.split()[0]
            for flag in re.findall(r"(?<!\S)--[a-z][a-z-]*", line):
                found += 1
                assert re.search(rf"^lso {command} .*{flag}\b", known, flags=re.MULTILINE), f"{name}: {command} {flag}"
    assert found > 20


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebooks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    book = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert any("believe" in str(output) for output in shown)
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebooks_are_valid_and_have_no_outputs(path: Path) -> None:
    book = json.loads(path.read_text(encoding="utf-8"))
    assert book["nbformat"] == 4
    assert all(not cell["outputs"] for cell in book["cells"] if cell["cell_type"] == "code")

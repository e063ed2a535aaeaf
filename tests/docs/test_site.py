"""The built documentation: it needs no network, and a broken link or anchor ends the build."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="pip install -e '.[docs]'"),
]


def build(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", *map(str, arguments)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_site_builds_and_names_nothing_that_is_fetched(tmp_path: Path) -> None:
    done = build("--site-dir", tmp_path / "site")
    assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert {"start.html", "choose.html", "concepts.html", "papers.html", "optimize.html"} <= {one.name for one in pages}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(https?:[^\"\s>]+)", text)
        fetched += re.findall(r"<link\b[^>]*\bhref=\"?(https?:[^\"\s>]+)", text)
        assert fetched == [], page.name
        assert "{{ " not in re.sub(r"<code.*?</code>", "", text, flags=re.DOTALL), (
            f"{page.name}: a mark was not filled in"
        )
    assert "<math" in (tmp_path / "site" / "concepts.html").read_text(encoding="utf-8")
    names = (tmp_path / "site" / "reference" / "python.html").read_text(encoding="utf-8")
    assert "setting(" not in names, "the signature of a class of settings shows how its fields are made"


def test_a_broken_link_and_a_broken_anchor_end_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# One\n\n[a](nowhere.md), [b](#nothing)\n", encoding="utf-8")
    settings = [f"INHERIT: {ROOT / 'mkdocs.yml'}", "docs_dir: docs", "nav: [index.md]", "plugins: [search]"]
    settings += [f"hooks: [{ROOT / 'docs' / 'site' / 'hooks.py'}]"]
    (tmp_path / "mkdocs.yml").write_text("\n".join(settings), encoding="utf-8")
    done = build("--config-file", tmp_path / "mkdocs.yml", "--site-dir", tmp_path / "site")
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr and "#nothing" in done.stderr, done.stderr

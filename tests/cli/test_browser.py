"""Every kind of report in a headless Chromium: light and dark, on a phone and on a desk.

Needs the extra ``lso[browser]`` and a Chromium of the system's; what is not there is said where a test is skipped.
"""

import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from lso.vae.runs import Run
from tests.cli.conftest import Lso
from tests.cli.test_full_disk import SEARCH
from tests.cli.writers import OUT, WRITERS, make_few, workplace

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("charts")]

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
PHONE, DESK = 390, 1280  # CSS pixels
# Colour scheme, width and rules of axe-core, which cannot judge the contrast of cells that are out of sight on a phone.
READINGS: tuple[tuple[str, int, dict[str, list[str]]], ...] = (
    ("light", DESK, {}),
    ("dark", DESK, {"runOnly": ["color-contrast"]}),
    ("light", PHONE, {"runOnly": ["scrollable-region-focusable"]}),
)
TEXT = "train --method vae --data lines.txt --limit 40 --epochs 1 --latent-dim 2 --width 8 --batch-size 20 --device cpu"
# What makes the page; a line of WRITERS, or commands of its own. The last one's page is opened.
KINDS: dict[str, tuple[str, ...]] = {
    "training": ("train",),
    "training on text": (f"{TEXT} --out {OUT}",),
    "trainings compared": ("train", f"report runs/digits {OUT} --out compared"),
    "search": ("optimize by gradient",),
    "search for text": (
        f"{TEXT} --out text",
        f"optimize --model text --target test:2 --starts 2 --max-steps 5 --device cpu --out {OUT}",
    ),
    "searches compared": (
        "optimize by gradient",
        "optimize --target test:2 --starts 2 --max-steps 3 --device cpu --out other",
        f"report {OUT} other --out compared",
    ),
    "black-box search": ("report on searches",),
    "retraining": ("optimize, retraining",),
    "sweep": ("sweep",),
    "reproduction": ("reproduce",),
    "image targets": ("benchmark image-targets",),
    "lagging inference": ("benchmark lagging",),
    "traversals": ("traverse",),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install lso[browser]"
    )
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip(f"no Chromium: none of {', '.join(CHROMIUM)} is on the PATH")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=found, args=["--no-sandbox"])  # containers run it as root
        yield chromium
        chromium.close()


@pytest.fixture(autouse=True)
def place(trained: Run, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workplace(elsewhere, trained.path, SEARCH)
    make_few(monkeypatch)
    words = ("a red fox", "the old dog", "one small bird", "my lazy cat")
    lines = [f"{first} {verb} {second}" for first in words for verb in ("sees", "hears", "likes") for second in words]
    Path("lines.txt").write_text("\n".join(lines * 2))


def make(lso: Lso, kind: str) -> Path:
    """The page of a report of this kind."""
    command: list[str] = []
    for step in KINDS[kind]:
        command = WRITERS[step].first if step in WRITERS else step.split()
        done = lso(*command)
        assert done.exit_code == 0, done.stderr
    out = Path(command[command.index("--out") + 1])
    return min(out.rglob("*.html"), key=lambda page: len(page.parts)).resolve()  # a sweep's lies above its trainings'


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_reads_well_in_a_browser(browser: Any, lso: Lso, kind: str) -> None:
    """It says no error, asks for nothing, has its width, and is readable by axe-core's rules, contrast among them."""
    path = make(lso, kind)
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    for scheme, width in product(("light", "dark"), (PHONE, DESK)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{scheme}: wider than {width} pixels"
    assert [url for url in said if not url.startswith("data:")] == []
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core: contrast is not checked")
    for scheme, width, rules in READINGS:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        found = axe.Axe().run(page, options={"resultTypes": ["violations"], **rules}).response["violations"]
        faults = [f"{one['id']}: {node['target']} {node['failureSummary']}" for one in found for node in one["nodes"]]
        assert faults == [], f"{scheme}, {width} pixels"
    page.close()

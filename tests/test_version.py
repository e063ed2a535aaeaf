"""The version is stated in one place; what repeats it for others agrees."""

import re
from pathlib import Path

import lso

ROOT = Path(__file__).resolve().parents[1]


def test_citation_and_changelog_are_of_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    told = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert re.findall(r"^version: (\S+)$", citation, re.MULTILINE) == [lso.__version__] == [told[0][0]]
    assert re.findall(r"^date-released: (\S+)$", citation, re.MULTILINE) == [told[0][1]]

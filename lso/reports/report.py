"""One engine for every report: a title, verdicts, cards and sections, as a page, as JSON and for a terminal.

A kind of report is a tuple of functions, each from the results to one `Section`, or to None where it has nothing to
show: a section is added by writing its function and naming it in the tuple. Numbers, links, folding, the JSON beside
the page and the pictures' encoding are done here.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from lso.reports.html import render, report_paths, write_report
from lso.reports.tables import Table, facts
from lso.vae.metrics.verdict import Level, Verdict

if TYPE_CHECKING:  # torch and numpy take seconds to load, and commands read this module before they need them
    import numpy as np
    from matplotlib.figure import Figure
    from torch import Tensor

R = TypeVar("R")  # what a report is about: a summary, a comparison, ...
VERDICT_WORDS: dict[Level, str] = {"fine": "✓ believe", "care": "! believe with care", "doubt": "✗ do not believe"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictBox:
    """A verdict as a page shows it.

    Args:
        level: which colour it has.
        word: the verdict in one or two words.
        sentence: the verdict.
        training: the verdict of the training on its latents; empty where it found no fault.
    """

    level: Level
    word: str
    sentence: str
    training: str = ""


def verdict_box(verdict: Verdict) -> VerdictBox:
    """The box of a verdict on a search."""
    return VerdictBox(
        level=verdict.level, word=VERDICT_WORDS[verdict.level], sentence=verdict.sentence, training=verdict.training
    )


@dataclass(frozen=True, slots=True)
class Card:
    """One of the few numbers at the top of a page and in a terminal, as text."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph in small type: how to read what stands above it."""

    form: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture over the whole width.

    Args:
        figure: a chart, ``(H, W, 3)`` bytes, or a PNG file.
        alt: what it shows, for those who cannot see it.
        caption: how to read it.
    """

    form: ClassVar[str] = "chart"
    figure: "Figure | np.ndarray | bytes"
    alt: str
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One small image ``(1 or 3, H, W)`` with its value below.

    Args:
        image: enlarged by the page.
        alt: which image it is.
        value: text below it.
        small: a second line of text.
        won: whether it has a green frame.
        strange: whether it has a red frame.
        edge: whether a group of columns begins with it.
    """

    image: "Tensor"
    alt: str
    value: str = ""
    small: str = ""
    won: bool = False
    strange: bool = False
    edge: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TileRow:
    """A row of tiles; ``remark`` stands below its name."""

    tiles: Sequence[Tile]
    name: str = ""
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """Rows of tiles, with headings ``(text, number of columns, second line)``."""

    form: ClassVar[str] = "tiles"
    rows: Sequence[TileRow]
    heads: Sequence[tuple[str, int, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLine:
    """A decoded text: what it is, its value, and pieces with whether each is underlined."""

    what: str
    value: str
    pieces: Sequence[tuple[str, bool]]
    won: bool = False
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Decoded texts below one another; ``remark`` stands beside the title."""

    form: ClassVar[str] = "texts"
    lines: Sequence[TextLine]
    title: str = ""
    remark: str = ""


def slug(text: str) -> str:
    """A text as part of a link or of a file name: its letters and digits, with dashes between words."""
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


Part = str | Note | Table | Chart | Tiles | Texts  # a string is a paragraph


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it; parts that are None or empty text are left out."""

    title: str
    parts: Sequence[Part | None]

    @property
    def anchor(self) -> str:
        """What links to the section name."""
        return slug(self.title)

    def shown(self) -> list[Part]:
        """Its parts without those that are left out."""
        return [part for part in self.parts if part]

    def to_json(self) -> dict[str, Any]:
        """Its tables, as the text that the page shows."""
        tables = [part for part in self.shown() if isinstance(part, Table)]
        return {
            "title": self.title,
            "tables": [{"title": one.title, "columns": list(one.columns), "rows": one.rows} for one in tables],
        }


Sections = Sequence[Callable[[R], Section | None]]


@dataclass(frozen=True, kw_only=True)
class Report(Generic[R]):
    """A report on some results.

    Args:
        kind: a key of `lso.reports.report_kind.KEYS_OF_KIND`.
        title: of the page.
        subtitle: what it is about, in one line.
        about: the results, which every section is made from.
        sections: functions from the results to a section.
        verdicts: boxes at the top.
        banners: what a reader has to know before any number.
        cards: the few numbers that one looks for first.
        numbers: the content of ``report.json``.
        notes: sentences at the end.
        extra: facts at the end: model, data, ...
        tile: width of a small image, pixels of a screen.
        numbered: whether sections have numbers, and links at the top.
    """

    kind: str
    title: str
    subtitle: str
    about: R
    sections: Sections[R]
    verdicts: Sequence[VerdictBox] = ()
    banners: Sequence[str] = ()
    cards: Sequence[Card] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    tile: int = 48
    numbered: bool = True

    def made_sections(self) -> list[Section]:
        """The sections that have something to show."""
        made = [section for make in self.sections if (section := make(self.about)) and section.shown()]
        origin = [*map(Note, self.notes), facts("", self.extra) if self.extra else None]
        return [*made, Section("Where it came from", origin)] if any(origin) else made

    def html(self, sections: Sequence[Section], json_name: str = "") -> str:
        """The page, self-contained."""
        return render("report.html", report=self, sections=sections, json_name=json_name)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page and ``report.json`` beside it.

        Args:
            path: a file ending in ``.html``, or a folder.
        Returns:
            Where the page is.
        """
        sections = self.made_sections()
        page = self.html(sections, report_paths(path)[1].name)
        cards = [{"label": card.label, "value": card.value, "note": card.note} for card in self.cards]
        beside = {"cards": cards, "sections": [section.to_json() for section in sections]}
        return write_report(path, page, {**self.numbers, **beside}, self.kind)

    def _repr_html_(self) -> str:
        """The top of the page and its first section, for a notebook."""
        first = next((found for make in self.sections if (found := make(self.about)) and found.shown()), None)
        return render("notebook.html", report=self, sections=[first] if first else [])

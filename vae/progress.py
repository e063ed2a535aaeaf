"""Progress of all work drawn with rich: bars on a terminal or in a notebook, elsewhere a line every two seconds.

`WORK` says for each kind of work what is shown of it. Rich is imported when the first bar is drawn.
"""

import string
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lso.vae.callbacks import Callback, CallbackList, Event
from lso.vae.launch import is_main_process
from lso.vae.utils.files import escape_controls
from lso.vae.utils.validation import format_duration, short_number

LINE_SECONDS = 2.0  # between two plain lines
BAR_SECONDS = 0.1  # between two updates of a bar


# --- what is shown ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    """A number with its words, a format string over the values of events; left out where one of them is missing.

    ``when`` and ``unless`` name values of which one must be there, or none: 0 and None are not there.
    """

    text: str
    when: str = ""
    unless: str = ""
    missing: str = ""  # in its place where a value is missing
    lead: str = "  "  # between the field before and this one


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is shown of a kind of work; all texts are format strings over values, name, work, done and total.

    Args:
        unit: what its steps count, for the speed of the bar.
        title: text of the bar, before the numbers.
        beside: numbers beside the bar.
        line: numbers of a plain line; empty takes those beside the bar.
        verbose: numbers of a line if all is to be printed.
        begin: line printed when it begins for the first time; an empty one prints nothing.
        resume: the same where it was begun in an earlier session.
        end: line printed when it ends with a sentence, ``{text}``.
        share: whether plain lines say how much is done, after how long.
        bar: whether there is a bar.
    """

    unit: str = ""
    title: str = "{work} {name}"
    beside: Sequence[Field] = ()
    line: Sequence[Field] = ()
    verbose: Sequence[Field] = ()
    begin: str = ""
    resume: str = ""
    end: str = ""
    share: bool = True
    bar: bool = True


EPOCH = Field("epoch {epoch:>{width}}/{epochs}")
LIKELIHOOD = (  # of a model without latents, whose likelihood is exact
    Field("NLL {neg_elbo:z.2f}, perplexity {perplexity:z.2f}", unless="latent_dim"),
    Field("NLL {neg_elbo:z.2f}", unless="latent_dim perplexity"),
)
BOUND = Field("-ELBO {neg_elbo:z.2f}", when="latent_dim")
ACTIVE = Field("active {active_units}/{latent_dim}", when="latent_dim")
BRIEF = (EPOCH, BOUND, *LIKELIHOOD, Field("KL {kl:z.2f}", when="latent_dim"), ACTIVE)
METRICS = (
    EPOCH,
    Field("-ELBO {neg_elbo:z.2f} = {reconstruction:z.2f} + KL {kl:z.2f}", when="latent_dim"),
    *LIKELIHOOD,
    ACTIVE,
    Field("re-encoding {reencoding_error:z.2f}", when="latent_dim"),
)
ALL_METRICS = (
    *METRICS,
    Field("train {train_loss:z.2f}", missing="untrained"),
    Field("MI within batches {mi:z.2f}", when="latent_dim"),
    Field("KL weight {kl_weight:z.2f}", when="latent_dim"),
    Field("rate {learning_rate:.1e}"),
)
TRAINING: dict[str, Any] = {"unit": "steps", "title": "", "share": False}
TRAINING |= {"beside": BRIEF, "line": METRICS, "verbose": ALL_METRICS}
IN_SWEEP: dict[str, Any] = {**TRAINING, "begin": "[{number}/{of}] training: {name}"}
IN_SWEEP |= {"resume": "[{number}/{of}] continuing at step {done}: {name}"}
TOGETHER = {"beside": (EPOCH, BOUND, *LIKELIHOOD, ACTIVE), "line": ()}
EVALUATIONS = (
    Field("best {best}", missing="best –"),
    Field("typical {best_typical}", missing="typical –", lead=" "),
    Field("{done}/{total} unique"),
    Field("{duplicate} duplicate", when="duplicate", lead=", "),
    Field("{invalid} invalid", when="invalid", lead=", "),
    Field("{failed} failed", when="failed", lead=", "),
    Field("{timed_out} timed out", when="timed_out", lead=", "),
)

WORK: Mapping[str, Shown] = {
    "training": Shown(**TRAINING),
    "training in a sweep": Shown(**IN_SWEEP, end="  {name}: {text}"),
    "training in stages": Shown(**IN_SWEEP),
    "batched training": Shown(
        **{**TRAINING, **TOGETHER},
        begin="  {name}",
        resume="  {name}, continuing at step {done}",
        end="  {name}: {text}",
    ),
    "evaluation": Shown(unit="data", title="evaluating {name}"),
    "true posterior means": Shown(unit="codes", title="true posterior means of {name}"),
    "gradient search": Shown(unit="steps", beside=(Field("best value {best}"),), title="{name}:"),
    "black-box search": Shown(unit="objects", title="{name}:", beside=EVALUATIONS, share=False),
    "scoring": Shown(unit="data", title="scoring training data"),
    "retraining": Shown(unit="steps", title="{name}: retraining"),
    "weighted retraining": Shown(bar=False),
    "sweep": Shown(bar=False),
}


class Range(tuple[float, ...]):
    """Values of several trainings, shown as ``least to greatest``."""


class _Formatter(string.Formatter):
    """Formats ranges, and floats without a format by `short_number`; a value that is None counts as missing."""

    def get_value(self, key: Any, args: Any, kwargs: Any) -> Any:
        value = kwargs[key]
        if value is None:
            raise KeyError(key)
        return value

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, Range):
            ends = (self.format_field(end, format_spec) for end in (min(value), max(value)))
            return " to ".join(dict.fromkeys(ends))
        if isinstance(value, float) and not format_spec:
            return short_number(value)
        return str(super().format_field(value, format_spec))


def format_fields(fields: Sequence[Field], values: Mapping[str, Any]) -> str:
    """The text of fields with their values, e.g. ``epoch 3/10  -ELBO 22.31``."""
    known, found = {"width": len(str(values.get("epochs", ""))), **values}, ""
    for one in fields:
        there = [any(known.get(name) for name in names.split()) for names in (one.when, one.unless)]
        if (one.when and not there[0]) or there[1]:
            continue
        try:
            text = _Formatter().vformat(one.text, (), known)
        except KeyError:
            text = one.missing
        found += (one.lead if found and text else "") + text
    return found


# --- drawing ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Part:
    """Work of one kind that is under way: one, or several that take turns and share a bar, by name."""

    shown: Shown
    events: dict[str, Event] = field(default_factory=dict)  # the last one
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    task: Any = None  # of the bar
    drawn: float = 0.0
    begun: float = field(default_factory=time.monotonic)
    last_line: float = -LINE_SECONDS  # before the first one
    pending: str = ""  # the last line that was not printed

    @property
    def done(self) -> int:
        return sum(event.done for event in self.events.values())

    @property
    def total(self) -> int:
        return sum(event.total for event in self.events.values())

    def numbers(self) -> dict[str, Any]:
        """The values, as ranges where there are several; the epoch is that of the slowest."""
        every = list(self.values.values())
        found = dict(every[-1])
        for key, value in found.items() if len(every) > 1 else ():
            all_values = [values[key] for values in every if values.get(key) is not None]
            if isinstance(value, int | float) and len(set(all_values)) > 1:
                found[key] = min(all_values) if key == "epoch" else Range(all_values)
        event = next(reversed(self.events.values()))
        return {**found, "name": event.name, "work": event.work, "done": self.done, "total": self.total}

    def title(self) -> str:
        return _Formatter().vformat(self.shown.title, (), self.numbers()).strip(": ")

    def text(self) -> str:
        """The text beside the bar: title and numbers."""
        title, numbers = self.title(), format_fields(self.shown.beside, self.numbers())
        return ": ".join(filter(None, (title, numbers)))


class RichProgress(Callback):
    """Draws the progress of any work: bars on a terminal or in a notebook, elsewhere a line every two seconds.

    Args:
        note: prints a line where there is no bar; None prints on stderr.
        warn: prints a warning; None prints on stderr.
        quiet: whether nothing but warnings is printed.
        verbose: whether the line of every epoch is printed, with all its numbers.
        work: rows beside those of `WORK`.
    """

    def __init__(
        self,
        *,
        note: Callable[[str], None] | None = None,
        warn: Callable[[str], None] | None = None,
        quiet: bool = False,
        verbose: bool = False,
        work: Mapping[str, Shown] | None = None,
    ) -> None:
        self._note, self._warn = note or _print, warn or (lambda text: _print(f"warning: {text}"))
        self._quiet, self._verbose, self._rows = quiet, verbose, {**WORK, **(work or {})}
        self._parts: dict[str, _Part] = {}
        self._named: set[tuple[str, str]] = set()  # whose beginning was printed
        self._place = {"number": 1, "of": 1}  # within a sweep
        self._bars: Any = None

    def on_start(self, event: Event) -> None:
        """Print that the work begins, and show its bar."""
        part = self._update(event)
        line = part.shown.resume if event.done else part.shown.begin
        if line and (event.work, event.name) not in self._named:
            self._named.add((event.work, event.name))
            self._line(_Formatter().vformat(line, (), {**part.numbers(), **self._place, "done": event.done}))
        self._draw(part, anew=True)

    def on_step(self, event: Event) -> None:
        """Move the bar; a sentence becomes a line."""
        part = self._update(event)
        if event.text:
            self._line(event.text)
        self._draw(part)
        if part.shown.share and part.shown.bar and self._is_due(part, part.begun):
            self._line(self._share(part))

    def on_epoch(self, event: Event) -> None:
        """Show the metrics; the line of the last epoch is printed in any case."""
        steps = self._part(event).events.get(event.name, event)
        part = self._update(event)
        part.events[event.name] = steps  # the bar counts steps
        self._draw(part, anew=True)
        several = len(part.values) > 1
        if self._verbose:
            values = {**part.values[event.name], "name": event.name}
            text = format_fields(part.shown.verbose, values)
            self._line(f"{event.name}: {text}" if several else text)
            return
        part.pending = format_fields(part.shown.line or part.shown.beside, part.numbers())
        if self._is_due(part, part.last_line):
            self._flush(part)

    def on_evaluation(self, event: Event) -> None:
        """Show the best values."""
        part = self._update(event)
        self._draw(part, anew=True)
        if self._is_due(part, part.begun):
            self._line(part.text())

    def on_log(self, event: Event) -> None:
        """Print a sentence, and if verbose the values of an event without one."""
        if event.warning:
            self._warn(event.text)
        elif event.text:
            self._line(event.text)
        elif self._verbose and event.values:
            numbers = "  ".join(f"{key} {_Formatter().format_field(value, '')}" for key, value in event.values.items())
            self._line(f"{event.name or event.work}: {numbers}")

    def on_end(self, event: Event) -> None:
        """Remove the bar, and print how it ended."""
        part = self._update(event)
        part.running.discard(event.name)
        if not part.running:
            self._remove(part, event.work)
        if event.text and part.shown.end:
            self._line(_Formatter().vformat(part.shown.end, (), {"name": event.name, "text": event.text}))

    def close(self) -> None:
        """Remove all bars: of work that was interrupted."""
        for work, part in list(self._parts.items()):
            self._remove(part, work)

    def _part(self, event: Event) -> _Part:
        if event.work not in self._parts:
            self._parts[event.work] = _Part(self._rows.get(event.work, Shown()))
        return self._parts[event.work]

    def _update(self, event: Event) -> _Part:
        part = self._part(event)
        part.running.add(event.name)
        part.events[event.name] = event
        part.values.setdefault(event.name, {}).update(event.values)
        if event.work == "sweep":
            self._place = {"number": event.done + 1, "of": event.total}
        return part

    def _is_due(self, part: _Part, begun: float) -> bool:
        """Whether it is time for a plain line, the first of which comes two seconds after ``begun``."""
        now = time.monotonic()
        if self._is_live() or self._quiet or now - max(begun, part.last_line) < LINE_SECONDS:
            return False
        part.last_line = now
        return True

    def _share(self, part: _Part) -> str:
        share = f"{100 * part.done / part.total:z.0f} %" if part.total else f"{part.done:,} {part.shown.unit}"
        title = part.title() or next(iter(part.events.values())).work
        text = f"{title}: {share} after {format_duration(time.monotonic() - part.begun)}"
        return "  ".join(filter(None, (text, format_fields(part.shown.beside, part.numbers()))))

    def _flush(self, part: _Part) -> None:
        if part.pending:
            self._line(part.pending)
        part.pending = ""

    def _line(self, text: str) -> None:
        if self._bars is not None:
            self._bars.console.print(escape_controls(text), highlight=False, markup=False)
        elif not self._quiet:
            self._note(text)

    def _is_live(self) -> bool:
        return not self._quiet and (sys.stderr.isatty() or _in_notebook())

    def _draw(self, part: _Part, anew: bool = False) -> None:
        """Move the bar, at most ten times a second unless the numbers are new."""
        now = time.monotonic()
        if not part.shown.bar or (not anew and now - part.drawn < BAR_SECONDS) or not self._is_live():
            return
        part.drawn = now
        if self._bars is None:
            self._bars = _make_bars()
            self._bars.start()
        text, total = escape_controls(part.text()), part.total or None
        if part.task is None:
            part.task = self._bars.add_task(text, total=total, completed=part.done, unit=part.shown.unit)
        else:
            self._bars.update(part.task, description=text, total=total, completed=part.done)

    def _remove(self, part: _Part, work: str) -> None:
        self._parts.pop(work, None)
        if part.task is not None:
            self._bars.remove_task(part.task)
            if not self._bars.tasks:
                self._bars.stop()
                self._bars = None
        self._flush(part)


def _make_bars() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:z.0f} {task.fields['unit']}/s" if task.speed else "", style="dim")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=12),
        Speed(),
        TimeRemainingColumn(compact=True),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _in_notebook() -> bool:
    """Whether rich can draw in a notebook, which needs ipywidgets."""
    shell = sys.modules.get("IPython")
    if shell is None or type(shell.get_ipython()).__name__ != "ZMQInteractiveShell":
        return False
    from importlib.util import find_spec

    return find_spec("ipywidgets") is not None


def _print(text: str) -> None:
    print(escape_controls(text), file=sys.stderr)


@contextmanager
def draw_progress(callback: Callback, progress: bool) -> Iterator[Callback]:
    """The callback of work that a Python program asked for; with ``progress`` its progress is drawn as well."""
    if not progress or not is_main_process():
        yield callback
        return
    drawn = RichProgress()
    try:
        yield CallbackList(callback, drawn)
    finally:
        drawn.close()

"""The page of the lagging experiment: claims, final metrics, posterior mean spaces and the path of one datum."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from lso.analysis.summary import to_json_value
from lso.reports import images
from lso.reports.data_notes import data_notes
from lso.reports.plots import COLOURS, DARK, canvas, use_chart_style
from lso.reports.report import Chart, Part, Report, Section, Sections
from lso.reports.tables import Table, facts, number
from lso.tasks.papers.lagging import METHODS, LaggingConfig
from lso.tasks.papers.lagging_metrics import (
    DRAWS,
    MAX_COLLAPSED,
    MIN_WORKING,
    FinalMetrics,
    Findings,
    PosteriorMeans,
    staircase,
)
from lso.vae.utils.files import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


REACH = 3.0  # half the length of the axes, as in the paper
LEFT, BELOW = 0.5, 0.62  # inches of room: left of each panel, below all panels


@use_chart_style
def posterior_space(rows: Mapping[str, Sequence[tuple[str, Tensor, Tensor]]]) -> "Figure":
    """Encoder's against true posterior means: a row for each training, a panel for each stage, a cross for each datum.

    Args:
        rows: training -> stages: title, true means ``(n,)``, encoder's means ``(n,)``.
    Returns:
        The figure.
    """
    columns = max(len(stages) for stages in rows.values())
    side = (9.6 - LEFT * columns) / columns
    figure, axes = canvas(len(rows), columns, (side + 0.42) * len(rows) + BELOW, left=LEFT)
    for line, (name, stages) in zip(axes, rows.items(), strict=True):
        for axis in line[len(stages) :]:
            axis.set_visible(False)
        for axis, (title, true, encoder) in zip(line, stages, strict=False):
            _draw_frame(axis, REACH)
            inside = ((true.abs() <= REACH) & (encoder.abs() <= REACH)).numpy()
            axis.plot(*(v.numpy()[inside] for v in (true, encoder)), "x", color=COLOURS[1], markersize=3.2, mew=0.7)
            axis.set_title(title)
            if outside := int((~inside).sum()):
                axis.text(0.03, 0.96, f"{outside} outside", transform=axis.transAxes, va="top", fontsize=7, color=DARK)
        line[0].set_ylabel(f"{name}\nencoder's mean")
    for axis in axes[:-1].flat:
        axis.tick_params(labelbottom=False)  # as below
    for axis in axes[-1]:
        axis.set_xlabel("true posterior mean")
    figure.subplots_adjust(left=(LEFT + 0.18) / 9.6)
    return figure


@use_chart_style
def paths(panels: Mapping[str, tuple[Tensor, Tensor]]) -> "Figure":
    """The path of one datum step after step: one panel for each training, all on the same scale."""
    figure, axes = canvas(1, len(panels), 3.9, left=0.7)
    reach = 1.15 * max(float(v.abs().max()) for both in panels.values() for v in both)
    for axis, (name, (true, encoder)) in zip(axes[0], panels.items(), strict=True):
        _draw_frame(axis, reach or 1.0)
        _draw_path(axis, true.numpy(), encoder.numpy())
        axis.set(title=name, xlabel="true posterior mean")
        axis.set_aspect("equal")
    axes[0, 0].legend(loc="upper left")
    axes[0, 0].set_ylabel("encoder's mean")
    return figure


def _draw_path(axis: "Axes", x: np.ndarray, y: np.ndarray) -> None:
    """Arrows from point to point, the early ones pale."""
    from matplotlib.colors import to_rgba

    ages = np.linspace(0.35, 1.0, len(x) - 1)
    colours = [to_rgba(COLOURS[2], age) for age in ages]
    axis.quiver(
        x[:-1],
        y[:-1],
        np.diff(x),
        np.diff(y),
        color=colours,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.007,
        zorder=3,
    )
    axis.plot(x[0], y[0], "o", color=COLOURS[1], markersize=7, mfc="white", label="first", linestyle="", zorder=4)
    axis.plot(x[-1], y[-1], "s", color=COLOURS[1], markersize=7, label="last", linestyle="", zorder=4)


def _draw_frame(axis: "Axes", reach: float) -> None:
    """Axes from -reach to reach, lines through the origin, and the dashed diagonal."""
    for line in (axis.axhline, axis.axvline):
        line(0, color="#b0b0b0", linewidth=0.8)
    axis.axline((0, 0), slope=1, linestyle="--", linewidth=1, color=DARK)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach))


PATH_POINTS = 9  # points on the path of one datum
NAMES = {"vae": "plain VAE", "aggressive": "aggressive"}
SPACE = (
    "Horizontal: mean of the model's true posterior, integrated on a grid. Vertical: mean of the encoder's posterior. "
    "Steps are those of the decoder. On the dashed line the encoder is right on average; on the horizontal line "
    "through 0 it ignores its data; at the centre the decoder ignores z as well. Validation data, as in the paper "
    "(its code shows training data), without dropout."
)
PATH = (
    f"The last {PATH_POINTS} points of the path of one of 50 sequences that are the batch of every step, as many as in "
    "the paper. Plain training moves both means at once; aggressive training moves the encoder's mean first "
    "(vertical), then the true one (horizontal). Of the 50 it is the sequence whose true mean the two "
    "trainings moved farthest. "
)
CLAIMS = {
    "vae": f"plain training collapses: MI < {MAX_COLLAPSED['mi']} nats, "
    f"deviation of encoder means < {MAX_COLLAPSED['deviation']}",
    "aggressive": f"aggressive training does not: MI > {MIN_WORKING['mi']} nats, "
    f"correlation of encoder and true means > {MIN_WORKING['correlation']}",
}


def claim_table(found: Findings) -> Table:
    """The paper's claims and whether the finished trainings support them."""
    rows = []
    for method, claim in CLAIMS.items():
        mine = [end for end in found.endings if end.part.method == method]
        held = sum(end.as_claimed for end in mine)
        word = "not reached" if not mine else "holds" if held == len(mine) else "does not hold"
        evidence = "; ".join(_evidence(end) for end in mine)
        support = f"in {held} of {len(mine)} trainings: {evidence}" if mine else "no training is finished"
        rows.append([word, claim, support])
    return Table(columns=["judgement", "claim", "evidence"], rows=rows, title="The paper's claims")


def _evidence(end: FinalMetrics) -> str:
    other = (
        f"deviation {number(end.place.deviation, 2)}"
        if end.part.method == "vae"
        else f"correlation {number(end.place.correlation, 3)}"
    )
    return f"MI {end.mi:z.3f}, {other}"


def sentence(found: Findings) -> str:
    """The claims in one sentence."""
    claims = {row[1].split(":")[0]: (row[0], row[2].split(":")[0]) for row in claim_table(found).rows}
    text = "; ".join(f"{claim}: {word} ({count})" for claim, (word, count) in claims.items())
    return f"{text[0].upper()}{text[1:]}."


def ending_table(found: Findings) -> Table:
    """The final metrics of every finished training."""
    rows = [
        [
            end.part.method,
            str(end.part.planned.config.seed),
            f"{end.mi:z.3f}",
            f"{end.kl:z.3f}",
            str(end.active_units),
            f"{end.neg_elbo:z.2f}",
            number(end.place.deviation, 3),
            number(end.place.true_deviation, 3),
            f"{end.place.correlation:z.3f}",
            f"{end.aggressive_epochs} of {end.epochs}",
            number(end.inner_steps, 3) if end.aggressive_epochs else "–",
            number(end.seconds / 60, 3),
            "yes" if end.as_claimed else "no",
        ]
        for end in found.endings
    ]
    columns = ["method", "seed", "MI", "KL", "AU", "-ELBO", "deviation, encoder", "deviation, true", "correlation"]
    columns += ["aggressive epochs", "inner steps", "minutes", "as claimed"]
    note = "At the weights of the best validation -ELBO; nats. MI (within batches of 32), KL and -ELBO: on the test "
    note += f"split, means of {DRAWS} draws. Deviations and correlation: of posterior means of the validation points."
    return Table(columns=columns, rows=rows, title="At the end", note=note)


def figures(found: Findings) -> "dict[str, tuple[str, str, Figure]]":
    """Pictures by file name: title, caption and figure."""
    drawn = {}
    for (series, seed), rows in found.spaces.items():
        lines = {NAMES[m]: [_panel(step, at) for step, at in stages] for m, stages in rows.items() if stages}
        if not lines:
            continue
        moved = series == "offset"
        title = f"Posterior mean space, seed {seed}" + (", offset initialization" if moved else "")
        count = len(next(iter(lines.values()))[0][1])
        caption = f"{count} validation sequences. {SPACE}" + (" Initialized as in the paper's appendix G." * moved)
        name = f"posterior-means{'-offset' * moved}-s{seed}"
        drawn[name] = (title, caption, posterior_space(lines))
    if len(found.paths) == len(METHODS):
        ways = {m: staircase(path) if m == "aggressive" else path for m, path in found.paths.items()}
        steps = len(found.paths["vae"].true) - 1
        figure = paths({NAMES[m]: (way.true[-PATH_POINTS:], way.encoder[-PATH_POINTS:]) for m, way in ways.items()})
        caption = f"{PATH}Training sequence {found.datum}, up to step {steps}."
        drawn["one-datum"] = ("The path of one datum", caption, figure)
    return drawn


def _panel(step: int, at: PosteriorMeans) -> tuple[str, Any, Any]:
    return f"step {step:,}", at.true, at.encoder


def write_lagging_report(found: Findings, config: LaggingConfig, folder: Path, banners: Sequence[str] = ()) -> Path:
    """Write ``report.html``, ``report.json`` and the pictures as PNG files."""
    made = figures(found).items()
    drawn = {name: (title, caption, images.figure_png(figure)) for name, (title, caption, figure) in made}
    whole = {name: info for name, info in found.infos.items() if not name.startswith("one-")}
    report = Report(
        kind="lagging",
        title="Lagging inference",
        subtitle="Plain and aggressive training on synthetic sequences, scalar z; He et al. (2019), section 3",
        about=LaggingResults(found=found, config=config, pictures=drawn),
        sections=LAGGING_SECTIONS,
        banners=[*banners, sentence(found)],
        numbers=to_json_value(numbers(found, config) | {"banners": list(banners)}),
        notes=data_notes(whole),
    )
    page = report.save(folder)
    for name, (_, _, content) in drawn.items():
        replace_file(folder / f"{name}.png", content)
    return page


@dataclass(frozen=True, slots=True, kw_only=True)
class LaggingResults:
    """What the report is made from: findings, settings, and pictures as (title, caption, PNG file) by file name."""

    found: Findings
    config: LaggingConfig
    pictures: Mapping[str, tuple[str, str, bytes]]


def _claims_of_the_paper(about: LaggingResults) -> Section:
    """What the paper says, and the final metrics."""
    return Section("Claims", [claim_table(about.found), ending_table(about.found)])


def _posterior_means(about: LaggingResults) -> Section:
    """The posterior mean spaces and the path of one datum."""
    parts: list[Part] = []
    for title, caption, content in about.pictures.values():
        parts.append(Chart(content, title, f"{title}. {caption}"))
    return Section("Posterior means", parts)


def _settings(about: LaggingResults) -> Section:
    """How it was made."""
    config = about.config
    own = {"methods": dict(METHODS), "grid": f"[-20, 20], stride {config.stride:g}"}
    return Section("Settings", [facts("", {**dataclasses.asdict(config), **own})])


LAGGING_SECTIONS: Sections[LaggingResults] = (_claims_of_the_paper, _posterior_means, _settings)


def numbers(found: Findings, config: LaggingConfig) -> dict[str, Any]:
    """All measurements as plain values, for report.json."""
    claims = claim_table(found)
    spaces = [
        {"series": series, "seed": seed, "method": method, "step": step, "true": at.true, "encoder": at.encoder}
        for (series, seed), rows in found.spaces.items()
        for method, stages in rows.items()
        for step, at in stages
    ]
    return {
        "settings": dataclasses.asdict(config),
        "claims": [dict(zip(claims.columns, row, strict=True)) for row in claims.rows],
        "endings": [_ending(end) for end in found.endings],
        "spaces": spaces,
        "one": {method: {"true": path.true, "encoder": path.encoder} for method, path in found.paths.items()},
        "cut": found.cut,
    }


def _ending(end: FinalMetrics) -> dict[str, Any]:
    """The final metrics of a training as plain values."""
    left_out = ("part", "place")
    own = {f.name: getattr(end, f.name) for f in dataclasses.fields(end) if f.name not in left_out}
    derived = {key: getattr(end.place, key) for key in ("deviation", "true_deviation", "correlation")}
    named = {"run": end.part.planned.name, "method": end.part.method, "seed": end.part.planned.config.seed}
    return {**named, **own, **derived, "as_claimed": end.as_claimed}

"""Charts of searches read off at stopping thresholds: gap, distances and steps, one line a model."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lso.analysis.convergence import finite_median
from lso.analysis.summary import to_json_value
from lso.decoders.decoder import is_image
from lso.reports.data_notes import data_banners
from lso.reports.images import labelled_rows
from lso.reports.plots import DARK, bottom_legend, canvas, series_style, use_chart_style
from lso.reports.report import Chart, Report, Section, Sections
from lso.reports.tables import MISSING, Table, number, pluralize
from lso.tasks.papers.claims import MIN_TARGETS, Claim, judge_claims, name_of
from lso.tasks.papers.image_targets import CONTROL_STEPS, TASK, BenchmarkConfig, TargetOutcome
from lso.tasks.papers.published_tables import published_table
from lso.tasks.search.gradient import IMAGE_CONTEXTS
from lso.vae.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 20.0  # largest median over smallest from which an axis is logarithmic


Line = tuple[Sequence[float], Tensor, Tensor]  # thresholds, values (k, T), whether the threshold was met (k, T)


@use_chart_style
def thresholds(panels: Mapping[str, Mapping[str, Line]]) -> "Figure":
    """One panel a measure; thresholds tighten to the right; median and middle half over the targets that met each.

    A marker is hollow where some target did not meet the threshold, and missing where none did. A line without any
    value is left out.

    Args:
        panels: measure -> model -> thresholds, values ``(k, T)`` and whether each was met ``(k, T)``.
    Returns:
        The figure.
    """
    columns = 2
    rows = -(-len(panels) // columns)
    figure, axes = canvas(rows, columns, 2.7 * rows + 0.6)
    flat = list(axes.flatten())
    for axis, (measure, lines) in zip(flat, panels.items(), strict=False):
        middle = (len(lines) - 1) / 2
        drawn = [
            _line(axis, *line, index, name, 0.03 * (index - middle))  # beside one another where they are equal
            for index, (name, line) in enumerate(lines.items())
        ]
        last = axis in flat[-columns:]
        axis.set(title=measure, xlabel="stopping threshold" if last else "")
        axis.tick_params(labelbottom=last)
        medians = np.concatenate(drawn)
        medians = medians[np.isfinite(medians)]
        if medians.size and medians.max() > WIDE * max(float(medians.min()), 0.0):
            positive = medians[medians > 0]
            axis.set_yscale("symlog", linthresh=float(positive.min()) / 10 if positive.size else 1.0)
        else:
            axis.set_ylim(top=1.04 * axis.get_ylim()[1])
        axis.set_ylim(bottom=0)
        if not medians.size:
            axis.set_yticks([])
            axis.text(0.5, 0.5, "not met" if axis.lines else "none", transform=axis.transAxes, ha="center", color=DARK)
    for axis in flat[len(panels) :]:
        axis.set_visible(False)
    bottom_legend(figure, flat)
    return figure


def _line(
    axis: "Axes", levels: Sequence[float], values: Tensor, met: Tensor, index: int, name: str, shift: float
) -> np.ndarray:
    """The medians that were drawn, NaN where there is none."""
    quartiles = np.full((3, len(levels)), np.nan)
    for k, (row, there) in enumerate(zip(values.numpy(), met.numpy(), strict=True)):
        good = row[there & np.isfinite(row)]
        if good.size:
            quartiles[:, k] = np.quantile(good, [0.25, 0.5, 0.75])
    low, middle, high = quartiles
    places, style = np.arange(len(levels)) + shift, series_style(index)
    axis.set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
    axis.set_xlim(-0.3, len(levels) - 0.7)
    if not bool(values.isnan().all()):
        part = (~met.all(1)).numpy()
        axis.plot(places, middle, linewidth=1.5, markersize=5, markevery=~part, label=name, **style)
        axis.plot(places[part], middle[part], linestyle="", markersize=5, markerfacecolor="white", **style)
        axis.fill_between(places, low, high, alpha=0.15, linewidth=0, color=style["color"])
    return middle


SHOWN = 5  # targets in the picture
# Rows of the published table.
ROWS = {"se": "NE-VAE se", "beta": "beta-VAE(0.9)", "vae": "VAE", "aggressive": "Aggressive"}
PICTURED = "What the searches from the prior and from the encoder decoded to at the last threshold, the first targets."
MEASURES = {
    "gap": "loss gap between the starts",
    "distance_active": "squared code distance, active dims",
    "distance_dead": "squared code distance, dead dims",
    "distance_decoded": "squared distance of decoded images",
}


def model_heading(outcome: TargetOutcome, outcomes: Sequence[TargetOutcome]) -> str:
    """A model's name, shortened to its method where that tells it apart."""
    return outcome.name if sum(o.method == outcome.method for o in outcomes) > 1 else outcome.method


def threshold_table(outcomes: Sequence[TargetOutcome]) -> Table:
    """Medians over targets, one row for each model and threshold."""
    rows = []
    for outcome in outcomes:
        for k, level in enumerate(outcome.thresholds):
            short = int((~outcome.reached[k]).sum())
            met = outcome.met(k)
            rows.append(
                [
                    model_heading(outcome, outcomes) if k == 0 else "",
                    f"{level:g}",
                    *(_cell(outcome, key, getattr(outcome, key)[k, met]) for key in MEASURES),
                    *(number(_median(outcome.loss[k, met, s]), 4) for s in range(2)),
                    f"{short} of {outcome.reached[k].numel()}" if short else "–",
                ]
            )
    columns = ["model", "threshold", *MEASURES.values(), "loss, prior", "loss, encoder", "searches not there"]
    note = f"Medians over the targets that met the threshold from both starts before {_end(outcomes)}."
    return Table(columns=columns, rows=rows, title="At each threshold", note=note)


def _cell(outcome: TargetOutcome, key: str, values: Tensor) -> str:
    """A median; none for a distance over no dimension."""
    empty = {"distance_active": 0, "distance_dead": outcome.latent_dim}.get(key) == outcome.active_units
    return "none" if empty else number(_median(values), 3)


def _end(outcomes: Sequence[TargetOutcome]) -> str:
    return "the cap" if all(outcome.searched for outcome in outcomes) else "the cap, or before a search was cut off"


def iteration_table(outcomes: Sequence[TargetOutcome]) -> Table:
    """Steps to the last threshold beside the published counts."""
    rows, known = [], any(outcome.role for outcome in outcomes)
    for outcome in outcomes:
        cells = []
        for s in range(2):
            steps, cut = outcome.steps[-1, :, s], not bool(outcome.reached[-1, :, s].all())
            late = 2 * int(outcome.reached[-1, :, s].sum()) < len(steps)  # the median search is among those cut
            cells.append(f"{'> ' if late else ''}{int(_median(steps)):,}")
            cells.append(f"{'> ' if cut else ''}{int(steps.max()):,}")
        for s in range(2):
            cells.append(_together(outcome, s))
        rows.append([model_heading(outcome, outcomes), *cells, *([_beside(outcome)] if known else [])])
    columns = ["model", "prior, median", "prior, most", "encoder, median", "encoder, most"]
    columns += ["prior, all as one", "encoder, all as one", *(["published"] if known else [])]
    note = f"Adam steps to threshold {outcomes[0].thresholds[-1]:g}. An image stops on its own; all as one stops by "
    note += "the sum of their losses. "
    note += "The paper does not say which of these it counts, nor its learning rate. " if known else ""
    note += f"> marks what was not reached before {_end(outcomes)}."
    return Table(columns=columns, rows=rows, title="Iterations", note=note)


def _beside(outcome: TargetOutcome) -> str:
    found = number(_published().get(outcome.role))
    return found if outcome.annealed or not outcome.role else f"{found} (annealed)"


def _published() -> dict[str, int]:
    """The paper's iterations, by role."""
    known = {row.label: row.figures for row in published_table("nevae2021_toy_search").rows}
    return {role: int(figure.mean) for role, label in ROWS.items() for figure in known[label].values()}


def _together(outcome: TargetOutcome, start: int) -> str:
    if not outcome.together[-1, start]:  # not counted
        return MISSING
    return f"{'' if outcome.together_reached[-1, start] else '> '}{int(outcome.together[-1, start]):,}"


def control_table(outcomes: Sequence[TargetOutcome]) -> Table:
    """The same starts by other optimizers."""
    rows = []
    for outcome in outcomes:
        measures = ("gap", "distance_active", "distance_dead")
        adam = {key: getattr(outcome, key)[-1] for key in (*measures, "loss")}
        for place, (name, found) in enumerate({"adam": adam, **outcome.controls}.items()):
            cells = [_cell(outcome, key, found[key]) for key in measures]
            cells += [number(_median(found["loss"][:, s]), 4) for s in range(2)]
            rows.append([model_heading(outcome, outcomes) if not place else "", name, *cells])
    columns = ["model", "optimizer", *(MEASURES[key] for key in ("gap", "distance_active", "distance_dead"))]
    columns += ["loss, prior", "loss, encoder"]
    note = "Medians over targets; Adam at its last threshold or where it was cut, the others until the loss changed by "
    note += f"1e-4 or less a step on average over 20, for {CONTROL_STEPS:,} steps at most. Under Adam a dimension that "
    note += "the decoder all but ignores moves as far in a step as any other, under SGD by its gradient: a distance "
    note += "that Adam alone shows says more of the optimizer than of the model. Dead here: idle in the encoder."
    return Table(columns=columns, rows=rows, title="Controls", note=note)


def model_table(outcomes: Sequence[TargetOutcome]) -> Table:
    """What the models are."""
    known, drawn = any(o.role for o in outcomes), any(o.free_running is not None for o in outcomes)
    rows = [
        [
            model_heading(o, outcomes),
            o.name,
            *([name_of(o) if o.role else "–"] if known else []),
            f"{o.active_units} of {o.latent_dim}",
            *(_free(o) if drawn else []),
        ]
        for o in outcomes
    ]
    columns = ["model", "run", *(["row of the paper"] if known else []), "active units"]
    columns += ["free-running error, prior", "free-running, encoder"] if drawn else []
    note = "Free-running: squared error of images that an autoregressive decoder draws from the last codes alone, with "
    note += "uniforms common to all; medians over targets."
    return Table(columns=columns, rows=rows, title="Models", note=note if drawn else "")


def _free(outcome: TargetOutcome) -> list[str]:
    return [number(None if outcome.free_running is None else _median(outcome.free_running[:, s]), 4) for s in range(2)]


def image_target_claims(claims: Sequence[Claim]) -> Table:
    """What was claimed and what came of it."""
    rows = [[claim.judgement, claim.claim, claim.evidence] for claim in claims]
    note = "Mean difference over targets and its 95 % paired bootstrap interval (wider where the threshold was chosen "
    note += f"by the data); undecided where that holds 0, and of fewer than {MIN_TARGETS} targets."
    return Table(columns=["judgement", "claim", "evidence"], rows=rows, title="The paper's claims", note=note)


def _median(values: Tensor) -> float:
    return float(finite_median(values))


def write_image_targets_report(
    outcomes: Mapping[float, Sequence[TargetOutcome]],
    images: Tensor,
    config: BenchmarkConfig,
    folder: Path,
    banners: Sequence[str] = (),
) -> Path:
    """Write ``report.html`` and ``report.json``.

    Args:
        outcomes: learning rate -> outcomes; the first rate is the one that is judged and drawn.
        images: what was searched for.
        config: how.
        folder: where.
        banners: what was cut, and substitute data.
    Returns:
        Where the page is.
    """
    rate, first = next(iter(outcomes.items()))
    sizes = f"{pluralize(len(first), 'model')}, {pluralize(len(images), 'image')}"
    context = IMAGE_CONTEXTS[config.context] if any(o.free_running is not None for o in first) else ""
    numbers = {
        "settings": to_json_value(dataclasses.asdict(config)),
        "banners": list(banners),
        "claims": [
            to_json_value({"claim": c.claim, "judgement": c.judgement, "evidence": c.evidence})
            for c in judge_claims(first)
        ],
        "learning_rates": {f"{lr:g}": [to_json_value(numbers_of(o)) for o in found] for lr, found in outcomes.items()},
    }
    report = Report(
        kind="image-targets",
        title="Toy latent search",
        subtitle=f"{sizes}, Adam at {rate:g}; the protocol of NE-VAE (2021), section 5.4",
        about=SearchedModels(outcomes=outcomes, images=images, config=config),
        sections=IMAGE_TARGET_SECTIONS,
        banners=list(banners),
        numbers=numbers,
        notes=[f"The decoder's context: {context}."] if context else [],
    )
    return report.save(folder)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchedModels:
    """What the report is made from; arguments as of `write_image_targets_report`."""

    outcomes: Mapping[float, Sequence[TargetOutcome]]
    images: Tensor
    config: BenchmarkConfig

    @property
    def judged(self) -> Sequence[TargetOutcome]:
        """The outcomes at the first learning rate."""
        return next(iter(self.outcomes.values()))


def _claims_of_the_paper(about: SearchedModels) -> Section:
    """What the paper says, and what the numbers here say to it."""
    claims = judge_claims(about.judged)
    return Section("Claims", [image_target_claims(claims) if claims else None])


def _steps_needed(about: SearchedModels) -> Section:
    """Steps to each threshold, and what the starts come to there."""
    caption = "Median and middle half over the targets that met the threshold (from both starts, in the lower panels "
    caption += "from the prior); hollow where some did not, and no marker where none did. Thresholds tighten to the "
    caption += "right."
    chart, found = None, about.judged
    if any(bool(o.reached.any()) for o in found):
        chart = Chart(thresholds(_panels(found)), "Loss gap, distances and steps by threshold", caption)
    controls = control_table(found) if about.config.controls else None
    return Section("Thresholds", [iteration_table(found), chart, threshold_table(found), controls])


def _pictures(about: SearchedModels) -> Section | None:
    """The first targets and what was found for them."""
    if not is_image(tuple(about.images.shape[1:])):
        return None
    rows, labels = [about.images[:SHOWN].float().cpu()], ["targets"]
    for outcome in about.judged:
        rows += [outcome.decoded[:SHOWN, 0], outcome.decoded[:SHOWN, 1]]
        labels += [f"{model_heading(outcome, about.judged)}, {start}" for start in ("prior", "encoder")]
    sheet = labelled_rows(torch.stack(rows), labels, at_least=64)
    return Section("Pictures", [Chart(sheet, "Targets, and what each model found from both starts", PICTURED)])


def _models(about: SearchedModels) -> Section:
    """What was searched."""
    return Section("Models", [model_table(about.judged)])


def _other_learning_rates(about: SearchedModels) -> Section:
    """Steps and claims at the further learning rates."""
    parts = []
    for rate, found in list(about.outcomes.items())[1:]:
        table, claims = iteration_table(found), judge_claims(found)
        parts.append(dataclasses.replace(table, title=f"Learning rate {rate:g}: {table.title}"))
        parts += [image_target_claims(claims)] if claims else []
    return Section("Other learning rates", parts)


IMAGE_TARGET_SECTIONS: Sections[SearchedModels] = (
    _claims_of_the_paper,
    _steps_needed,
    _pictures,
    _models,
    _other_learning_rates,
)


def _panels(outcomes: Sequence[TargetOutcome]) -> dict[str, dict[str, Any]]:
    """Measure -> model -> what `lso.tasks.papers.image_targets_report.thresholds` takes."""

    panels: dict[str, dict[str, Any]] = {title: {} for title in MEASURES.values()}
    panels |= {"steps from the prior": {}, "loss from the prior": {}}
    for o in outcomes:
        name, from_prior = model_heading(o, outcomes), o.reached[:, :, 0]
        for key, title in MEASURES.items():
            panels[title][name] = (o.thresholds, getattr(o, key).double(), o.reached.all(2))
        panels["steps from the prior"][name] = (o.thresholds, o.steps[:, :, 0].double(), from_prior)
        panels["loss from the prior"][name] = (o.thresholds, o.loss[:, :, 0].double(), from_prior)
    return panels


def image_targets_banners(runs: Sequence[Run], cut: str, waiting: Sequence[str]) -> list[str]:
    """What a reader has to know before any number.

    Args:
        runs: that were to be searched.
        cut: why the searches ended early; empty where they did not.
        waiting: searches that have not begun or not ended.
    Returns:
        Sentences.
    """
    found = []
    if cut:
        found.append(f"Cut off: {cut}. Not searched, or not to the end: {', '.join(waiting)}.")
    if (task := runs[0].config.data.task) != TASK:
        found.append(f"NOT the paper's data ({TASK}), but {task}: its figures and claims are left out.")
    return found + data_banners({run.path.name: run.info for run in runs})


def numbers_of(outcome: TargetOutcome) -> dict[str, Any]:
    """An outcome as plain numbers."""
    keys = (*MEASURES, "loss", "steps", "reached", "together", "together_reached")
    plain = {"model": outcome.name, "role": outcome.role, "method": outcome.method, "annealed": outcome.annealed}
    lists = {key: getattr(outcome, key).tolist() for key in keys}
    free = None if outcome.free_running is None else outcome.free_running.tolist()
    sizes = {"latent_dim": outcome.latent_dim, "active_units": outcome.active_units}
    controls = {name: {key: v.tolist() for key, v in found.items()} for name, found in outcome.controls.items()}
    return {**plain, **sizes, "thresholds": list(outcome.thresholds), **lists, "controls": controls, "free": free}

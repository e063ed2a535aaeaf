"""The page of the toy latent search: claims, thresholds, iterations beside the published ones, pictures."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lso.convergence import middle
from lso.tables import Table, number
from lso.tasks.claims import FEWEST, NAMES, Claim, judge
from lso.tasks.image_targets import CONTROL_STEPS, BenchmarkConfig, Outcome
from lso.tasks.search import FORCED
from lso.tasks.tables import table

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


def heading(outcome: Outcome, outcomes: Sequence[Outcome]) -> str:
    """A model's name, shortened to its method where that tells it apart.

    Args:
        outcome: of the model.
        outcomes: of all.
    Returns:
        The name.
    """
    return outcome.name if sum(o.method == outcome.method for o in outcomes) > 1 else outcome.method


def threshold_table(outcomes: Sequence[Outcome]) -> Table:
    """Medians over targets, one row for each model and threshold.

    Args:
        outcomes: of one learning rate.
    Returns:
        The table.
    """
    rows = []
    for outcome in outcomes:
        for k, level in enumerate(outcome.thresholds):
            short = int((~outcome.reached[k]).sum())
            rows.append(
                [
                    heading(outcome, outcomes) if k == 0 else "",
                    f"{level:g}",
                    *(number(_median(getattr(outcome, key)[k]), 3) for key in MEASURES),
                    *(number(_median(outcome.loss[k, :, s]), 4) for s in range(2)),
                    f"{short} of {outcome.reached[k].numel()}" if short else "–",
                ]
            )
    columns = ["model", "threshold", *MEASURES.values(), "loss, prior", "loss, encoder", "not reached"]
    return Table(columns=columns, rows=rows, title="At each threshold", note="Medians over targets.")


def iteration_table(outcomes: Sequence[Outcome]) -> Table:
    """Steps to the last threshold beside the published counts.

    Args:
        outcomes: of one learning rate.
    Returns:
        The table.
    """
    rows = []
    for outcome in outcomes:
        cells = []
        for s in range(2):
            steps, cut = outcome.steps[-1, :, s], not bool(outcome.reached[-1, :, s].all())
            late = 2 * int(outcome.reached[-1, :, s].sum()) < len(steps)  # the median search is among those cut
            cells.append(f"{'> ' if late else ''}{int(_median(steps)):,}")
            cells.append(f"{'> ' if cut else ''}{int(steps.max()):,}")
        for s in range(2):
            cells.append(_together(outcome, s))
        rows.append([heading(outcome, outcomes), *cells, number(_published().get(outcome.role))])
    columns = ["model", "prior, median", "prior, most", "encoder, median", "encoder, most"]
    columns += ["prior, all as one", "encoder, all as one", "published"]
    note = f"Adam steps to threshold {outcomes[0].thresholds[-1]:g}. An image stops on its own; all as one stops by "
    note += "the sum of their losses. The paper does not say which of these it counts, nor its learning rate. "
    note += "> marks what was not reached before the cap."
    return Table(columns=columns, rows=rows, title="Iterations", note=note)


def _published() -> dict[str, int]:
    """The paper's iterations, by role."""
    known = {row.label: row.figures for row in table("nevae2021_toy_search").rows}
    return {role: int(figure.mean) for role, label in ROWS.items() for figure in known[label].values()}


def _together(outcome: Outcome, start: int) -> str:
    return f"{'' if outcome.together_reached[-1, start] else '> '}{int(outcome.together[-1, start]):,}"


def control_table(outcomes: Sequence[Outcome]) -> Table:
    """The same starts by other optimizers.

    Args:
        outcomes: of one learning rate.
    Returns:
        The table, Adam's last threshold first.
    """
    rows = []
    for outcome in outcomes:
        measures = ("gap", "distance_active", "distance_dead")
        adam = {key: getattr(outcome, key)[-1] for key in (*measures, "loss")}
        for name, found in {"adam": adam, **outcome.controls}.items():
            cells = [number(_median(found[key]), 3) for key in measures]
            cells += [number(_median(found["loss"][:, s]), 4) for s in range(2)]
            rows.append([heading(outcome, outcomes) if name == "adam" else "", name, *cells])
    columns = ["model", "optimizer", *(MEASURES[key] for key in ("gap", "distance_active", "distance_dead"))]
    columns += ["loss, prior", "loss, encoder"]
    note = "Medians over targets; Adam at its last threshold, the others until the loss changed by 1e-4 or less a step "
    note += f"on average over 20, for {CONTROL_STEPS:,} steps at most. Under Adam a dimension that the decoder all but "
    note += "ignores moves as far in a step as any other, under SGD by its gradient: a distance that Adam alone shows "
    note += "says more of the optimizer than of the model. Dead here: idle in the encoder."
    return Table(columns=columns, rows=rows, title="Controls", note=note)


def model_table(outcomes: Sequence[Outcome]) -> Table:
    """What the models are.

    Args:
        outcomes: of one learning rate.
    Returns:
        The table.
    """
    rows = [
        [
            heading(o, outcomes),
            o.name,
            NAMES.get(o.role, "–"),
            f"{o.active_units} of {o.latent_dim}",
            *(number(None if o.free_running is None else _median(o.free_running[:, s]), 4) for s in range(2)),
        ]
        for o in outcomes
    ]
    columns = ["model", "run", "row of the paper", "active units", "free-running error, prior", "free-running, encoder"]
    note = "Free-running: squared error of images that an autoregressive decoder draws from the last codes alone, with "
    note += "uniforms common to all; medians over targets."
    return Table(columns=columns, rows=rows, title="Models", note=note)


def claim_table(claims: Sequence[Claim]) -> Table:
    """What was claimed and what came of it.

    Args:
        claims: judged.
    Returns:
        The table.
    """
    rows = [[claim.judgement, claim.claim, claim.evidence] for claim in claims]
    note = "Mean difference over targets and its 95 % paired bootstrap interval (wider where the threshold was chosen "
    note += f"by the data); undecided where that holds 0, and of fewer than {FEWEST} targets."
    return Table(columns=["judgement", "claim", "evidence"], rows=rows, title="The paper's claims", note=note)


def _median(values: Tensor) -> float:
    return float(middle(values))


def write_report(
    outcomes: Mapping[float, Sequence[Outcome]],
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
    from lso.analysis import plain
    from lso.page import places, render, uri, write
    from lso.threshold_figures import thresholds

    rate, first = next(iter(outcomes.items()))
    claims = judge(first)
    panels = {
        title: {heading(o, first): (o.thresholds, getattr(o, key)) for o in first} for key, title in MEASURES.items()
    }
    panels["steps from the prior"] = {heading(o, first): (o.thresholds, o.steps[:, :, 0].double()) for o in first}
    panels["loss from the prior"] = {heading(o, first): (o.thresholds, o.loss[:, :, 0]) for o in first}
    caption = "Median over targets and the middle half; thresholds tighten to the right."
    sections: list[dict[str, Any]] = [
        {"table": claim_table(claims)},
        {"table": iteration_table(first)},
        {"title": "Thresholds", "chart": uri(thresholds(panels)), "caption": caption},
        {"table": threshold_table(first)},
        {"table": control_table(first)},
        {"title": "Pictures", "chart": _pictures(first, images), "caption": PICTURED},
        {"table": model_table(first)},
    ]
    for other, found in list(outcomes.items())[1:]:
        sections.append({"title": f"Learning rate {other:g}", "table": iteration_table(found)})
        sections.append({"table": claim_table(judge(found))})
    context = FORCED[config.context] if any(o.free_running is not None for o in first) else ""
    notes = [f"The decoder's context: {context}."] if context else []
    html = render(
        "sections.html",
        title="Toy latent search",
        subtitle=f"{len(first)} models, {len(images)} images, Adam at {rate:g}; NE-VAE (2021), section 5.4",
        banners=list(banners),
        notes=notes,
        sections=sections,
        json_name=places(folder)[1].name,
    )
    numbers = {
        "settings": plain(dataclasses.asdict(config)),
        "banners": list(banners),
        "claims": [plain({"claim": c.claim, "judgement": c.judgement, "evidence": c.evidence}) for c in claims],
        "learning_rates": {f"{lr:g}": [plain(numbers_of(o)) for o in found] for lr, found in outcomes.items()},
    }
    return write(folder, html, numbers)


def numbers_of(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain numbers.

    Args:
        outcome: of a model.
    Returns:
        For JSON.
    """
    keys = (*MEASURES, "loss", "steps", "reached", "together", "together_reached")
    plain = {"model": outcome.name, "role": outcome.role, "method": outcome.method}
    lists = {key: getattr(outcome, key).tolist() for key in keys}
    free = None if outcome.free_running is None else outcome.free_running.tolist()
    sizes = {"latent_dim": outcome.latent_dim, "active_units": outcome.active_units}
    controls = {name: {key: v.tolist() for key, v in found.items()} for name, found in outcome.controls.items()}
    return {**plain, **sizes, "thresholds": list(outcome.thresholds), **lists, "controls": controls, "free": free}


def _pictures(outcomes: Sequence[Outcome], images: Tensor) -> str:
    from lso.pictures import data_uri, is_image, png
    from lso.sheets import sheet

    if not is_image(tuple(images.shape[1:])):
        return ""
    rows, labels = [images[:SHOWN].float().cpu()], ["targets"]
    for outcome in outcomes:
        rows += [outcome.decoded[:SHOWN, 0], outcome.decoded[:SHOWN, 1]]
        labels += [f"{heading(outcome, outcomes)}, {start}" for start in ("prior", "encoder")]
    return data_uri(png(sheet(torch.stack(rows), labels, at_least=64)))

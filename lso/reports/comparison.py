"""Tables of what models of sequences say, for the reports of trainings."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lso.reports.plots import bottom_legend, canvas, log_scale, look, styled, wants_log
from lso.reports.tables import Table
from lso.vae.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
import math
import os
from collections.abc import Sequence
from pathlib import Path

from lso.analysis.summary import plain
from lso.analysis.verdict import Level
from lso.reports import plots
from lso.reports.data_notes import banners, data_notes
from lso.reports.html import WORDS, places, render, uri, write
from lso.reports.key_numbers import essence_across
from lso.reports.tables import NONE, flat, number
from lso.vae.checkpoint import Codes
from lso.vae.config.training import to_dict
from lso.vae.errors import RunError
from lso.vae.metrics.active_units import is_active, mean_variance
from lso.vae.metrics.collapse import COLLAPSED_SHARE, read
from lso.vae.runs import REPORT, Run
from lso.vae.utils.files import printable
from lso.vae.utils.reading import read_json


def reconstruction_table(infos: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """Validation sequences beside what their posterior means decode to, from each run's examples."""
    pairs = {name: info.get("examples", {}).get("reconstructions", ()) for name, info in infos.items()}
    rows = [[name, given, said] for name, both in pairs.items() for given, said in both]
    note = "The likeliest tokens, one after the other, from the posterior mean of each sequence alone."
    columns = ["name", "validation sequence", "greedy reconstruction"]
    return Table(columns=columns, rows=rows, title="Reconstructions", note=note) if rows else None


def sample_table(infos: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """What draws from the prior decode to, from each run's examples."""
    rows = [[name, text] for name, info in infos.items() for text in info.get("examples", {}).get("samples", ())]
    note = "Codes from the prior, tokens drawn one after the other."
    return Table(columns=["name", "prior sample"], rows=rows, title="Prior samples", note=note) if rows else None


CAPTION = (
    "Best so far: median over seeds, with the band of the seeds (all of fewer than five, else the middle half). "
    "Left: against the distinct valid objects scored, which the budget counts. Right: against seconds."
)
AXES = {"unique": "distinct valid objects scored", "seconds": "seconds"}


def are_black_box(found: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether these are reports of black-box searches."""
    which = {name: "groups" in numbers for name, numbers in found.items()}
    if len(set(which.values())) > 1:
        names = [", ".join(name for name in which if which[name] == kind) for kind in (True, False)]
        raise UsageError(
            f"black-box searches ({names[0]}) and gradient searches ({names[1]}) cannot be compared",
            "Report on each kind alone.",
        )
    if not all(which.values()):
        return False
    about = {(numbers["search"]["objective"], numbers["search"]["sense"]) for numbers in found.values()}
    if len(about) > 1:
        told = "; ".join(f"{name} ({sense}d)" for name, sense in sorted(about))
        raise UsageError(f"the searches have different objectives: {told}", "Compare searches for one objective.")
    return True


def settings_in_common(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """What one report says of how it was searched; of several seeds the first, which the others share."""
    first: dict[str, Any] = next(iter(numbers["settings"].values()), {})
    shared = {key: value for key, value in first.items() if key != "seed"}
    seeds = [one["seed"] for one in numbers["groups"][0]["searches"]]
    about = {key: numbers["search"][key] for key in ("objective", "sense", "latent_dim", "chart", "best_possible")}
    return about | shared | {"seeds": seeds} | dict(numbers.get("extra", {}))


@styled
def best_so_far(found: Mapping[str, Mapping[str, Any]]) -> "Figure":
    """Median and band of each search's best so far, against objects scored and against seconds."""
    figure, axes = canvas(1, 2, 3.4)
    one = next(iter(found.values()))["search"]
    for axis, (over, label) in zip(axes[0], AXES.items(), strict=True):
        for place, (name, numbers) in enumerate(found.items()):
            _line(axis, numbers["groups"][0]["best_so_far"][over], name, place)
        axis.set(xlabel=label)
    longest = [numbers["groups"][0]["best_so_far"]["seconds"]["x"][-1] for numbers in found.values()]
    if wants_log(np.array(longest, dtype=float)):
        log_scale(axes[0, 1], "x")
    axes[0, 0].set(title="Best so far", ylabel=f"{one['objective']} ({one['sense']}d)")
    bottom_legend(figure, [axes[0, 0]], columns=3)
    return figure


def _line(axis: "Axes", band: Mapping[str, Any], name: str, number: int) -> None:
    x, median, low, high = (np.array(band[key], dtype=float) for key in ("x", "median", "low", "high"))  # null is NaN
    style: dict[str, Any] = {"where": "post", "linewidth": 1.8, "markevery": max(1, len(x) // 6), "markersize": 5}
    axis.step(x, median, label=name, **style, **look(number))
    axis.fill_between(x, low, high, step="post", color=look(number)["color"], alpha=0.15, linewidth=0)


FINAL = {
    "epoch": "epoch",
    "neg_elbo": "-ELBO",
    "reconstruction": "reconstruction",
    "kl": "KL",
    "mi": "MI",
    "mi_split": "MI of the split",
    "aggregate_kl": "KL of aggregate",
    "active_units": "AU",
    "reencoding_error": "re-encoding, sampled",
    "reencoding_error_mean": "re-encoding, mean",
}
# Of sequences, where rows have them.
SPOKEN = {"mi_mixed": "MI, mixed lengths", "perplexity": "perplexity", "tokens": "tokens"}
# Metrics that a model without latents does not have.
OF_LATENTS = (
    "kl",
    "mi",
    "mi_split",
    "mi_mixed",
    "aggregate_kl",
    "active_units",
    "reencoding_error",
    "reencoding_error_mean",
)
SEARCHES = (
    "Left: best end of each target. Middle: median value per step over targets and starts. Right: squared distance "
    "between the codes of two starts, per dimension; two unrelated draws have 2."
)
DATA_KEYS = ("notes", "substitute", "exact")  # told in banners, not in the table


def named(runs: Sequence[Run]) -> dict[str, Run]:
    """Runs by folder name; by path where names repeat."""
    if not runs:
        raise UsageError("no runs to report on", "Name at least one run folder; `lso list runs` shows them.")
    names = [printable(run.path.resolve().name) for run in runs]
    paths = [printable(str(run.path)) for run in runs]
    return {name if names.count(name) == 1 else path: run for name, path, run in zip(names, paths, runs, strict=True)}


# --- trainings -------------------------------------------------------------------------------------------------------


def compare_runs(runs: Sequence[Run], path: str | os.PathLike[str]) -> Path:
    """Write the report of one or several trainings: ``report.html`` and ``report.json``.

    Args:
        runs: training runs, finished or not, with at least one epoch.
        path: a file ending in ``.html``, or a folder.
    Returns:
        Where the page is.
    Raises:
        RunError: if a run has no metrics yet.
    """
    known = named(runs)
    rows = {name: run.metrics() for name, run in known.items()}
    for name, table in rows.items():
        if not table:
            raise RunError(f"run {name} has no metrics yet", "Train it for at least one epoch, or resume it.")
    latent = {name: run.config.architecture.latent_dim for name, run in known.items()}
    coded = {name: table for name, table in rows.items() if latent[name]}
    codes = {name: found for name, run in known.items() if latent[name] and (found := run.codes()) is not None}
    infos = {name: run.info for name, run in known.items()}
    one = len(known) == 1
    html = render(
        "training.html",
        title="Training report" if one else f"{len(known)} trainings compared",
        subtitle=", ".join(known),
        verdicts=[training_verdict(name, infos[name], rows[name], latent[name]) for name in known],
        banners=banners(infos),
        notes=data_notes(infos),
        charts={
            "training": uri(plots.training({name: _shown(table, latent[name]) for name, table in rows.items()})),
            "information": uri(plots.information(coded)) if coded else "",
            "reencoding": uri(plots.reencoding({name: coded.get(name, []) for name in known})) if coded else "",
            "dimensions": uri(plots.dimensions_across({name: codes.get(name) for name in known})) if codes else "",
        },
        tables={
            "final": final_table(known),
            "reconstructions": reconstruction_table(infos),
            "samples": sample_table(infos),
            "dimensions": dimension_table(codes) if codes else None,
            "config": side_by_side("Configuration", {name: to_dict(run.config) for name, run in known.items()}),
            "data": side_by_side("Data", {name: _data(info) for name, info in infos.items()}),
            "made": side_by_side("How it was made", {name: _made(info) for name, info in infos.items()}),
        },
        json_name=places(path)[1].name,
    )
    numbers = {name: _numbers(run, rows[name], codes.get(name)) for name, run in known.items()}
    return write(path, html, {"banners": banners(infos), "runs": plain(numbers)}, "trainings")


def training_report(run: Run) -> Path:
    """Write the report of one training into its folder."""
    return compare_runs([run], run.path / REPORT)


def training_verdict(
    name: str, info: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], latent_dim: int
) -> dict[str, str]:
    """The verdict of a training as the template takes it: its own on collapse, and what was measured.

    A training that ended within its warm-up has no verdict of its own, which is no all-clear.
    """
    told, status = str(info.get("verdict", "")), str(info.get("status", ""))
    best = next((row for row in reversed(rows) if row.get("best")), rows[-1])
    use = read(info)
    # Folders written before there was a measure say little of a training that ended within its warm-up.
    early = not info["judged"] if "judged" in info else best["active_units"] < COLLAPSED_SHARE * latent_dim
    little = use is not None and use.scanty
    level: Level = "doubt" if told else "care" if early or little or status != "finished" else "fine"
    information = number(best.get("mi_split", best.get("mi", best.get("mi_mixed"))), 3)
    carried = use.told() if use else f"MI {information} nats, {best['active_units']} active units"
    numbers = f"{carried}, -ELBO {number(best['neg_elbo'])} nats."
    state = (
        ""
        if status == "finished"
        else f" The run is not finished ({status or 'unknown'}): {info.get('sentence') or 'no reason given'}."
    )
    if not latent_dim:
        exact = f"Without latents the likelihood is exact: {number(best['neg_elbo'])} nats."
        level = "fine" if status == "finished" else "care"
        return {"level": level, "word": f"baseline · {name}", "sentence": exact + state, "training": ""}
    waiting = "not finished" if status != "finished" else "too early to tell" if early else "little in use"
    collapsed = "✗ not learnt yet" if early else "✗ collapsed"
    word = {"doubt": collapsed, "care": f"! {waiting}", "fine": "✓ no collapse"}[level]
    opening = "The latents are in use" if level == "fine" else "The latents are little in use" if little else "So far"
    opening = "Training ended before its warm-up did" if early and status == "finished" else opening
    return {
        "level": level,
        "word": f"{word} · {name}",
        "sentence": (told or f"{opening}: {numbers}") + state,
        "training": "",
    }


def _shown(table: Sequence[Mapping[str, Any]], latent: int) -> list[dict[str, Any]]:
    """Rows for a chart: without latents those of latents are None."""
    none = {} if latent else dict.fromkeys(OF_LATENTS)
    return [{**row, **none} for row in table]


def final_table(runs: Mapping[str, Run]) -> Table:
    """Metrics of the weights that each run kept, and of the last epoch where that is another.

    Args:
        runs: by name, each with at least one epoch.
    Returns:
        The table; without latents what is of latents is left empty.
    """
    found: dict[str, dict[str, Any]] = {}
    rules: dict[str, str] = {}
    for name, run in runs.items():
        best, last = run.best(), run.metrics()[-1]
        none = {} if run.config.architecture.latent_dim else dict.fromkeys(OF_LATENTS)
        found[name] = best | none
        if last["epoch"] != best["epoch"]:
            found[f"{name}, last epoch"] = last | none
        rules[name] = run.kept_by()
    shown = FINAL | {key: word for key, word in SPOKEN.items() if any(row.get(key) for row in found.values())}
    rows = [[name, *(number(row.get(key)) for key in shown)] for name, row in found.items()]
    batch = next((row["mi_batch"] for row in found.values() if row.get("mi_batch") and row.get("kl") is not None), None)
    said = [told if len(runs) == 1 else f"{name}: {told}" for name, told in rules.items()]
    note = f"Validation split; nats per datum. {'. '.join(part[:1].upper() + part[1:] for part in said)}. "
    note += "Re-encoding errors are per dimension."
    note += f" MI within batches of {batch}: at most log {batch} = {math.log(batch):z.2f}." if batch else ""
    if batch and any(row.get("mi_mixed") is not None for row in found.values()):
        note += " Sequences of a batch are of one length, as in published tables; where they are mixed, their length "
        note += "counts as known."
    return Table(columns=["run", *shown.values()], rows=rows, title="Final metrics", note=note)


def dimension_table(codes: Mapping[str, Codes]) -> Table:
    """Variance of means, KL and decoder use of every dimension of every run."""
    rows = []
    for name, found in codes.items():
        per = _dimensions(found)
        for i in mean_variance(found.mean).argsort(descending=True).tolist():
            use = None if per["decoder_use"] is None else float(per["decoder_use"][i])
            kind = "active" if bool(per["active"][i]) else "inactive"
            rows.append(
                [
                    name,
                    f"z{i}",
                    kind,
                    number(float(per["variance"][i]), 3),
                    number(float(per["kl"][i]), 3),
                    number(use, 3),
                ]
            )
    columns = ["run", "dimension", "encoder", "variance of means", "KL (nats)", "decoder use (nats)"]
    return Table(columns=columns, rows=rows, title="Every dimension", fold=True)


def _dimensions(codes: Codes) -> dict[str, Any]:
    from lso.vae.distributions.gaussian import DiagonalGaussian
    from lso.vae.metrics.evaluation import kl_per_dimension

    variance = mean_variance(codes.mean)
    kl = kl_per_dimension(DiagonalGaussian(codes.mean, codes.log_var))
    return {"variance": variance, "active": is_active(variance), "kl": kl, "decoder_use": codes.decoder_use}


def side_by_side(title: str, columns: Mapping[str, Any]) -> Table:
    """Settings of several runs as one table; what differs comes first."""
    flats = {name: flat(values) for name, values in columns.items()}
    keys = list(dict.fromkeys(key for found in flats.values() for key in found))
    rows = [[key, *(NONE if found.get(key) is None else str(found[key]) for found in flats.values())] for key in keys]
    rows.sort(key=lambda row: len(set(row[1:])) == 1)  # stable
    differing = sum(len(set(row[1:])) > 1 for row in rows)
    rows_differ = "row differs" if differing == 1 else f"{differing} rows differ"
    note = f"The first {rows_differ} between runs." if differing else ""
    return Table(
        columns=["name", *(["value"] if len(flats) == 1 else flats)],
        rows=rows,
        title=title,
        note=note,
        marked=range(differing),
    )


def _data(info: Mapping[str, Any]) -> dict[str, Any]:
    dataset = dict(info.get("dataset", {}))
    provenance = {key: value for key, value in dict(dataset.pop("provenance", {})).items() if key not in DATA_KEYS}
    return {**dataset, **provenance}


def _made(info: Mapping[str, Any]) -> dict[str, Any]:
    keys = (
        "status",
        "sentence",
        "seed",
        "device",
        "threads",
        "command",
        "git",
        "started",
        "finished",
        "seconds",
        "python",
        "versions",
    )
    return {key: round(info[key], 1) if key == "seconds" else info[key] for key in keys if key in info}


def _numbers(run: Run, rows: list[dict[str, Any]], codes: Codes | None) -> dict[str, Any]:
    info = run.info
    return {
        "verdict": info.get("verdict", ""),
        "best": run.best() | ({} if run.config.architecture.latent_dim else dict.fromkeys(OF_LATENTS)),
        "kept_by": run.kept_by(),
        "metrics": rows,
        "dimensions": None if codes is None else _dimensions(codes),
        "config": flat(to_dict(run.config)),
        "dataset": info.get("dataset", {}),
        "made": _made(info),
    }


# --- searches --------------------------------------------------------------------------------------------------------


def compare_searches(runs: Sequence[Run], path: str | os.PathLike[str]) -> Path:
    """Write the report of several searches side by side, from each one's ``report.json``."""
    found = search_numbers(runs)
    box = are_black_box(found)
    settings = {name: settings_in_common(told) for name, told in found.items()} if box else _settings(found)
    chart = best_so_far(found) if box else plots.searches(found)
    html = render(
        "searches.html",
        title="Search report" if len(found) == 1 else f"{len(found)} searches compared",
        subtitle=", ".join(found),
        verdicts=[_named_verdict(name, numbers["verdict"]) for name, numbers in found.items()],
        charts={"searches": uri(chart)},
        caption=CAPTION if box else SEARCHES,
        tables={"essence": searches_table(found), "settings": side_by_side("Settings", settings)},
        json_name=places(path)[1].name,
    )
    numbers = {
        name: {"verdict": told["verdict"], "essence": told["essence"], "settings": settings[name]}
        for name, told in found.items()
    }
    return write(path, html, {"searches": plain(numbers)}, "searches")


def search_numbers(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """The reports of searches as numbers."""
    found = {}
    for name, run in named(runs).items():
        try:
            found[name] = read_json(run.path / "report.json")
        except RunError as error:
            raise RunError(
                f"search {name} has no readable report.json: {error.message}",
                f"lso optimize --resume {run.path} writes it; a gradient search has to be done again.",
            ) from None
    return found


def searches_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """The essence of several searches for a terminal or a page."""
    return essence_across({name: numbers["essence"] for name, numbers in found.items()})


def _named_verdict(name: str, verdict: Mapping[str, Any]) -> dict[str, str]:
    level: Level = verdict["level"]
    return {
        "level": level,
        "word": f"{WORDS[level]} · {name}",
        "sentence": str(verdict["sentence"]),
        "training": str(verdict["training"]),
    }


def _settings(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    keys = ("optimizer", "settings", "targets", "starts", "latent_dim", "status", "sentence", "weights_hash")
    return {
        name: {key: numbers["search"][key] for key in keys} | numbers.get("extra", {})
        for name, numbers in found.items()
    }

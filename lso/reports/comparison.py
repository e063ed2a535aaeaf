"""Reports on one or several trainings, and on several searches side by side.

`compare_runs` and `training_report` read the metrics of training runs, `compare_searches` the report.json of searches.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lso.analysis.summary import to_json_value
from lso.reports import plots
from lso.reports.compared_searches import ComparedSearches, compared_activity, compared_objects
from lso.reports.data_notes import data_banners, data_notes
from lso.reports.images import labelled_rows
from lso.reports.key_numbers import compare_key_numbers
from lso.reports.plots import bottom_legend, canvas, log_scale, series_style, use_chart_style, wants_log
from lso.reports.report import VERDICT_WORDS, Chart, Part, Report, Section, Sections, VerdictBox
from lso.reports.tables import Table, flatten, number, side_by_side
from lso.reports.training_verdict import training_verdict
from lso.vae.checkpoint import Codes
from lso.vae.config.training import to_dict
from lso.vae.errors import RunError, UsageError
from lso.vae.metrics.active_units import is_active, mean_variance
from lso.vae.metrics.verdict import Level
from lso.vae.runs import REPORT, Run
from lso.vae.utils.files import printable
from lso.vae.utils.reading import read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def reconstruction_table(infos: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """Validation sequences and what their posterior means decode to, from the examples that each run kept."""
    pairs = {name: info.get("examples", {}).get("reconstructions", ()) for name, info in infos.items()}
    rows = [[name, sequence, decoded] for name, both in pairs.items() for sequence, decoded in both]
    note = "Each token is the likeliest after those before it; the decoder is given only the posterior mean."
    columns = ["name", "validation sequence", "greedy reconstruction"]
    return Table(columns=columns, rows=rows, title="Reconstructions", note=note) if rows else None


def sample_table(infos: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """Sequences decoded from prior draws, from the examples that each run kept."""
    rows = [[name, text] for name, info in infos.items() for text in info.get("examples", {}).get("samples", ())]
    note = "Codes are drawn from the prior; tokens are drawn one after the other."
    return Table(columns=["name", "prior sample"], rows=rows, title="Prior samples", note=note) if rows else None


BLACK_BOX_CAPTION = (
    "Best value so far: median over seeds, and a band over the middle half of the seeds (over all of fewer than five). "
    "Left: against the distinct valid objects scored, which the budget counts. Right: against seconds."
)
PROGRESS_AXES = {"unique": "distinct valid objects scored", "seconds": "seconds"}


def are_black_box(found: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether these are reports of black-box searches; a mixture of both kinds is refused."""
    which = {name: "groups" in numbers for name, numbers in found.items()}
    if len(set(which.values())) > 1:
        names = [", ".join(name for name in which if which[name] == kind) for kind in (True, False)]
        raise UsageError(
            f"black-box searches ({names[0]}) and gradient searches ({names[1]}) cannot be compared",
            "Report on each kind on its own.",
        )
    if not all(which.values()):
        return False
    about = {(numbers["search"]["objective"], numbers["search"]["sense"]) for numbers in found.values()}
    if len(about) > 1:
        objectives = "; ".join(f"{name} ({sense}d)" for name, sense in sorted(about))
        raise UsageError(f"the searches have different objectives: {objectives}", "Compare searches for one objective.")
    return True


def settings_in_common(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of one black-box search; of several seeds those that they share."""
    first: dict[str, Any] = next(iter(numbers["settings"].values()), {})
    shared = {key: value for key, value in first.items() if key != "seed"}
    seeds = [one["seed"] for one in numbers["groups"][0]["searches"]]
    about = {key: numbers["search"][key] for key in ("objective", "sense", "latent_dim", "chart", "best_possible")}
    return about | shared | {"seeds": seeds} | dict(numbers.get("extra", {}))


@use_chart_style
def best_so_far(found: Mapping[str, Mapping[str, Any]]) -> "Figure":
    """Plot the median and band of each search's best value so far, against objects scored and against seconds."""
    figure, axes = canvas(1, 2, 3.4)
    one = next(iter(found.values()))["search"]
    for axis, (over, label) in zip(axes[0], PROGRESS_AXES.items(), strict=True):
        for place, (name, numbers) in enumerate(found.items()):
            _draw_band(axis, numbers["groups"][0]["best_so_far"][over], name, place)
        axis.set(xlabel=label)
    longest = [numbers["groups"][0]["best_so_far"]["seconds"]["x"][-1] for numbers in found.values()]
    if wants_log(np.array(longest, dtype=float)):
        log_scale(axes[0, 1], "x")
    axes[0, 0].set(title="Best so far", ylabel=f"{one['objective']} ({one['sense']}d)")
    bottom_legend(figure, [axes[0, 0]], columns=3)
    return figure


def _draw_band(axis: "Axes", band: Mapping[str, Any], name: str, number: int) -> None:
    x, median, low, high = (np.array(band[key], dtype=float) for key in ("x", "median", "low", "high"))  # null is NaN
    style: dict[str, Any] = {"where": "post", "linewidth": 1.8, "markevery": max(1, len(x) // 6), "markersize": 5}
    axis.step(x, median, label=name, **style, **series_style(number))
    axis.fill_between(x, low, high, step="post", color=series_style(number)["color"], alpha=0.15, linewidth=0)


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
# Columns for sequences, where rows have them.
FINAL_OF_SEQUENCES = {"mi_mixed": "MI, mixed lengths", "perplexity": "perplexity", "tokens": "tokens"}
# Metrics that a model without latents does not have.
LATENT_METRICS = (
    "kl",
    "mi",
    "mi_split",
    "mi_mixed",
    "aggregate_kl",
    "active_units",
    "reencoding_error",
    "reencoding_error_mean",
)
GRADIENT_CAPTION = (
    "Left: best final value of each target. Middle: median value over targets and starts at each step. Right: squared "
    "distance between the codes that two starts found, per dimension; two independent prior draws have 2."
)
DATA_KEYS = ("notes", "substitute", "exact")  # shown above the tables, not in them


def runs_by_name(runs: Sequence[Run]) -> dict[str, Run]:
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
        The path of the page.
    Raises:
        RunError: if a run has no metrics yet.
    """
    return make_training_report(runs).save(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainings:
    """What a report on trainings is made from, by name of the run.

    Args:
        runs: the runs.
        rows: their metrics.
        codes: posterior codes of those that have latents and kept codes.
    """

    runs: Mapping[str, Run]
    rows: Mapping[str, list[dict[str, Any]]]
    codes: Mapping[str, Codes]

    @property
    def infos(self) -> dict[str, Mapping[str, Any]]:
        """The run.json of each run."""
        return {name: run.info for name, run in self.runs.items()}

    def latent_dim(self, name: str) -> int:
        """The latent size of a run; 0 without latents."""
        return self.runs[name].config.architecture.latent_dim

    def coded(self) -> dict[str, list[dict[str, Any]]]:
        """The metrics of runs with latents."""
        return {name: table for name, table in self.rows.items() if self.latent_dim(name)}


def read_trainings(runs: Sequence[Run]) -> Trainings:
    """Read what a report on trainings needs.

    Raises:
        RunError: if a run has no metrics yet.
    """
    known = runs_by_name(runs)
    rows = {name: run.metrics() for name, run in known.items()}
    for name, table in rows.items():
        if not table:
            raise RunError(f"run {name} has no metrics yet", "Train it for at least one epoch, or resume it.")
    latent = {name for name, run in known.items() if run.config.architecture.latent_dim}
    codes = {name: found for name, run in known.items() if name in latent and (found := run.codes()) is not None}
    return Trainings(runs=known, rows=rows, codes=codes)


def make_training_report(runs: Sequence[Run]) -> Report[Trainings]:
    """The report of one or several trainings; arguments and errors as of `compare_runs`."""
    about = read_trainings(runs)
    infos, names = about.infos, list(about.runs)
    numbers = {name: _numbers(run, about.rows[name], about.codes.get(name)) for name, run in about.runs.items()}
    return Report(
        kind="trainings",
        title="Training report" if len(names) == 1 else f"{len(names)} trainings compared",
        subtitle=", ".join(names),
        about=about,
        sections=TRAINING_SECTIONS,
        verdicts=[training_verdict(name, infos[name], about.rows[name], about.latent_dim(name)) for name in names],
        banners=data_banners(infos),
        numbers={"banners": data_banners(infos), "runs": to_json_value(numbers)},
        notes=data_notes(infos),
    )


def _final_metrics(about: Trainings) -> Section:
    """The metrics that one compares trainings by."""
    return Section("Final metrics", [final_table(about.runs)])


def _metrics_over_training(about: Trainings) -> Section:
    """Losses, KL and mutual information by epoch."""
    caption = "On the validation split; epoch 0 is before the first step. Marks show the epoch whose weights were "
    caption += "kept. The panel of the -ELBO is cut to the trained epochs, so that epoch 0 may lie outside."
    shown = {name: _blank_without_latents(table, about.latent_dim(name)) for name, table in about.rows.items()}
    parts: list[Part] = [Chart(plots.training(shown), "Validation metrics over training", caption)]
    if coded := about.coded():
        alt = "KL, mutual information and KL of the aggregated posterior over training"
        parts.append(Chart(plots.information(coded), alt, INFORMATION))
    return Section("Metrics over training", parts)


INFORMATION = (
    "One panel for each run, on the validation split, each with a scale of its own. The KL is the mutual information "
    "of data and codes plus the KL of the aggregated posterior from the prior; where both vanish the codes have "
    "collapsed. The mutual information is estimated within batches and cannot exceed the logarithm of their size, so "
    "the three need not add up. Grey: epochs of aggressive encoder updates."
)


def _reencoding_error(about: Trainings) -> Section | None:
    """How far a code lies from the code of what it decodes to, by epoch."""
    if not (coded := about.coded()):
        return None
    caption = "Squared distance per dimension between a code and the code of what it decodes to; two independent prior "
    chart = plots.reencoding({name: coded.get(name, []) for name in about.runs})
    return Section("Re-encoding error", [Chart(chart, "Re-encoding error over training", caption + "draws have 2.")])


def _activity(about: Trainings) -> Section | None:
    """Which dimensions encoder and decoder use."""
    if not about.codes:
        return None
    caption = "Left: variance of the posterior mean over the validation split; the number of dimensions above the line "
    caption += "is AU. Right: what redrawing a dimension from the prior costs the reconstruction."
    figure = plots.dimensions_across({name: about.codes.get(name) for name in about.runs})
    chart = Chart(figure, "Activity per dimension, sorted", caption)
    return Section("Activity per dimension", [chart, dimension_table(about.codes)])


def _decoded_images(about: Trainings) -> Section | None:
    """Validation images and their reconstructions, prior samples, and strips along single dimensions."""
    parts: list[Part] = []
    for name, run in about.runs.items():
        images = {key: torch.from_numpy(found) for key, found in run.examples().items()}
        lead = "" if len(about.runs) == 1 else f"{name}: "
        if not images:
            continue
        rows = dict(zip(("prior samples", ""), images["samples"].chunk(2), strict=False))
        if "originals" in images:
            rows = {"validation": images["originals"], "reconstruction": images["reconstructions"]} | rows
        alt = f"{lead}{', '.join(filter(None, rows))}"
        parts.append(Chart(_sheet(list(rows.values()), list(rows)), alt, f"{lead}{RECONSTRUCTIONS}"))
        if "strips" in images:
            half = (len(images["dims"]) + 1) // 2
            labels = [
                f"z{dim}, {'most' if i < half else 'least'} active" for i, dim in enumerate(images["dims"].tolist())
            ]
            sheet = _sheet(list(images["strips"]), labels)
            parts.append(Chart(sheet, f"{lead}images along single dimensions", f"{lead}{STRIPS}"))
    return Section("Decoded images", parts)


RECONSTRUCTIONS = (
    "Validation images above what their posterior means decode to, then what draws from the prior decode to. A decoder "
    "that ignores its codes shows the same image everywhere, or images that have nothing to do with those above them."
)
STRIPS = (
    "Each row moves one dimension from -3 to 3 prior standard deviations, the others at 0: the most active ones first, "
    "by the variance of the posterior mean, then the least active ones, which a collapsed model ignores."
)


def _sheet(rows: Sequence[Tensor], labels: Sequence[str]) -> np.ndarray:
    """Rows of images with labels; short rows are filled with white."""
    width = max(len(row) for row in rows)
    blank = [torch.full((width - len(row), *row.shape[1:]), 255, dtype=row.dtype) for row in rows]
    return labelled_rows(torch.stack([torch.cat(both) for both in zip(rows, blank, strict=True)]), labels, at_least=56)


def _decoded_sequences(about: Trainings) -> Section:
    """Reconstructions and prior samples of sequences."""
    return Section("Decoded sequences", [reconstruction_table(about.infos), sample_table(about.infos)])


def _configuration_and_data(about: Trainings) -> Section:
    """Settings, data and machine of each run, what differs first."""
    config = {name: to_dict(run.config) for name, run in about.runs.items()}
    return Section(
        "Configuration and data",
        [
            side_by_side("Configuration", config),
            side_by_side("Data", {name: _data(info) for name, info in about.infos.items()}),
            side_by_side("How it was made", {name: _provenance(info) for name, info in about.infos.items()}),
        ],
    )


TRAINING_SECTIONS: Sections[Trainings] = (
    _final_metrics,
    _decoded_images,
    _decoded_sequences,
    _metrics_over_training,
    _reencoding_error,
    _activity,
    _configuration_and_data,
)


def training_report(run: Run) -> Path:
    """Write the report of one training into its folder."""
    return compare_runs([run], run.path / REPORT)


def _blank_without_latents(table: Sequence[Mapping[str, Any]], latent: int) -> list[dict[str, Any]]:
    """Rows of metrics for a chart; without latents the metrics of latents are None."""
    none = {} if latent else dict.fromkeys(LATENT_METRICS)
    return [{**row, **none} for row in table]


def final_table(runs: Mapping[str, Run]) -> Table:
    """Metrics of the weights that each run kept, and of its last epoch where that is another one."""
    found: dict[str, dict[str, Any]] = {}
    rules: dict[str, str] = {}
    for name, run in runs.items():
        best, last = run.best(), run.metrics()[-1]
        none = {} if run.config.architecture.latent_dim else dict.fromkeys(LATENT_METRICS)
        found[name] = best | none
        if last["epoch"] != best["epoch"]:
            found[f"{name}, last epoch"] = last | none
        rules[name] = run.kept_by()
    shown = FINAL | {
        key: word for key, word in FINAL_OF_SEQUENCES.items() if any(row.get(key) for row in found.values())
    }
    rows = [[name, *(number(row.get(key)) for key in shown)] for name, row in found.items()]
    batch = next((row["mi_batch"] for row in found.values() if row.get("mi_batch") and row.get("kl") is not None), None)
    kept = [rule if len(runs) == 1 else f"{name}: {rule}" for name, rule in rules.items()]
    note = f"Validation split; nats per datum. {'. '.join(part[:1].upper() + part[1:] for part in kept)}. "
    note += "Re-encoding errors are squared and per dimension."
    note += (
        f" MI is estimated within batches of {batch}, so that it is at most log {batch} = {math.log(batch):z.2f}."
        if batch
        else ""
    )
    if batch and any(row.get("mi_mixed") is not None for row in found.values()):
        note += (
            " Sequences of a batch have the same length, as in published tables; where they are mixed, their length "
        )
        note += "counts as known."
    return Table(columns=["run", *shown.values()], rows=rows, note=note)


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
    return Table(columns=columns, rows=rows, title="Each dimension", fold=True)


def _dimensions(codes: Codes) -> dict[str, Any]:
    from lso.vae.distributions.gaussian import DiagonalGaussian
    from lso.vae.metrics.evaluation import kl_per_dimension

    variance = mean_variance(codes.mean)
    kl = kl_per_dimension(DiagonalGaussian(codes.mean, codes.log_var))
    return {"variance": variance, "active": is_active(variance), "kl": kl, "decoder_use": codes.decoder_use}


def _data(info: Mapping[str, Any]) -> dict[str, Any]:
    dataset = dict(info.get("dataset", {}))
    provenance = {key: value for key, value in dict(dataset.pop("provenance", {})).items() if key not in DATA_KEYS}
    return {**dataset, **provenance}


def _provenance(info: Mapping[str, Any]) -> dict[str, Any]:
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
        "best": run.best() | ({} if run.config.architecture.latent_dim else dict.fromkeys(LATENT_METRICS)),
        "kept_by": run.kept_by(),
        "metrics": rows,
        "dimensions": None if codes is None else _dimensions(codes),
        "config": flatten(to_dict(run.config)),
        "dataset": info.get("dataset", {}),
        "made": _provenance(info),
    }


# --- searches --------------------------------------------------------------------------------------------------------


def compare_searches(runs: Sequence[Run], path: str | os.PathLike[str]) -> Path:
    """Write the report of several searches side by side, from each one's ``report.json``."""
    return make_search_comparison(runs).save(path)


def make_search_comparison(runs: Sequence[Run]) -> Report[ComparedSearches]:
    """The report of several searches side by side, from each one's ``report.json``."""
    found = read_search_numbers(runs)
    settings = {
        name: settings_in_common(numbers) if are_black_box(found) else _settings(numbers)
        for name, numbers in found.items()
    }
    numbers = {
        name: {"verdict": report["verdict"], "essence": report["essence"], "settings": settings[name]}
        for name, report in found.items()
    }
    return Report(
        kind="searches",
        title="Search report" if len(found) == 1 else f"{len(found)} searches compared",
        subtitle=", ".join(found),
        about=ComparedSearches(folders={name: run.path for name, run in runs_by_name(runs).items()}, numbers=found),
        sections=(*COMPARISON_SECTIONS, lambda _: Section("Settings", [side_by_side("", settings)])),
        verdicts=[_named_verdict(name, report["verdict"]) for name, report in found.items()],
        numbers={"searches": to_json_value(numbers)},
    )


def _side_by_side_section(about: ComparedSearches) -> Section:
    """The key numbers of searches, and their course."""
    found = about.numbers
    box = are_black_box(found)
    figure, caption = (best_so_far(found), BLACK_BOX_CAPTION) if box else (plots.searches(found), GRADIENT_CAPTION)
    chart = Chart(figure, "Searches side by side", caption)
    return Section("Searches side by side", [chart, replace(key_numbers_table(found), title="")])


COMPARISON_SECTIONS: Sections[ComparedSearches] = (compared_objects, compared_activity, _side_by_side_section)


def read_search_numbers(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Read the report.json of each search."""
    found = {}
    for name, run in runs_by_name(runs).items():
        try:
            found[name] = read_json(run.path / "report.json")
        except RunError as error:
            resumable = "sought" in run.info  # recorded by black-box searches and retrainings of the command line
            raise RunError(
                f"search {name} has no readable report.json: {error.message}",
                f"lso optimize --resume {run.path} writes it."
                if resumable
                else "Run the search again; for one made in Python, result.report(folder) writes it. A search within a "
                "retraining has none: name the folder of the retraining.",
            ) from None
    return found


def key_numbers_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """The key numbers of several searches side by side, for a terminal or a page."""
    return compare_key_numbers({name: numbers["essence"] for name, numbers in found.items()})


def _named_verdict(name: str, verdict: Mapping[str, Any]) -> VerdictBox:
    level: Level = verdict["level"]
    word, training = f"{VERDICT_WORDS[level]} · {name}", str(verdict["training"])
    return VerdictBox(level=level, word=word, sentence=str(verdict["sentence"]), training=training)


def _settings(numbers: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("optimizer", "settings", "targets", "starts", "latent_dim", "status", "sentence", "weights_hash")
    return {**{key: numbers["search"][key] for key in keys}, **numbers.get("extra", {})}

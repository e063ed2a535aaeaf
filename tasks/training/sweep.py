"""A sweep over methods, latent sizes and seeds, reported as means over seeds. Torch-free until its report is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lso.reports.data_notes import data_banners, data_notes
from lso.reports.report import Chart, Report, Section, Sections
from lso.reports.report_kind import kind_of
from lso.reports.tables import MISSING, Table, number, pluralize, side_by_side
from lso.tasks.training.plan import Settings, merge, plan
from lso.tasks.training.run_set import (
    LATENT_METRICS,
    EvaluationSpec,
    Member,
    PlannedRun,
    folder_name,
    mean_and_deviation,
    read_members,
    stored_evaluations,
)
from lso.tasks.training.run_set import check_folders as check_folders
from lso.vae.config.methods import Method, parameters, parse_method
from lso.vae.config.training import TrainConfig, to_dict
from lso.vae.errors import LsoError, RunError, UsageError
from lso.vae.runs import INFO, Run
from lso.vae.utils.reading import read_json
from lso.vae.utils.trust import Trust

COLUMNS = {
    "iw_nll": "IW-NLL",
    "neg_elbo": "-ELBO",
    "kl": "KL",
    "mi": "MI",
    "active_units": "AU",
    "reencoding_error": "re-encoding",
    "seconds": "seconds",
}


def plan_sweep(
    methods: Sequence[str],
    latent_dims: Sequence[int],
    seeds: int,
    settings: Settings,
    file: Path | None = None,
    trust: Trust = False,
) -> list[PlannedRun]:
    """Plan the trainings of a sweep: every method at every latent size with the seeds 0, 1, ... below ``seeds``.

    Methods are written as on the command line, ``"name:key=value,..."``; without latent sizes the task's default is
    taken. A method without latents is trained once for each seed. The other arguments are those of
    `lso.tasks.training.plan.plan`.
    """
    if not methods:
        raise UsageError("no method given", "Name at least one: lso sweep --method vae --method ne-vae-se")
    if seeds < 1:
        raise UsageError(f"expected at least 1 seed, got {seeds}", "Give --seeds 5, say.")
    planned = []
    for label in dict.fromkeys(methods):
        sized = latent_dims and parse_method(label).latents
        dims: list[int | None] = [*dict.fromkeys(latent_dims)] if sized else [None]
        for dim in dims:
            sizes = {} if dim is None else {"architecture": {"latent_dim": dim}}
            for seed in range(seeds):
                config = plan(merge(settings, {**sizes, "method": label, "seed": seed}), file, trust)
                name = folder_name(label, config.architecture.latent_dim, seed)
                planned.append(PlannedRun(name=name, label=label, config=config))
    return planned


def check_sweep(planned: Sequence[PlannedRun], root: Path) -> None:
    """Refuse a folder that holds another training under a planned name, or the report of another protocol's sweep.

    A training with fewer epochs than planned is not refused: it is extended.
    """
    check_folders(planned, root, longer=True)
    report = root / "report.json"
    if kind_of(report) != "sweep":
        return
    try:
        told = {str(point["name"]) for point in read_json(report)["trainings"]}
    except (RunError, KeyError, TypeError):  # damaged: it is written anew
        return
    for name in sorted(told - {one.name for one in planned}):
        try:
            alike = _same_protocol(Run(root / name).config, planned[0].config)
        except LsoError:  # gone or damaged
            continue
        if not alike:
            raise RunError(
                f"{root / name} has another protocol, and the report that lists it would be overwritten",
                "Give the settings it was begun with to continue, or another --out to begin anew.",
            )


def add_finished(planned: Sequence[PlannedRun], root: Path, spec: EvaluationSpec) -> list[PlannedRun]:
    """Add to a plan the finished trainings of its protocol in its folder, so that its report keeps other calls.

    Trainings that were not evaluated as ``spec`` says are left out.
    """
    names, others = {plan.name for plan in planned}, []
    for path in sorted(root.glob(f"*/{INFO}")):
        if path.parent.name in names or path.parent.name.startswith("."):
            continue
        try:
            run = Run(path.parent)
            done = (
                run.kind == "train"
                and run.info["status"] == "finished"
                and _same_protocol(run.config, planned[0].config)
            )
            if done and len(stored_evaluations(run, spec)) >= spec.repeats:
                others.append(
                    PlannedRun(name=path.parent.name, label=method_text(run.config.method), config=run.config)
                )
        except (LsoError, KeyError):  # damaged
            continue
    return [*planned, *others]


def read_sweep(root: Path, accept_changes: bool = False) -> tuple[list[Member], EvaluationSpec]:
    """Read the trainings that a sweep's report lists from its folder, as they are now, and how they were evaluated."""
    report = root / "report.json"
    try:
        content = read_json(report)
        spec = EvaluationSpec(**content["asked"])
        told = [(Path(str(point["name"])).name, str(point["method"])) for point in content["trainings"]]
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{report} is not the report of a sweep ({error})", "Repeat the sweep, which writes it anew."
        ) from None
    begun = [(name, label) for name, label in told if (root / name / INFO).is_file()]
    runs = [Run(root / name, accept_changes=accept_changes) for name, _ in begun]
    planned = [
        PlannedRun(name=name, label=label, config=run.config) for (name, label), run in zip(begun, runs, strict=True)
    ]
    return read_members(planned, root, spec), spec


def _same_protocol(one: TrainConfig, other: TrainConfig) -> bool:
    """Whether two trainings differ in nothing but method, latent size and seed."""
    size = one.architecture.latent_dim
    return (
        replace(other, method=one.method, seed=one.seed, architecture=replace(other.architecture, latent_dim=size))
        == one
    )


def method_text(method: Method) -> str:
    """A method as it is written on the command line, without parameters at their defaults."""
    default = {key: parameter.default for key, parameter in parameters(method.name).items()}
    own = [f"{key}={_format_value(value)}" for key, value in method.params.items() if value != default[key]]
    return f"{method.name}:{','.join(own)}" if own else method.name


def _format_value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def sweep_banners(members: Sequence[Member]) -> list[str]:
    """Warnings at the top of a sweep's report: substituted data, unfinished and failed trainings."""
    return [
        *data_banners({member.planned.name: member.info for member in members if member.run}),
        *unfinished_notes(sweep_points(members)),
    ]


def sweep_points(members: Sequence[Member]) -> list[dict[str, Any]]:
    """One entry for each training of a sweep: name, method, latent_dim, seed, status, sentence and verdict.

    ``together`` is the number of trainings batched with it, 1 if none; where it was evaluated, the entry also has the
    numbers of `COLUMNS`.
    """
    points = []
    for member in members:
        config, info = member.planned.config, member.info
        point = {
            "name": member.planned.name,
            "method": member.planned.label,
            "latent_dim": config.architecture.latent_dim,
            "seed": config.seed,
            "status": member.status,
            "sentence": str(info.get("sentence", "")),
            "verdict": str(info.get("verdict", "")),
            "together": int(info.get("together", 1)),
        }
        if member.evaluations:
            point |= {key: member.evaluations[0].get(key) for key in COLUMNS} | {"seconds": info["seconds"]}
            point |= {} if config.architecture.latent_dim else dict.fromkeys(LATENT_METRICS)
        points.append(point)
    return points


def sweep_cells(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means and standard deviations over the seeds of each method and latent size, as ``{"mean", "std"}``."""
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for point in found:
        groups.setdefault((point["method"], point["latent_dim"]), []).append(point)
    rows = []
    for (method, latent), group in groups.items():
        done = [point for point in group if "neg_elbo" in point]
        row: dict[str, Any] = {"method": method, "latent_dim": latent, "planned": len(group), "done": len(done)}
        row["together"] = max(point.get("together", 1) for point in group)
        for key in COLUMNS:
            if values := [point[key] for point in done if point[key] is not None]:
                row[key] = dict(zip(("mean", "std"), mean_and_deviation(values), strict=True))
        rows.append(row)
    return rows


def sweep_table(rows: Sequence[Mapping[str, Any]], spec: EvaluationSpec) -> Table:
    """The table of a sweep, for a terminal or a page."""
    shown = [key for key in COLUMNS if spec.iw_samples or key != "iw_nll"]
    lines = [
        [
            row["method"],
            str(row["latent_dim"]),
            str(row["done"]) if row["done"] == row["planned"] else f"{row['done']} of {row['planned']}",
            *(format_with_deviation(row.get(key)) for key in shown),
        ]
        for row in rows
    ]
    images = f"the first {pluralize(spec.limit, 'test image')}" if spec.limit else "the test split"
    note = f"Mean ± standard deviation over seeds, on {images} with the weights that each training kept; nats per "
    note += "datum. Re-encoding is per dimension, sampled to sampled."
    note += f" IW-NLL from {pluralize(spec.iw_samples, 'importance sample')}." if spec.iw_samples else ""
    if any(not row["latent_dim"] for row in rows):
        note += " Without latents the likelihood is exact."
    if any(row["together"] > 1 for row in rows):
        note += " Models that were trained together each have the seconds of all of them."
    columns = ["method", "latents", "seeds", *(COLUMNS[key] for key in shown)]
    return Table(columns=columns, rows=lines, note=note)


def format_with_deviation(value: Mapping[str, Any] | None) -> str:
    """A mean with its standard deviation, as text."""
    if value is None:
        return MISSING
    mean = value["mean"]
    if value["std"] is None and float(mean).is_integer():
        return f"{mean:z,.0f}"
    digits = 2 if abs(mean) >= 0.1 else 3
    text = f"{mean:,.{digits}f}"
    return text if value["std"] is None else f"{text} ± {value['std']:.{digits}f}"


def unfinished_notes(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences on the trainings that the means do not include, because they failed or are not finished."""
    sentences = [f"{point['name']} failed: {point['sentence']}" for point in points if point["status"] == "failed"]
    missing = sum("neg_elbo" not in point and point["status"] != "failed" for point in points)
    if missing:
        verb = "is" if missing == 1 else "are"
        sentences.insert(
            0,
            f"{missing} of {pluralize(len(points), 'training')} {verb} not finished and measured: repeat the command.",
        )
    return sentences


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What a sweep's report is made from: its trainings, and how they were evaluated."""

    members: Sequence[Member]
    spec: EvaluationSpec


def write_sweep_report(members: Sequence[Member], root: Path, spec: EvaluationSpec, out: Path | None = None) -> Path:
    """Write ``report.html`` and ``report.json`` of a sweep into its folder."""
    from lso.analysis.summary import to_json_value

    points = sweep_points(members)
    rows, infos = sweep_cells(points), {member.planned.name: member.info for member in members if member.run}
    told = {"cells": rows, "trainings": points, "asked": spec}
    report = Report(
        kind="sweep",
        title="Sweep",
        subtitle=f"{pluralize(len(rows), 'setting')}, {pluralize(len(points), 'training')}, {root.name}",
        about=Sweep(members=members, spec=spec),
        sections=SWEEP_SECTIONS,
        banners=sweep_banners(members),
        numbers={"banners": sweep_banners(members)} | to_json_value(told),
        notes=data_notes(infos),
    )
    return report.save(out or root)


def _test_metrics(sweep: Sweep) -> Section:
    """Means and deviations over seeds."""
    return Section("Test metrics", [sweep_table(sweep_cells(sweep_points(sweep.members)), sweep.spec)])


def _units_and_likelihood(sweep: Sweep) -> Section | None:
    """Active units against latent size, and likelihood against active units."""
    from lso.reports.sweep_plots import draw_sweep

    points = sweep_points(sweep.members)
    if not any("neg_elbo" in point for point in points):
        return None
    alt = "Active units against latent size, and NLL against active units"
    return Section("Active units and likelihood", [Chart(draw_sweep(points), alt, FIGURE_CAPTION)])


def _configuration(sweep: Sweep) -> Section:
    """Settings, what differs first."""
    configs = {name: to_dict(config) for name, config in _first_seeds(sweep.members).items()}
    return Section("Configuration", [side_by_side("", configs)])


def _every_training(sweep: Sweep) -> Section:
    """Each training by itself."""
    return Section("Every training", [_trainings_table(sweep_points(sweep.members))])


SWEEP_SECTIONS: Sections[Sweep] = (_test_metrics, _units_and_likelihood, _configuration, _every_training)
FIGURE_CAPTION = (
    "Left: active units against latent size, mean and deviation over seeds. Right: NLL against active units, one point "
    "a run, as in He et al. (2019), Figure 4. Points of methods with equal active units are set apart a little."
)


def _first_seeds(members: Sequence[Member]) -> dict[str, Any]:
    """The configuration of the first seed of each method and latent size; other seeds differ in the seed alone."""
    first: dict[str, Any] = {}
    for member in members:
        config = member.planned.config
        first.setdefault(folder_name(member.planned.label, config.architecture.latent_dim, 0)[: -len("-s0")], config)
    return first


def _trainings_table(points: Sequence[Mapping[str, Any]]) -> Table:
    keys = [key for key in COLUMNS if any(point.get(key) is not None for point in points)]
    rows = [
        [
            point["name"],
            point["status"],
            *(number(point.get(key)) for key in keys),
            point["verdict"] or point["sentence"],
        ]
        for point in points
    ]
    columns = ["run", "status", *(COLUMNS[key] for key in keys), "what it said"]
    return Table(columns=columns, rows=rows)

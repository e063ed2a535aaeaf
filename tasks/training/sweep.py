"""A sweep: methods x latent sizes x seeds, told as means over seeds. Torch-free until its page is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lso.reports.report_kind import kind_of
from lso.reports.tables import MISSING, Table, number, pluralize
from lso.tasks.training.plan import Settings, merge, plan
from lso.tasks.training.run_set import (
    OF_LATENTS,
    EvaluationSpec,
    Member,
    Planned,
    evaluations,
    folder_name,
    read,
    spread,
)
from lso.tasks.training.run_set import check as check_folders
from lso.vae.config.methods import Method, parameters, parse_method
from lso.vae.config.training import TrainConfig
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
) -> list[Planned]:
    """The trainings of a sweep: every method at every latent size with every seed.

    A method without latents is trained once for each seed.

    Args:
        methods: as on the command line, ``"name:key=value,..."``.
        latent_dims: sizes of z; none takes the task's default.
        seeds: how many: 0, 1, ...
        settings: all else, nested as in the TOML file.
        file: a TOML file that the settings go over, or None.
        trust: see `lso.tasks.training.plan.plan`.
    Returns:
        The trainings, method by method.
    Raises:
        UsageError: for no method, no seed, or a wrong name or value.
        DataError: if the data path does not exist.
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
                planned.append(Planned(name=name, label=label, config=config))
    return planned


def check(planned: Sequence[Planned], root: Path) -> None:
    """Refuse a folder that holds another training under a planned name, or the report of another protocol's sweep.

    One of the plan that is of fewer epochs is none other: it goes on to those that are planned.
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
            alike = _alike(Run(root / name).config, planned[0].config)
        except LsoError:  # gone or damaged
            continue
        if not alike:
            raise RunError(
                f"{root / name} is of another protocol, and the report that tells of it would be written over",
                "Give the settings it was begun with to go on, or another --out to begin anew.",
            )


def with_finished(planned: Sequence[Planned], root: Path, asked: EvaluationSpec) -> list[Planned]:
    """A plan and every finished training of its protocol that lies in its folder, so that no call forgets another's.

    Args:
        planned: of `plan_sweep`.
        root: the folder above the trainings.
        asked: how they are measured; those that were not measured so are left out.
    Returns:
        The plan, then the others by name.
    """
    names, others = {one.name for one in planned}, []
    for path in sorted(root.glob(f"*/{INFO}")):
        if path.parent.name in names or path.parent.name.startswith("."):
            continue
        try:
            run = Run(path.parent)
            done = run.kind == "train" and run.info["status"] == "finished" and _alike(run.config, planned[0].config)
            if done and len(evaluations(run, asked)) >= asked.repeats:
                others.append(Planned(name=path.parent.name, label=method_text(run.config.method), config=run.config))
        except (LsoError, KeyError):  # damaged
            continue
    return [*planned, *others]


def of_folder(root: Path, accept_changes: bool = False) -> tuple[list[Member], EvaluationSpec]:
    """The trainings that a sweep's report tells of, as they lie in its folder now.

    Args:
        root: the folder.
        accept_changes: of their files, see `Run`.
    Returns:
        Those that have begun, in the order of the report, and how they were to be measured.
    Raises:
        RunError: if the report there cannot be read as one of a sweep, or a run is damaged.
    """
    report = root / "report.json"
    try:
        content = read_json(report)
        asked = EvaluationSpec(**content["asked"])
        told = [(Path(str(point["name"])).name, str(point["method"])) for point in content["trainings"]]
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{report} is not that of a sweep ({error})", "Repeat the sweep, which writes it anew."
        ) from None
    begun = [(name, label) for name, label in told if (root / name / INFO).is_file()]
    runs = [Run(root / name, accept_changes=accept_changes) for name, _ in begun]
    planned = [
        Planned(name=name, label=label, config=run.config) for (name, label), run in zip(begun, runs, strict=True)
    ]
    return read(planned, root, asked), asked


def _alike(one: TrainConfig, other: TrainConfig) -> bool:
    """Whether trainings differ in nothing but what a sweep goes over."""
    size = one.architecture.latent_dim
    return (
        replace(other, method=one.method, seed=one.seed, architecture=replace(other.architecture, latent_dim=size))
        == one
    )


def method_text(method: Method) -> str:
    """A method as it is written on the command line, without what is by default so."""
    default = {key: parameter.default for key, parameter in parameters(method.name).items()}
    own = [f"{key}={_short(value)}" for key, value in method.params.items() if value != default[key]]
    return f"{method.name}:{','.join(own)}" if own else method.name


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def banners(members: Sequence[Member]) -> list[str]:
    """What a reader has to know before any number."""
    from lso.reports.data_notes import banners as substitutes

    return [
        *substitutes({member.planned.name: member.info for member in members if member.run}),
        *unfinished(points(members)),
    ]


def points(members: Sequence[Member]) -> list[dict[str, Any]]:
    """One entry for each training of a sweep, with the test metrics of those that are finished.

    Args:
        members: of `lso.tasks.training.multi_run.train_all`.
    Returns:
        name, method, latent_dim, seed, status, sentence, verdict, with how many it was trained together (1: alone) and,
        where measured, the numbers of `COLUMNS`.
    """
    found = []
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
            point |= {} if config.architecture.latent_dim else dict.fromkeys(OF_LATENTS)
        found.append(point)
    return found


def cells(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means and standard deviations over the seeds of each method and latent size.

    Args:
        found: of `points`.
    Returns:
        method, latent_dim, planned and done seeds, the most that were trained together, and for each number that was
        measured ``{"mean", "std"}``.
    """
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
                row[key] = dict(zip(("mean", "std"), spread(values), strict=True))
        rows.append(row)
    return rows


def table(rows: Sequence[Mapping[str, Any]], asked: EvaluationSpec) -> Table:
    """The cells of a sweep for a terminal or a page."""
    shown = [key for key in COLUMNS if asked.iw_samples or key != "iw_nll"]
    lines = [
        [
            row["method"],
            str(row["latent_dim"]),
            str(row["done"]) if row["done"] == row["planned"] else f"{row['done']} of {row['planned']}",
            *(with_spread(row.get(key)) for key in shown),
        ]
        for row in rows
    ]
    images = f"the first {pluralize(asked.limit, 'test image')}" if asked.limit else "the test split"
    note = f"Mean ± standard deviation over seeds, on {images} with the weights that each training kept; nats per "
    note += "datum. Re-encoding is per dimension, sampled to sampled."
    note += f" IW-NLL from {pluralize(asked.iw_samples, 'importance sample')}." if asked.iw_samples else ""
    if any(not row["latent_dim"] for row in rows):
        note += " Without latents the likelihood is exact."
    if any(row["together"] > 1 for row in rows):
        note += " Models that were trained together each have the seconds of all of them."
    columns = ["method", "latents", "seeds", *(COLUMNS[key] for key in shown)]
    return Table(columns=columns, rows=lines, title="Test metrics", note=note)


def with_spread(value: Mapping[str, Any] | None) -> str:
    """A mean with its deviation."""
    if value is None:
        return MISSING
    mean = value["mean"]
    if value["std"] is None and float(mean).is_integer():
        return f"{mean:z,.0f}"
    digits = 2 if abs(mean) >= 0.1 else 3
    text = f"{mean:,.{digits}f}"
    return text if value["std"] is None else f"{text} ± {value['std']:.{digits}f}"


def unfinished(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader should know of trainings that are missing from the means."""
    sentences = [f"{point['name']} failed: {point['sentence']}" for point in found if point["status"] == "failed"]
    missing = sum("neg_elbo" not in point and point["status"] != "failed" for point in found)
    if missing:
        verb = "is" if missing == 1 else "are"
        sentences.insert(
            0, f"{missing} of {pluralize(len(found), 'training')} {verb} not finished and measured: repeat the command."
        )
    return sentences


def write_report(members: Sequence[Member], root: Path, asked: EvaluationSpec, out: Path | None = None) -> Path:
    """Write ``report.html`` and ``report.json`` of a sweep into its folder."""
    from lso.analysis.summary import to_json_value
    from lso.reports.comparison import side_by_side
    from lso.reports.data_notes import data_notes
    from lso.reports.html import figure_uri, render, report_paths, write_report
    from lso.reports.sweep_plots import sweep
    from lso.vae.config.training import to_dict

    found = points(members)
    rows, infos = cells(found), {member.planned.name: member.info for member in members if member.run}
    configs = {name: to_dict(config) for name, config in _first_seeds(members).items()}
    sections: list[dict[str, Any]] = [{"table": table(rows, asked)}]
    if any("neg_elbo" in point for point in found):
        sections.append({"title": "Active units and likelihood", "chart": figure_uri(sweep(found)), "caption": FIGURE})
    sections.append({"title": "Configuration", "table": side_by_side("", configs)})
    sections.append({"table": _every(found)})
    html = render(
        "sections.html",
        title="Sweep",
        subtitle=f"{pluralize(len(rows), 'setting')}, {pluralize(len(found), 'training')}, {root.name}",
        banners=banners(members),
        notes=data_notes(infos),
        sections=sections,
        json_name=report_paths(out or root)[1].name,
    )
    told = {
        "banners": banners(members),
        "cells": to_json_value(rows),
        "trainings": to_json_value(found),
        "asked": to_json_value(asked),
    }
    return write_report(out or root, html, told, "sweep")


FIGURE = "Left: active units against latent size, mean and deviation over seeds. Right: NLL against active units, a "
FIGURE += "point a run, as He et al. (2019), Figure 4. Methods of equal units stand a little beside one another."


def _first_seeds(members: Sequence[Member]) -> dict[str, Any]:
    """One configuration for each method and size: those of other seeds differ in that alone."""
    first: dict[str, Any] = {}
    for member in members:
        config = member.planned.config
        first.setdefault(folder_name(member.planned.label, config.architecture.latent_dim, 0)[: -len("-s0")], config)
    return first


def _every(found: Sequence[Mapping[str, Any]]) -> Table:
    keys = [key for key in COLUMNS if any(point.get(key) is not None for point in found)]
    rows = [
        [
            point["name"],
            point["status"],
            *(number(point.get(key)) for key in keys),
            point["verdict"] or point["sentence"],
        ]
        for point in found
    ]
    columns = ["run", "status", *(COLUMNS[key] for key in keys), "what it said"]
    return Table(columns=columns, rows=rows, title="Every training", fold=True)

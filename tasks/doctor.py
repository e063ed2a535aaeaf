"""Checks a run folder and says what went wrong in it and what to do about it: `lso doctor RUN`."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lso.objectives.failures import ScoreError
from lso.tasks.task import require_path
from lso.vae import runs
from lso.vae.errors import DivergedError, LsoError
from lso.vae.metrics.collapse import caution, read
from lso.vae.metrics.verdict import Check, Level
from lso.vae.runs import Run
from lso.vae.utils.reading import changed_error, read_content, read_json
from lso.vae.utils.trust import Trust
from lso.vae.utils.user_module import is_at_hand, is_user_module
from lso.vae.utils.validation import pluralize
from lso.vae.zoo import zoo_name

# Statuses of a black-box search whose sentence already says what to do.
SELF_EXPLAINING_STATUSES = ("decoder_ignores_latent", "stands_still", "invalid", "max_calls")

EVALUATIONS = "evaluations.jsonl"
UNSEALED_NOTE = "this folder was written before hashes were kept: damage that leaves its files readable is not seen"
FINDING_LEVELS: Mapping[Level, Literal["ok", "note", "problem"]] = {"fine": "ok", "care": "note", "doubt": "problem"}
WRITTEN_AFTER_SEARCH = (runs.REPORT, "report.json")  # written after the search


@dataclass(frozen=True, slots=True)
class RunFinding:
    """One finding about a run folder: how serious it is, what it is in a sentence, and what to do, if anything."""

    level: Literal["ok", "note", "problem"]
    what: str
    remedy: str = ""


def check_run(path: str | Path, *, trust: Trust = False, accept_changes: bool = False) -> list[RunFinding]:
    """Check the folder of a training or search, reading its files and comparing them with the recorded hashes.

    Findings come in the order in which a run makes its files. ``trust`` and ``accept_changes`` are
    those of `Run`.
    """
    run = Run(path, trust=trust, accept_changes=accept_changes)
    kind, info = run.require(), run.info
    findings = [_status(run, info)]
    if run.seals is None:
        findings.append(RunFinding("note", UNSEALED_NOTE, "The hashes are written when the run is continued."))
    for look in LOOKS["retraining" if "every" in info.get("search", {}) else kind]:
        findings += _run_check(look, run)
    if run.verdict:
        findings.append(RunFinding("problem", run.verdict))
    if told := caution(info):
        findings.append(RunFinding("note", told))
    return [*findings, *_versions(info)]


def _run_check(look: Callable[[Run], Iterator[RunFinding]], run: Run) -> list[RunFinding]:
    try:
        return list(look(run))
    except LsoError as error:
        return [RunFinding("problem", error.message, error.hint)]


def _status(run: Run, info: dict[str, Any]) -> RunFinding:
    again = f"lso train --resume {run.path}" if info["kind"] == "train" else "Run the search again."
    again = f"lso optimize --resume {run.path}" if "sought" in info else again
    status, sentence = info["status"], info.get("sentence", "")
    if status == "finished":
        return RunFinding("ok", sentence)
    if status == "running":
        return RunFinding("note", "still running, or killed: no end was recorded", f"If nothing runs: {again}")
    if status == "stopped":
        return RunFinding("note", f"stopped: {sentence}", again)
    if status in SELF_EXPLAINING_STATUSES:
        return RunFinding("problem", f"{status}: {sentence}")
    return RunFinding("problem", f"{status}: {sentence}", _remedy_for_failure(info, again))


def _remedy_for_failure(info: Mapping[str, Any], again: str) -> str:
    """What to do about a failure; ``again`` continues the run, once what its sentence names is corrected."""
    error = info.get("error", "")  # the class; missing where no exception ended the run, and in folders up to 0.1
    # A search that ends as failed without an exception had too many calls of its score fail.
    if error == ScoreError.__name__ or (not error and info["kind"] != "train"):
        return f"With the score corrected: {again}"
    if error == DivergedError.__name__ or (not error and "not finite" in info["sentence"]):
        return "Train anew with a lower --learning-rate, or check the data; resuming meets the same loss again."
    return "Read the sentence above; LSO_DEBUG=1 shows the traceback of a new try."


def _config(run: Run) -> Iterator[RunFinding]:
    from lso.tasks.training.experiment import IN_MEMORY

    config = run.config
    sizes = f"{config.architecture.name}, {pluralize(config.architecture.latent_dim, 'latent')}, seed {config.seed}"
    data = "data given in Python" if config.data.task == IN_MEMORY else config.data.task
    yield RunFinding("ok", f"{config.method.name} on {data}: {sizes}, on {run.info['device']}")


def _data(run: Run) -> Iterator[RunFinding]:
    path = run.config.data.path
    try:
        gone = bool(path) and require_path(path) is None
    except LsoError:
        gone = True
    if gone:
        yield RunFinding(
            "problem", f"the data are missing: {path}", "Resuming and evaluating need them; searching does not."
        )
    notes = run.info["dataset"]["provenance"].get("notes", ())
    for note in notes if isinstance(notes, list) else ():
        yield RunFinding("note", str(note))


def _model(run: Run) -> Iterator[RunFinding]:
    from lso.vae.checkpoint import load_model, read_model

    name = run.config.architecture.name
    if is_user_module(name) and not is_at_hand(name, run.trust):
        read_model(run.checked(runs.MODEL))
        run.codes()
        yield RunFinding(
            "note",
            f"the networks are a module of their own, {name}, which was not imported; their weights can be read",
            "If you trust that code: lso doctor RUN --trust",
        )
        return
    model, codes = run.model(), run.codes()
    if codes is not None and codes.mean.shape[1] != model.latent_dim:
        what = f"codes of {codes.mean.shape[1]} latents, the model has {model.latent_dim}"
        raise changed_error(run.path / runs.CODES, what)
    there = f"{runs.MODEL} and {runs.CODES} can be read" if codes is not None else f"{runs.MODEL} can be read"
    yield RunFinding("ok", there if run.seals is None else there.replace("can be read", "are as they were written"))
    run.examples()
    if (run.path / runs.START).is_file():
        load_model(run.checked(runs.START), trust=run.trust)


def _last(run: Run) -> Iterator[RunFinding]:
    from lso.vae.checkpoint import load_last
    from lso.vae.training.state import position_of

    if (run.path / runs.LAST).is_file():
        position = position_of(load_last(run.path / runs.LAST, "cpu"), run.path / runs.LAST)
        yield RunFinding("ok", f"{runs.LAST} is whole: epoch {position.epoch}, step {position.step}")
    elif zoo_name(run.path) is not None:
        yield RunFinding("ok", f"installed with lso, without {runs.LAST}: it is not resumed")
    else:
        yield RunFinding("note", f"there is no {runs.LAST}", "Resuming starts from the beginning.")


def _metrics(run: Run) -> Iterator[RunFinding]:
    rows = run.metrics()
    if not rows:
        yield RunFinding("note", f"{runs.METRICS} has no rows yet")
        return
    best, last = run.best(), rows[-1]
    if not all(math.isfinite(row["neg_elbo"]) for row in rows):
        yield RunFinding("problem", "some validation losses are not finite", "Lower --learning-rate.")
    latent = run.config.architecture.latent_dim
    use = read(run.info)
    carried = use.told() if use and latent else f"{best['active_units']} of {latent} latents active"
    losses = f"validation -ELBO {best['neg_elbo']:z.2f} nats"
    yield RunFinding("ok", f"{run.kept_by()}, of {pluralize(last['epoch'], 'epoch')}; {losses}; {carried}")
    epochs = run.config.protocol.epochs
    improving = best["epoch"] == last["epoch"] == epochs > 0 and best.get("eligible", True)
    if run.info["status"] == "finished" and improving and run.config.protocol.monitor != "last":
        yield RunFinding(
            "note", "the last epoch was the best: it was still improving", f"Train longer: --epochs {2 * epochs}"
        )


def _search(run: Run) -> Iterator[RunFinding]:
    from lso.results.export import read_evaluations

    for name in (runs.REPORT, "report.json", EVALUATIONS):
        there = (run.path / name).is_file() or (name == EVALUATIONS and bool(_parts(run)))
        # lso.optimize leaves the report to its caller, and one report over several seeds lies a folder above them.
        lacking: Literal["note", "problem"] = (
            "note" if _is_black_box(run) and name in WRITTEN_AFTER_SEARCH else "problem"
        )
        yield RunFinding("ok" if there else lacking, f"{name} is {'there' if there else 'missing'}")
    yield from _pages(run)
    for place in _parts(run):
        read_evaluations(Run(place).checked(EVALUATIONS).parent)


def _pages(run: Run) -> Iterator[RunFinding]:
    """Check that the reports are as they were written; one that is missing is no finding here."""
    from lso.reports.html import is_whole

    for page in sorted(run.path.glob("*.html")):
        if not is_whole(read_content(page)):
            raise changed_error(page)
    for numbers in sorted(run.path.glob("*.json")):
        read_json(numbers)
    yield from ()


def _is_black_box(run: Run) -> bool:
    return "budget" in run.info.get("search", {})


def _parts(run: Run) -> list[Path]:
    """Folders with evaluations: the run's own, or one below it for each seed and target."""
    places = [run.path, *sorted(path for path in run.path.iterdir() if path.is_dir())]
    return [path for path in places if (path / EVALUATIONS).is_file()]


def _black_box(run: Run) -> Iterator[RunFinding]:
    if not _is_black_box(run):
        return
    from lso.analysis.diagnosis import diagnose, diagnostics_from_records, diagnostics_from_report
    from lso.results.export import read_evaluations

    report = run.path / "report.json"
    written = read_json(report) if report.is_file() else {}
    if "groups" in written:
        signs = diagnostics_from_report(written)
        yield RunFinding("ok", f"verdict: {written['verdict']['sentence']}")
    elif parts := _parts(run):
        told = run.info.get("config", {}).get("known", 0)
        signs = diagnostics_from_records(
            read_evaluations(parts[0]), Run(parts[0]).info["search"], told
        )  # it holds the sense
    else:
        return
    causes = diagnose(signs)
    yield from map(_finding_of, causes)
    if not causes:
        yield RunFinding("ok", f"no reason for a failure found in {pluralize(signs.counts.get('calls', 0), 'call')}")


def _finding_of(check: Check) -> RunFinding:
    return RunFinding(FINDING_LEVELS[check.level], check.found, check.remedy)


def _retraining(run: Run) -> Iterator[RunFinding]:
    from lso.analysis.diagnosis import diagnose, diagnostics_from_records
    from lso.results.export import read_evaluations
    from lso.tasks.retraining.summary import RETRAINING_RULES

    places = sorted(path for path in (run.path / "rounds").glob("*/") if path.name.isdigit())
    whole = [place for place in places if (place / "round.json").is_file()]
    yield from _parts_of_rounds(run, places)
    yield RunFinding("ok" if whole else "note", f"{pluralize(len(whole), 'round')} complete")
    for place in places:
        if (place / "train" / runs.INFO).is_file() and (told := Run(place / "train").info)["status"] == "failed":
            remedy = _remedy_for_failure(told, f"lso optimize --resume {run.path}")
            yield RunFinding("problem", f"retraining {place.name}: {told['sentence']}", remedy)
    report = run.path / "report.json"
    if report.is_file():
        remedies = {rule.name: rule.remedy for rule in RETRAINING_RULES}
        for check in read_json(report)["verdict"]["checks"]:
            level = FINDING_LEVELS[check["level"]]
            yield RunFinding(level, check["found"], "" if level == "ok" else remedies.get(check["name"], ""))
    else:
        yield RunFinding("note", "report.json is missing", "It is written when a session ends.")
    parts = [read_evaluations(place / "search") for place in places if (place / "search" / EVALUATIONS).is_file()]
    ordered = [record for part in parts for record in sorted(part, key=lambda one: int(one.call or 0))]
    records = [replace(record, call=i) for i, record in enumerate(ordered)]
    if records:
        signs = replace(diagnostics_from_records(records, run.info["search"]), step=None)  # of one model's codes alone
        yield from map(_finding_of, diagnose(signs))


def _parts_of_rounds(run: Run, places: Sequence[Path]) -> Iterator[RunFinding]:
    """Problems with the files of each round: those that cannot be read, or differ from what was written."""
    from lso.tasks.retraining.labelled_data import load_labelled
    from lso.tasks.retraining.records import Round

    for data in sorted([*run.path.glob("*.safetensors"), *run.path.glob("rounds/*/*.safetensors")]):
        load_labelled(data)
    for place in places:
        if (place / "round.json").is_file():
            Round.read(place / "round.json")
        for name, looks in (("train", (_config, _model, _last, _metrics)), ("search", (_search_ends,))):
            if (place / name / runs.INFO).is_file():
                for look in looks:
                    wrong = [found for found in _run_check(look, Run(place / name)) if found.level == "problem"]
                    yield from (replace(found, what=f"round {place.name}: {found.what}") for found in wrong)
    yield from _pages(run)


def _search_ends(run: Run) -> Iterator[RunFinding]:
    run.checked(EVALUATIONS)
    yield from ()


def _versions(info: dict[str, Any]) -> Iterator[RunFinding]:
    then = info.get("versions", {})
    now = runs.versions(then)
    changed = [f"{name} {then[name]} then, {now[name]} now" for name in then if then[name] != now[name]]
    if changed:
        yield RunFinding("note", "; ".join(changed), "A resumed run may differ in the last digits.")


# What is looked at in the folder of a run, by its kind.
LOOKS: Mapping[str, Sequence[Callable[[Run], Iterator[RunFinding]]]] = {
    "train": (_config, _data, _model, _last, _metrics, _pages),
    "search": (_search, _black_box),
    "retraining": (_retraining,),
}

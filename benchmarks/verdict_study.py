"""Does the verdict tell the truth? Searches and trainings whose truth is known by construction, and what is said.

    OMP_NUM_THREADS=1 python benchmarks/verdict_study.py                     (resumes; about an hour of one slow core)
    OMP_NUM_THREADS=1 python benchmarks/verdict_study.py --half tuning       half of the cases, by a hash of their names
    python benchmarks/verdict_study.py --table                               what is done so far
    python benchmarks/verdict_study.py --only targets/mlp-good --time-limit 300

What is true of a case, by which number, and why that is right: `verdict_models` (trainings), `verdict_targets`
(searches by gradient), `verdict_black_box`. A verdict says one of three things: do not believe, believe with care, can
be believed. Thresholds are set on the tuning half alone; the rates that are told are those of the testing half.

    missed        truth "doubt", and the verdict does not say "do not believe"
    false alarm   truth "believe", and the verdict says "do not believe"
    overpraised   truth "doubt" or "neither", and the verdict says "can be believed"
    grudged       truth "believe", and the verdict does not say "can be believed"

Each case is one line of ``cases.jsonl`` in ``--out``, written when it is done; a rerun skips what is there. Models and
facts that no rule changes lie beside it and are made once: take another ``--results`` after a rule was changed.
"""

import argparse
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binomtest
from verdict_black_box import QUESTS, quested
from verdict_models import NOTHING, SOMETHING, TRAININGS, remembered, told_apart, trained
from verdict_targets import HUNTS, Truth, hunted

from lso.analysis.black_box_summary import BlackBoxSummary
from lso.analysis.black_box_verdict import BLACK_BOX_RULES
from lso.analysis.summary import SearchSummary
from lso.analysis.verdict import SEARCH_RULES
from lso.reports.training_verdict import training_verdict
from lso.vae.metrics.collapse import LATENTS
from lso.vae.metrics.verdict import ErrorRates, Rule

HALVES = ("tuning", "testing")
# First part of a case's name -> the rules that judge it.
TABLES: Mapping[str, Sequence[Rule[Any]]] = {
    "training": [LATENTS],
    "targets": SEARCH_RULES,
    "black-box": BLACK_BOX_RULES,
}
WORDS = {"doubt": "doubt", "care": "care", "fine": "believe"}


def half_of(name: str) -> str:
    """The half of a case, by its name alone.

    Args:
        name: of the case.
    Returns:
        ``"tuning"`` or ``"testing"``.
    """
    return HALVES[hashlib.sha256(name.encode()).digest()[0] % 2]


# --- cases ------------------------------------------------------------------------------------------------------------


def judged(summary: SearchSummary | BlackBoxSummary, truth: Truth) -> dict[str, Any]:
    """The record of a search.

    Args:
        summary: with the verdict.
        truth: of it.
    Returns:
        What is written down.
    """
    verdict = summary.verdict
    return {
        "truth": truth.says,
        "why": truth.why,
        "each": truth.each,
        "numbers": truth.numbers,
        "said": WORDS[verdict.level],
        "sentence": verdict.sentence,
        "checks": {check.name: check.level for check in verdict.checks},
        "found": {check.name: check.found for check in verdict.checks},
        "flagged": flagged(summary),
    }


def flagged(summary: SearchSummary | BlackBoxSummary) -> list[bool]:
    """Which targets the verdict names one by one.

    Args:
        summary: of a search.
    Returns:
        One a target; empty where there are none.
    """
    found = getattr(summary, "reproduction", None)
    return [] if found is None else found.missed.tolist()


def training_case(name: str, out: Path) -> dict[str, Any]:
    """The record of a training: whether its verdict of collapse is right.

    Args:
        name: row of `TRAININGS`.
        out: of the study.
    Returns:
        What is written down.
    """
    run = trained(name, out)
    nats = float(remembered("apart", name, out, lambda run: {"apart": told_apart(run)})["apart"])
    told = training_verdict(name, run.info, run.metrics(), run.config.architecture.latent_dim)
    return {
        "truth": "doubt" if nats < NOTHING else "believe" if nats > SOMETHING else "neither",
        "why": f"codes tell data apart by {nats:.2f} nats",
        "each": [],
        "numbers": {"apart": nats},
        "said": WORDS[told.level],
        "sentence": told.sentence,
        "checks": {LATENTS.name: told.level},
        "found": {LATENTS.name: told.sentence},
        "flagged": [],
    }


CASES: dict[str, Callable[[Path], dict[str, Any]]] = {
    **{f"training/{name}": (lambda out, name=name: training_case(name, out)) for name in TRAININGS},
    **{name: (lambda out, hunt=hunt: judged(*hunted(hunt, out))) for name, hunt in HUNTS.items()},
    **{n: (lambda out, name=n, quest=quest: judged(*quested(name, quest, out))) for n, quest in QUESTS.items()},
}


def records(path: Path) -> dict[str, dict[str, Any]]:
    """What is done.

    Args:
        path: of the lines.
    Returns:
        Case -> its record; a line that was cut off in writing is left out.
    """
    found = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[record["case"]] = record
    return found


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Write a line, after a line break where the last one was cut off.

    Args:
        path: of the lines.
        record: of a case.
    """
    whole = not path.exists() or path.read_bytes()[-1:] in (b"\n", b"")
    with path.open("a") as file:
        file.write("\n" * (not whole) + json.dumps(record) + "\n")


def carry_out(names: Sequence[str], out: Path, results: Path, seconds: float) -> None:
    """Do the cases that are not done.

    Args:
        names: of them.
        out: of the study, for models and facts.
        results: the file of lines.
        seconds: after which no other case is begun.
    """
    torch.set_num_threads(1)
    done, begun = records(results), time.monotonic()
    results.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name in done:
            continue
        if time.monotonic() - begun > seconds:
            print(f"time limit: {sum(other not in records(results) for other in names)} cases are left")
            return
        started = time.process_time()
        record = CASES[name](out)
        record |= {"case": name, "half": half_of(name), "seconds": round(time.process_time() - started, 1)}
        append(results, record)
        print(f"{name}: is {record['truth']}, said {record['said']} ({record['seconds']} s)", flush=True)


# --- rates ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Errors among cases, with the exact interval of Clopper and Pearson.

    Args:
        errors: how many erred.
        cases: of so many.
    """

    errors: int
    cases: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % limits of the share; (0, 1) of no case."""
        if not self.cases:
            return 0.0, 1.0
        found = binomtest(self.errors, self.cases).proportion_ci(0.95, method="exact")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        if not self.cases:
            return "no case"
        low, high = self.interval
        share = self.errors / self.cases
        return f"{self.errors} of {self.cases} = {100 * share:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def rates(done: Iterable[Mapping[str, Any]]) -> dict[str, Rate]:
    """The four errors of a verdict over some cases, and of its flags on single targets.

    Args:
        done: records.
    Returns:
        Error -> its rate.
    """
    done = list(done)
    bad, good = ([r for r in done if r["truth"] == word] for word in ("doubt", "believe"))
    unsure = [r for r in done if r["truth"] != "believe"]
    pairs = [pair for r in done if r["flagged"] and r["each"] for pair in zip(r["each"], r["flagged"], strict=True)]
    return {
        "missed": Rate(errors=sum(r["said"] != "doubt" for r in bad), cases=len(bad)),
        "false alarm": Rate(errors=sum(r["said"] == "doubt" for r in good), cases=len(good)),
        "overpraised": Rate(errors=sum(r["said"] == "believe" for r in unsure), cases=len(unsure)),
        "grudged": Rate(errors=sum(r["said"] != "believe" for r in good), cases=len(good)),
        "target not flagged": Rate(
            errors=sum(not flag for true, flag in pairs if true is False),
            cases=sum(true is False for true, _ in pairs),
        ),
        "target flagged wrongly": Rate(
            errors=sum(flag for true, flag in pairs if true is True), cases=sum(true is True for true, _ in pairs)
        ),
    }


def of_half(done: Mapping[str, Mapping[str, Any]], half: str) -> dict[str, Mapping[str, Any]]:
    """The cases of one half.

    Args:
        done: case -> record.
        half: one of `HALVES`.
    Returns:
        Of them alone.
    """
    return {name: record for name, record in done.items() if record["half"] == half}


def table(done: Mapping[str, Mapping[str, Any]]) -> str:
    """The rates by half and by kind of case.

    Args:
        done: case -> record.
    Returns:
        A table in Markdown.
    """
    kinds = {"searches": ("targets/", "black-box/"), "by gradient": ("targets/",), "black box": ("black-box/",)}
    kinds |= {"trainings": ("training/",)}
    columns = list(rates([]))
    lines = ["| half | cases | " + " | ".join(columns) + " |", "| --- |" * 1 + " --- |" * (len(columns) + 1)]
    for half in HALVES:
        for kind, starts in kinds.items():
            chosen = [r for name, r in of_half(done, half).items() if name.startswith(starts)]
            found = rates(chosen)
            lines.append(f"| {half} | {kind}, {len(chosen)} | " + " | ".join(map(str, found.values())) + " |")
    return "\n".join(lines)


def rates_of(done: Iterable[Mapping[str, Any]], rule: str) -> ErrorRates:
    """What one rule said of cases whose truth is known, in the form in which its row holds it.

    Args:
        done: records.
        rule: name of the row.
    Returns:
        Over the cases to which the rule applied.
    """
    said = Counter((record["truth"], record["checks"][rule]) for record in done if rule in record["checks"])
    unsound, sound = (sum(n for (truth, _), n in said.items() if truth == word) for word in ("doubt", "believe"))
    return ErrorRates(
        unsound=unsound,
        doubted=said["doubt", "doubt"],
        sound=sound,
        false_doubts=said["believe", "doubt"],
        false_cares=said["believe", "care"],
    )


def by_rule(done: Mapping[str, Mapping[str, Any]]) -> str:
    """The rates of each row of the tables of rules, and those that the row states (of the testing half).

    Args:
        done: case -> record.
    Returns:
        A table in Markdown.
    """
    columns = ("rule", "doubted, of unsound", "doubted, of sound", "care, of sound", "its row says")
    lines = [f"| {' | '.join(columns)} |", "| --- |" + " --- |" * (len(columns) - 1)]
    for kind, rules in TABLES.items():
        chosen = [record for name, record in done.items() if name.startswith(f"{kind}/")]
        for rule in rules:
            stated = ", ".join(cells(rule.rates)) or "not studied"
            found = [f"{kind}: {rule.name}", *cells(rates_of(chosen, rule.name)), stated]
            lines.append(f"| {' | '.join(found)} |")
    return "\n".join(lines)


def cells(rates: ErrorRates | None) -> list[str]:
    """Rates as text: doubted of unsound, doubted of sound, care of sound.

    Args:
        rates: of a rule; None where it was not studied.
    Returns:
        Three cells; none where it was not studied.
    """
    if rates is None:
        return []
    counts = ((rates.doubted, rates.unsound), (rates.false_doubts, rates.sound), (rates.false_cares, rates.sound))
    return [f"{count} of {cases}" for count, cases in counts]


def wrong(done: Mapping[str, Mapping[str, Any]]) -> str:
    """The cases in which a verdict erred, one a line; grudging is none here.

    Args:
        done: case -> record.
    Returns:
        A line each.
    """
    lines = []
    for name, record in sorted(done.items()):
        both = record["truth"], record["said"]
        erred = both in (("believe", "doubt"), ("neither", "believe")) or (both[0] == "doubt" and both[1] != "doubt")
        if erred:
            loud = [check for check, level in record["checks"].items() if level == "doubt"]
            lines.append(f"{name}: is {both[0]} ({record['why']}), said {both[1]} {', '.join(loud)}".rstrip())
    return "\n".join(lines)


def main() -> None:
    """Carry out, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/verdict-study"))
    parser.add_argument("--results", type=Path, help="file of lines; cases.jsonl in --out")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--half", choices=HALVES)
    parser.add_argument("--time-limit", type=float, default=float("inf"), help="seconds after which no case is begun")
    parser.add_argument("--table", action="store_true", help="print what is done")
    parser.add_argument("--wrong", choices=HALVES, help="print the cases of a half in which the verdict erred")
    options = parser.parse_args()
    results = options.results or options.out / "cases.jsonl"
    names = [name for name in CASES if options.only in name and options.half in (None, half_of(name))]
    names.sort(key=lambda name: HALVES.index(half_of(name)))  # tuning first
    if not options.table and not options.wrong:
        carry_out(names, options.out, results, options.time_limit)
    done = {name: record for name, record in records(results).items() if name in names}
    if options.wrong:
        print(wrong(of_half(done, options.wrong)))
    if options.table:
        print(table(done))
        for half in HALVES:
            print(f"\n{half}\n\n{by_rule(of_half(done, half))}")


if __name__ == "__main__":
    main()

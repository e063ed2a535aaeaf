"""Tables of a report on a gradient search, section by section."""

import torch

from lso.analysis.convergence import finite_median
from lso.analysis.plausibility import share_true
from lso.analysis.reproduction import MIN_SHARE
from lso.analysis.start_sensitivity import PairDistances, Sensitivity
from lso.analysis.summary import SearchSummary, median_row
from lso.reports.tables import MISSING, Table, number, percent


def final_values_table(summary: SearchSummary) -> Table:
    """Start, best, median and worst end of each target."""
    steps, starts = summary.convergence, summary.sensitivity
    names = list(summary.result.start_names)
    rows = [
        [
            f"{t}: {name}" if name != f"target {t}" else name,
            number(float(steps.value0[t])),
            number(float(steps.best[t])),
            names[int(steps.best_start[t])],
            number(float(steps.median[t])),
            number(float(steps.worst[t])),
            number(float(starts.spread[t])),
            percent(float(starts.relative_spread[t])),
            number(int(starts.basins[t])),
            number(float(finite_median(steps.steps[t]))),
        ]
        for t, name in enumerate(summary.target_names)
    ]
    columns = [
        "target",
        "start (median)",
        "best",
        "from",
        "median",
        "worst",
        "spread",
        "of gain",
        "basins",
        "steps (median)",
    ]
    note = "Spread: worst minus best final value of a target's starts. Gain: from its median start to its best end."
    return Table(columns=columns, rows=rows, title="Final values", note=note, fold=len(rows) > 12)


def targets(summary: SearchSummary) -> Table | None:
    """How well each target is reproduced; those that are not come first."""
    found = summary.reproduction
    if found is None:
        return None
    missed, inverted = found.missed.tolist(), found.missed & False if found.inverted is None else found.inverted
    rows = [
        [
            summary.target_names[t],
            "not reproduced" if missed[t] else "reproduced",
            percent(max(0.0, float(found.share[t]))),
            *([] if found.shape is None else [percent(max(0.0, float(found.shape[t])))]),
            *([] if found.nats is None else [number(float(found.nats[t]))]),
            "reproduced if inverted (1 - x): opposite polarity" if bool(inverted[t]) else "",
        ]
        for t in sorted(range(len(missed)), key=lambda t: not missed[t])  # stable
    ]
    cost = "" if found.bound is None else f" and -log p(target | code) is at most {number(found.bound, 3)} nats"
    note = (
        f"A target is reproduced if at least {percent(MIN_SHARE)} of it is{cost} (the rule of the check fit). The "
        "share is of what distinguishes the target from decoded prior draws, which know nothing of it."
    )
    shape = [] if found.shape is None else ["against its mean colour"]
    columns = ["target", "", "share reproduced", *shape, *([] if found.nats is None else ["nats"]), ""]
    fold = len(rows) > 12 and not any(missed)
    return Table(columns=columns, rows=rows, title="Each target", note=note, fold=fold, marked=range(sum(missed)))


def reproduction(summary: SearchSummary) -> Table | None:
    """Each target that is a sequence, beside what its best end decodes to."""
    found = summary.texts
    if found is None:
        return None
    value = summary.convergence.best
    rows = [
        [
            summary.target_names[t],
            found.target[t],
            found.best[t],
            number(int(found.edits[t])),
            number(int(found.tokens[t])),
            number(float(value[t])),
        ]
        for t in range(len(found.target))
    ]
    note = (
        f"{int(found.exact.sum())} of {len(rows)} are reproduced token for token. Edits: tokens to insert, delete or "
        "replace in what the best code decodes to. The value is that of the target itself, given the code."
    )
    columns = ["name", "target", "decoded from the best code", "edits", "tokens", "value"]
    return Table(columns=columns, rows=rows, title="Reproduction", note=note, fold=True)


def thresholds_table(summary: SearchSummary) -> Table:
    """Steps until each share of the gain was reached."""
    steps = summary.convergence
    rows = []
    for level, reached in zip(steps.thresholds, steps.steps_to, strict=True):
        good = reached[torch.isfinite(reached)]
        quartiles = [float(torch.quantile(good, q)) if len(good) else None for q in (0.1, 0.5, 0.9)]
        rows.append(
            [f"{100 * level:g} % of the gain", percent(share_true(torch.isfinite(reached))), *map(number, quartiles)]
        )
    note = (
        "The gain of a target is from the value at its median start to the best end over its starts, so that every "
        "start is held to one level. Steps are known to the resolution at which values were recorded "
        f"({_resolution(summary)} steps)."
    )
    columns = ["threshold", "reached by", "steps: 10 %", "median", "90 %"]
    return Table(columns=columns, rows=rows, title="Steps to each threshold", note=note)


def _resolution(summary: SearchSummary) -> int:
    at = summary.convergence.trace_steps
    return int((at[1:] - at[:-1]).max()) if len(at) > 1 else 1


REASONS = {
    "tolerance": "the tolerance was met",
    "max_steps": "the step limit was reached",
    "not_finite": "a value or gradient was not finite",
    "line_search": "no lower loss along the gradient (line search)",
    "stopped": "the search was stopped from outside",
}


def stopped(summary: SearchSummary) -> Table:
    """Why elements stopped."""
    found, total = summary.convergence.stopped, summary.convergence.failed.numel()
    rows = [[REASONS.get(reason, reason), number(n), percent(n / total)] for reason, n in found.items()]
    moving = int(summary.convergence.moving.sum())
    rows.append(["still gaining when it stopped (any reason)", number(moving), percent(moving / total)])
    note = (
        "Still gaining: the last tenth of its steps brought over 1 % of its own gain and of the median on its target."
    )
    return Table(columns=["reason", "searches", "share"], rows=rows, title="Why each stopped", note=note)


def by_kind(summary: SearchSummary) -> Table:
    """What starts of each kind reached."""
    kinds = summary.convergence.kinds
    rows = [
        [
            k.name,
            number(k.starts),
            *(number(x) for x in (k.value0, k.value)),
            percent(k.gap),
            number(k.steps),
            percent(k.wins),
        ]
        for k in kinds
    ]
    columns = ["kind of start", "starts", "value at start", "value at end", "gain left", "steps", "targets won"]
    note = (
        "Medians over targets and starts. Gain left: share of its target's gain that an end misses. Targets "
        "won: share of targets whose best end is of this kind."
    )
    return Table(columns=columns, rows=rows, title="By kind of start", note=note)


def distances_table(summary: SearchSummary) -> Table:
    """Distances between the ends of a target's starts, split into active and other dimensions."""
    found, active = summary.sensitivity, int(summary.dimensions.active.sum())
    other = len(summary.dimensions.sensitivity) - active
    rows = [_pairs(p.name, p) for p in found.pairs]
    if summary.control is not None:
        rows.append(_pairs(f"all pairs, control ({summary.control.optimizer})", summary.control.pairs[0]))
    baseline = [found.baseline_active + found.baseline_other, found.baseline_active, found.baseline_other]
    rows.append(
        ["baseline: two independent prior draws", MISSING, *map(number, baseline), number(summary.reference.scale)]
    )
    columns = [
        "pairs of starts",
        "pairs",
        "code: all dims",
        f"{active} active",
        f"{other} weak and dead",
        f"decoded ({found.unit})",
    ]
    note = (
        "Medians. Code distances are squared and summed over dimensions; the baseline is 2 for each dimension. Only "
        "the active part says whether starts found the same code: under Adam, dimensions that the decoder all but "
        "ignores still move by about the learning rate a step. Starts share a basin if single linkage joins their "
        f"decoded results at {number(found.tolerance)} {found.unit} (10 % of the distance between two decoded prior "
        "draws)."
    )
    return Table(columns=columns, rows=rows, title="Distance between what the starts found", note=note)


def _pairs(name: str, found: PairDistances) -> list[str]:
    return [name, number(found.pairs), *map(number, (found.total, found.active, found.other, found.decoded))]


def control(summary: SearchSummary) -> Table | None:
    """The search beside the same search by the control optimizer."""
    if summary.control is None:
        return None
    columns = ["optimizer", "best", "all starts", "spread", "of gain", "targets with several basins"]
    rows = [_search_row(found) for found in (summary.sensitivity, summary.control)]
    note = (
        "The same targets and starts with another optimizer: what both show belongs to the landscape, the "
        "rest to one of them."
    )
    return Table(columns=columns, rows=rows, title="Control", note=note + " Medians over targets.")


def _search_row(found: Sensitivity) -> list[str]:
    spread = [number(float(finite_median(found.spread))), percent(float(finite_median(found.relative_spread)))]
    return [found.optimizer, number(found.best), number(found.value), *spread, percent(share_true(found.basins > 1))]


PLAUSIBILITY_COLUMNS = {
    "norm": "norm",
    "percentile": "percentile",
    "norm_active": "norm, active",
    "percentile_active": "percentile, active",
    "mahalanobis": "Mahalanobis",
    "mahalanobis_active": "Mahalanobis, active",
    "reencoding": "re-encoding error",
    "reencoding_active": "re-encoding, active",
    "at_bound": "at a bound",
    "atypical": "atypical",
}


def plausibility_table(summary: SearchSummary) -> Table:
    """Plausibility of starts, ends, best and best typical ends beside that of prior draws."""
    sets = {
        "prior draws (for comparison)": summary.reference.plausibility,
        "starts": summary.starts,
        "ends": summary.ends,
        "best of each target": summary.best,
        "best typical of each target": summary.best_typical,
    }
    found = {name: median_row(value) for name, value in sets.items()}
    keys = [key for key in PLAUSIBILITY_COLUMNS if any(row[key] is not None for row in found.values())]
    rows = [[name, *(_format_plausibility(key, row[key]) for key in keys)] for name, row in found.items()]
    note = (
        "Medians; at a bound and atypical are means. Percentile: of the norm among prior draws, whose norms follow "
        "chi(d). Mahalanobis: against the codes of the validation data. Re-encoding error: mean over dimensions of the "
        "squared difference between a code and the mean code of what it decodes to. At a bound: share of coordinates "
        "at or beyond the box. Atypical: norm over active dimensions above the 99.9 % point of chi, or farther from "
        "the codes than each of the codes themselves. A small norm is no fault: the most probable codes have it."
    )
    return Table(columns=["codes", *(PLAUSIBILITY_COLUMNS[key] for key in keys)], rows=rows, note=note)


def _format_plausibility(key: str, value: float | None) -> str:
    return percent(value) if key.startswith(("percentile", "at_bound", "atypical")) else number(value, 3)


def best_and_typical(summary: SearchSummary) -> Table:
    """How much value a typical code costs, for each target whose best and best typical end differ."""
    value = summary.result.value.detach().double().cpu()
    best, typical = value[summary.best_index], value[summary.best_typical_index]
    rows = [
        [
            summary.target_names[t],
            *(number(float(x[t])) for x in (best, typical)),
            percent(float(summary.best.percentile_active[t])),
            percent(float(summary.best_typical.percentile_active[t])),
            "no typical end" if bool(summary.best_typical.atypical[t]) else "",
        ]
        for t in range(len(value))
        if summary.best_index[1][t] != summary.best_typical_index[1][t] or bool(summary.best_typical.atypical[t])
    ]
    columns = ["target", "best", "best typical", "percentile of best", "of best typical", ""]
    note = "The best end is typical on every target." if not rows else "On targets not listed the best end is typical."
    return Table(columns=columns, rows=rows, title="Best against best typical", note=note, fold=len(rows) > 12)


def counters(summary: SearchSummary) -> Table:
    """Numbers of decoder calls by what they came to."""
    rows = [[str(key).replace("_", " "), number(value)] for key, value in summary.counters.items()]
    return Table(columns=["counter", "count"], rows=rows, title="")

"""Parts that reports on several kinds of search have in common: checks, activity of dimensions, best objects."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from lso.analysis.latent_dimensions import WEAK_BELOW, Dimensions
from lso.analysis.verdict import describe_inactive
from lso.reports.report import Card, Section, TextLine, Tile
from lso.reports.tables import Table, number
from lso.vae.metrics.verdict import Check, Verdict

STRANGE = " Red frame: the code is atypical."  # said where a tile has one


def check_tables(checks: Sequence[Check]) -> list[Table]:
    """What each check of a verdict found, and the rules in words."""
    found = [[check.name, check.level, check.found] for check in checks]
    rules = [[check.name, check.rule] for check in checks]
    return [
        Table(columns=["check", "level", "found"], rows=found, title="What the verdict rests on"),
        Table(columns=["check", "rule"], rows=rules, title="The rules", fold=True),
    ]


def whether_to_believe(verdict: Verdict) -> Section:
    """What each check of the verdict found, and its rule."""
    return Section("Whether to believe it", check_tables(verdict.checks))


def active_card(dimensions: Dimensions, mutual_information: float | None) -> Card:
    """How many dimensions the decoder and the encoder use, and what the codes carry."""
    units = "" if dimensions.active_units is None else f"encoder (AU): {dimensions.active_units}"
    known = "" if mutual_information is None else f"MI {number(mutual_information, 3)} nats"
    active = f"{int(dimensions.active.sum())} of {len(dimensions.sensitivity)}"
    return Card("active dimensions", active, ", ".join(filter(None, (units, known))))


def activity_table(dimensions: Dimensions, further: Mapping[str, Tensor | None], fold: bool = True) -> Table:
    """Every measure of activity that is known, one row a dimension, by falling sensitivity; ``further`` ones last."""
    measures: dict[str, Tensor | None] = {
        dimensions.measure: dimensions.jacobian_norm,
        "squared effect / largest": dimensions.relative,
        "decoder use (nats)": dimensions.decoder_use,
        "KL (nats)": dimensions.kl,
        "variance of means": dimensions.variance,
        "change when redrawn": dimensions.redraw,
        "re-encoding correlation": dimensions.correlation,
        **further,
    }
    known = {name: value for name, value in measures.items() if value is not None and bool(value.isfinite().any())}
    rows = [
        [f"z{i}", dimensions.status(i), *(number(float(value[i]), 3) for value in known.values())]
        for i in dimensions.order
    ]
    return Table(columns=["dimension", "status", *known], rows=rows, title="Each dimension", fold=fold)


def activity_sentence(dimensions: Dimensions, mutual_information: float | None) -> str:
    """Which dimensions are dead or weak, and what the codes carry."""
    parts = [describe_inactive(dimensions)]
    if dimensions.active_units is not None:
        units = "Active units of the encoder (AU, variance of posterior means of at least 0.01)"
        parts.append(f"{units}: {dimensions.active_units}.")
    if mutual_information is not None:
        shared = f"{number(mutual_information, 3)} nats of mutual information (MI, over the validation split)"
        parts.append(f"Data and codes share {shared}.")
    return " ".join(parts)


def activity_rule(dimensions: Dimensions) -> str:
    """How the dimensions were told apart."""
    return (
        f"Sensitivity is the mean {dimensions.how}. A dimension is dead if its sensitivity is exactly 0, weak if it is "
        f"under {100 * WEAK_BELOW:.0f} % of the largest ({100 * WEAK_BELOW**0.5:.0f} % in norm), else active. "
        "Dimensions count from z0."
    )


def ranked_tile(image: Tensor, rank: int, value: float | None, small: str, typical: bool) -> Tile:
    """One of the best objects as a picture; a red frame and a word where its code is atypical."""
    shown = number(value)
    small += "" if typical else ", atypical"
    return Tile(image=image, alt=f"rank {rank}, value {shown}", value=shown, small=small, strange=not typical)


def ranked_text(rank: int, value: float | None, text: str | None, remark: str) -> TextLine:
    """One of the best objects as a text."""
    return TextLine(what=str(rank), value=number(value), pieces=[(text or "", False)], remark=remark)

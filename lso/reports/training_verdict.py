"""The verdict on a training, from its run.json and its metrics: a row of `TRAINING_RULES` is one rule."""

from collections.abc import Mapping, Sequence
from typing import Any

from lso.reports.report import VerdictBox
from lso.reports.tables import number
from lso.vae.metrics.collapse import COLLAPSED_SHARE, LATENTS, read
from lso.vae.metrics.verdict import CARE_IF, Case, Facts, Rule, judge


def _facts_of(info: Mapping[str, Any], best: Mapping[str, Any], latent_dim: int) -> Facts:
    use, elbo, status = read(info), number(best["neg_elbo"]), str(info.get("status", ""))
    # Older run folders do not say whether a training ended within its warm-up; few active units suggest that it did.
    early = not info["judged"] if "judged" in info else best["active_units"] < COLLAPSED_SHARE * latent_dim
    information = number(best.get("mi_split", best.get("mi", best.get("mi_mixed"))), 3)
    carried = use.told() if use else f"MI {information} nats, {best['active_units']} active units"
    return {
        "baseline": not latent_dim,
        "collapse": str(info.get("verdict", "")),
        "early": early,
        "ended_early": early and status == "finished",
        "little": use is not None and use.scanty,
        "unfinished": status != "finished",
        "numbers": f"{carried}, -ELBO {elbo} nats.",
        "neg_elbo": elbo,
        "status": status or "unknown",
        "reason": info.get("sentence") or "no reason given",
    }


TRAINING_RULES: Sequence[Rule[Facts]] = (
    Rule(
        name="latents",
        cases={
            "baseline": Case(level="fine", found="Without latents the likelihood is exact: {neg_elbo} nats."),
            "collapse": Case(level="doubt", found="{collapse}"),
            "ended_early": Case(level="care", found="Training ended before its warm-up did: {numbers}"),
            "little": Case(level="care", found="The latents are little in use: {numbers}"),
            "early": Case(level="care", found="So far: {numbers}"),
            "unfinished": Case(level="fine", found="So far: {numbers}"),
        },
        found="The latents are in use: {numbers}",
        rule="doubt if the training reported that its latents are not in use; care if it ended within its warm-up, or "
        "if its codes carry little",
        rates=LATENTS.rates,
    ),
    Rule(
        name="end",
        limits={"unfinished": CARE_IF},
        found="[unfinished?The run is not finished ({status}): {reason}.]",
        rule="care if the run is not finished",
    ),
)


def training_verdict(
    name: str, info: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], latent_dim: int
) -> VerdictBox:
    """The verdict on a training: that of the run on collapse, with what was measured.

    A training that ended within its warm-up has no verdict of its own on collapse; that does not mean that all is well.
    """
    best = next((row for row in reversed(rows) if row.get("best")), rows[-1])
    facts = _facts_of(info, best, latent_dim)
    verdict, early = judge(TRAINING_RULES, facts), facts["early"]
    state = "not finished" if facts["unfinished"] else "too early to tell" if early else "little in use"
    words = {"doubt": "✗ not learnt yet" if early else "✗ collapsed", "care": f"! {state}", "fine": "✓ no collapse"}
    word = words[verdict.level] if latent_dim else "baseline"
    sentence = " ".join(check.found for check in verdict.checks if check.found)
    return VerdictBox(level=verdict.level, word=f"{word} · {name}", sentence=sentence)
